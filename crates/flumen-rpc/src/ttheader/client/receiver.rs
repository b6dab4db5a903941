use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flumen_stream::Alarm;
use flumen_wire::client::ErrorKind;
use tokio::time::Instant;

use super::link::{Link, State};
use crate::{
    Cancel, Code, Metadata, Status,
    exchange::over,
    ttheader::{
        Error, Frame, Kind, code,
        codec::{Incoming, Received},
        ending,
        frame::Allowed,
        strings,
    },
};

/// The receiving half of a client's stream. It reads from the connection itself, and writes what the sender has left.
#[derive(Debug)]
pub(crate) struct Receiver {
    link: Arc<Link>,
    incoming: Incoming,
    deadline: Option<Alarm>,
    header: Metadata,
    begun: bool,
    trailer: Metadata,
    /// Whether anything has come.
    answered: bool,
    ended: bool,
}

/// What came, or an end of the stream, good or not.
type Message = Option<Result<Bytes, Status>>;

impl Receiver {
    pub(super) fn new(link: Arc<Link>, deadline: Option<Instant>, allowed: Allowed) -> Self {
        Self {
            link,
            incoming: Incoming::new(allowed),
            deadline: deadline.map(Alarm::at),
            header: Metadata::default(),
            begun: false,
            trailer: Metadata::default(),
            answered: false,
            ended: false,
        }
    }

    pub(crate) fn header(&self) -> &Metadata {
        &self.header
    }

    pub(crate) fn trailer(&self) -> &Metadata {
        &self.trailer
    }

    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Message> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = ready!(self.poll_next(cx));
        self.ended = !matches!(message, Some(Ok(_)));
        Poll::Ready(message)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Message> {
        if let Poll::Ready(status) = self.poll_deadline(cx) {
            return Poll::Ready(Some(Err(status)));
        }
        loop {
            let received = match self.incoming.next(&mut &[][..]) {
                Ok(None) => ready!(self.poll_receive(cx)),
                taken => taken.map_err(|error| self.illegal(&error)),
            };
            match received {
                Ok(None) => {}
                Ok(Some(received)) => {
                    if let Some(message) = self.take(received) {
                        return Poll::Ready(message);
                    }
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }

    /// Receives once, and takes the first frame if it is all there.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Received>, Status>> {
        let mut state = self.link.lock();
        state.check()?;
        if !state.sender_writes && !state.out.is_empty() {
            // If that fails, what the peer has to say about it is still to be read.
            let _ = state.poll_write(cx);
        }
        state.park_receiver(cx);
        let State { io: Some(io), .. } = &mut *state else { return Poll::Ready(Err(over())) };
        let incoming = &mut self.incoming;
        let received = ready!(io.poll_receive(cx, |fresh| {
            let (came, mut rest) = (!fresh.is_empty(), &*fresh);
            let taken = incoming.next(&mut rest);
            incoming.keep(rest);
            came.then_some(taken)
        }));
        drop(state);
        match received {
            Ok(Some(taken)) => {
                self.answered = true;
                Poll::Ready(taken.map_err(|error| self.illegal(&error)))
            }
            Ok(None) | Err(_) => Poll::Ready(Err(self.lost())),
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.poll(cx));
        let cancel = Cancel { wire: Some(code::DEADLINE), ..Cancel::because("the deadline has passed") };
        self.link.break_off(&cancel, ending::deadline());
        Poll::Ready(ending::deadline())
    }

    /// What a frame means; `None` if nothing to the reader.
    fn take(&mut self, received: Received) -> Option<Message> {
        let id = self.link.about.id;
        match received {
            Received::Data { id: of, payload } => (of == id).then_some(Some(Ok(payload))),
            // Of a stream that is over.
            Received::Frame(frame) if frame.id != id => None,
            Received::Frame(frame) => self.take_frame(&frame),
            Received::Framed(_) => {
                Some(Some(Err(self.illegal(&Error::Unexpected("not a frame of a stream")))))
            }
        }
    }

    fn take_frame(&mut self, frame: &Frame) -> Option<Message> {
        match frame.kind() {
            Some(Kind::Meta | Kind::Data) => None,
            Some(Kind::Header) if !self.begun => {
                self.begun = true;
                self.header = strings::metadata(&frame.info);
                None
            }
            Some(Kind::Header) => {
                let status = Status::protocol("a second header").with_wire(code::UNEXPECTED_HEADER);
                self.break_off(&status);
                Some(Some(Err(status)))
            }
            Some(Kind::Trailer) => Some(match ending::read_trailer(frame) {
                Ok(metadata) => {
                    self.trailer = metadata;
                    self.link.finish(None, self.incoming.is_empty());
                    None
                }
                Err(status) => {
                    self.link.finish(Some(status.clone()), self.incoming.is_empty());
                    Some(Err(status))
                }
            }),
            Some(Kind::Reset) => {
                let status = ending::cancelled(ending::read_reset(frame));
                self.link.finish(Some(status.clone()), false);
                Some(Some(Err(status)))
            }
            None => Some(Some(Err(self.illegal(&Error::Unexpected("not a frame of a stream"))))),
        }
    }

    /// The peer has sent what it must not.
    fn illegal(&self, error: &Error) -> Status {
        let status = ending::illegal(error.to_string());
        self.break_off(&status);
        status
    }

    fn break_off(&self, status: &Status) {
        let cancel = Cancel { wire: status.wire, ..Cancel::because(status.message.clone()) };
        self.link.break_off(&cancel, status.clone());
    }

    /// The connection is gone.
    fn lost(&self) -> Status {
        let (kind, message) = if self.link.about.reused && !self.answered {
            (ErrorKind::ClosedBeforeResponse, "the service closed a kept connection")
        } else {
            (ErrorKind::Broken, "the connection to the service was lost")
        };
        let status = Status { connection: Some(kind), ..Status::unavailable(message) };
        let status = status.with_wire(code::CONNECTION_CLOSED);
        self.link.finish(Some(status.clone()), false);
        status
    }

    pub(crate) fn cancel(mut self, cancel: &Cancel) {
        self.give_up(cancel);
    }

    fn give_up(&mut self, cancel: &Cancel) {
        if !std::mem::replace(&mut self.ended, true) {
            let status = Status::new(Code::Cancelled, cancel.reason.clone());
            let status = status.with_wire(cancel.wire.unwrap_or(code::CANCELLED));
            self.link.break_off(cancel, status);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.give_up(&Cancel::default());
    }
}
