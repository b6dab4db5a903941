//! All that runs on a connection.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use flumen_stream::{Cause, End, Pressure, Watermarks, Writer, log};
use tokio::task::{AbortHandle, Id, JoinSet};

use super::{
    outbox::Outbox,
    stream::{self, Answers, Message, Requests, Stream},
    unary::{self, Asked},
};
use crate::{
    Call, Cancel, Cancellation, Code, Encoding, In, Inbound, Incoming, Out, Outbound, Services, Status,
    services::Handler,
    ttheader::{
        Error, Frame, Kind, Limits, STREAMING, code,
        codec::{self, Received},
        ending, halves, strings,
    },
};

/// Frames that nobody waits to send may come to so many bytes before nothing is read that could cause more.
const UNASKED: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Streams {
    incoming: codec::Incoming,
    services: Arc<Services>,
    limits: Limits,
    outbox: Arc<Outbox>,
    open: HashMap<i32, Entry>,
    tasks: JoinSet<()>,
    /// What each task is for.
    running: HashMap<Id, Running>,
    /// The stream whose requests nobody takes, for which the connection waits.
    blocked: Option<i32>,
    /// Bytes that were put into the outbox since it was last empty, and that no handler waited for.
    unasked: usize,
    /// No call is taken any more.
    draining: bool,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<Stream>,
    /// `None` once the caller has sent all.
    requests: Option<Writer<Message>>,
    cancellation: Cancellation,
    task: AbortHandle,
}

#[derive(Debug)]
enum Running {
    Stream(i32),
    Unary(Cancellation),
}

impl Streams {
    pub(super) fn new(services: Arc<Services>, limits: Limits, outbox: Arc<Outbox>) -> Self {
        Self {
            incoming: codec::Incoming::new(limits.allowed()),
            services,
            limits,
            outbox,
            open: HashMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            blocked: None,
            unasked: 0,
            draining: false,
        }
    }

    /// Takes no more calls.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether nothing runs.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a frame has come in part.
    pub(super) fn is_within_frame(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Ready when more may be read.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Some(id) = self.blocked {
                let requests = self.open.get_mut(&id).and_then(|entry| entry.requests.as_mut());
                if requests.is_some_and(|requests| requests.poll_ready(cx).is_pending()) {
                    return Poll::Pending;
                }
                self.blocked = None;
            }
            if self.is_flooded() {
                return Poll::Pending;
            }
            if !self.incoming.is_empty() {
                self.accept(&[])?;
            }
            if self.blocked.is_none() && !self.is_flooded() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether nothing is read because of what waits to be written.
    pub(super) fn is_flooded(&self) -> bool {
        self.unasked > UNASKED
    }

    /// The outbox has been emptied.
    pub(super) fn written(&mut self) {
        self.unasked = 0;
    }

    /// Takes what came, as far as there is room for it.
    pub(super) fn accept(&mut self, mut fresh: &[u8]) -> Result<(), Error> {
        while self.blocked.is_none() && !self.is_flooded() {
            let Some(received) = self.incoming.next(&mut fresh)? else { break };
            match received {
                Received::Data { id, payload } => self.data(id, Message(payload)),
                Received::Frame(frame) if frame.flags & STREAMING != 0 => self.frame(&frame),
                Received::Frame(frame) => self.ask(Asked::in_frame(frame)?),
                Received::Framed(message) => self.ask(Asked::framed(message)?),
            }
        }
        self.incoming.keep(fresh);
        Ok(())
    }

    fn data(&mut self, id: i32, message: Message) {
        // What comes for a stream that is over is of no use to anybody.
        let Some(entry) = self.open.get_mut(&id) else { return };
        let Some(requests) = &mut entry.requests else { return };
        requests.push([message]);
        if requests.pressure() == Pressure::Paused {
            self.blocked = Some(id);
        }
    }

    fn frame(&mut self, frame: &Frame) {
        match frame.kind() {
            Some(Kind::Header) => self.begin(frame),
            Some(Kind::Trailer) => self.half_close(frame),
            Some(Kind::Reset) => self.cancel(frame.id, ending::read_reset(frame), false),
            Some(Kind::Meta | Kind::Data) | None => {}
        }
    }

    fn begin(&mut self, frame: &Frame) {
        if self.open.contains_key(&frame.id) {
            let cancel = Cancel { wire: Some(code::UNEXPECTED_HEADER), ..Cancel::because("a second header") };
            return self.cancel(frame.id, cancel, true);
        }
        let stream = Arc::new(Stream::new(frame.id, frame.method().into_owned(), Arc::clone(&self.outbox)));
        let call = Call {
            service: strings::entry(&frame.info, strings::SERVICE).unwrap_or_default(),
            method: frame.method().into_owned(),
            deadline: unary::deadline(&frame.info),
            metadata: strings::metadata(&frame.info),
        };
        match self.handler(&call) {
            Ok(handler) => self.start(stream, handler, call),
            Err(status) => {
                let trailer = ending::trailer(frame.id, &call.method, &Err(status));
                self.unasked += stream.end_now(Some(&trailer));
            }
        }
    }

    /// The handler of a call, if it may run.
    fn handler(&self, call: &Call) -> Result<Handler, Status> {
        if self.draining {
            return Err(Status::unavailable("the server is shutting down").with_wire(code::CLOSING));
        }
        if self.tasks.len() >= self.limits.streams {
            return Err(Status::new(Code::ResourceExhausted, "too many calls on one connection"));
        }
        // Kitex, too, goes by the method alone if need be: not every caller names the service.
        let found = self.services.find(&call.service, &call.method);
        found.or_else(|| self.services.find_method(&call.method)).cloned().ok_or_else(|| {
            if self.services.has(&call.service) {
                Status::new(Code::Unimplemented, format!("unknown method {}", call.method))
                    .with_wire(code::UNKNOWN_METHOD)
            } else {
                Status::new(Code::Unimplemented, format!("unknown service {}", call.service))
                    .with_wire(code::UNKNOWN_SERVICE)
            }
        })
    }

    fn start(&mut self, stream: Arc<Stream>, handler: Handler, call: Call) {
        let (requests, cursor) = log(Watermarks::at(self.limits.requests, self.limits.requests / 2));
        let cancellation = Cancellation::default();
        let requested = Requests { cursor, stream: Arc::clone(&stream), header: call.metadata.clone() };
        let incoming = Incoming {
            call,
            encoding: Encoding::Thrift,
            requests: Inbound(In::TtHeader(halves::Inbound::Server(requested))),
            answers: Outbound(Out::TtHeader(halves::Outbound::Server(Answers(Arc::clone(&stream))))),
            cancellation: cancellation.clone(),
            extensions: http::Extensions::default(),
        };
        let task = self.tasks.spawn(stream::run(Arc::clone(&stream), handler, incoming));
        self.running.insert(task.id(), Running::Stream(stream.id));
        self.open.insert(stream.id, Entry { stream, requests: Some(requests), cancellation, task });
    }

    fn half_close(&mut self, frame: &Frame) {
        let Some(entry) = self.open.get_mut(&frame.id) else { return };
        let Some(requests) = entry.requests.take() else { return };
        match ending::read_trailer(frame) {
            Ok(metadata) => {
                // There is one trailer: the requests are over with it.
                let _ = entry.stream.trailer.set(metadata);
                requests.complete();
            }
            Err(status) => {
                let end = End::new(Cause::UpstreamError, status.message.clone());
                let _ = entry.stream.failure.set(status);
                requests.fail(end);
            }
        }
    }

    /// Ends a stream, and its handler with it. The peer need be told if it was not the peer's wish.
    fn cancel(&mut self, id: i32, cancel: Cancel, tell: bool) {
        let Some(entry) = self.open.remove(&id) else { return };
        self.unasked += if tell { entry.stream.reset(&cancel) } else { entry.stream.end_now(None) };
        let _ = entry.stream.failure.set(ending::cancelled(cancel.clone()));
        entry.cancellation.cancel(cancel);
        entry.task.abort();
    }

    /// Runs a unary call.
    fn ask(&mut self, asked: Asked) {
        match self.handler(&asked.call) {
            Ok(handler) => {
                let cancellation = Cancellation::default();
                let call = unary::run(asked, handler, cancellation.clone(), Arc::clone(&self.outbox));
                let task = self.tasks.spawn(call);
                self.running.insert(task.id(), Running::Unary(cancellation));
            }
            Err(status) => self.unasked += asked.envelope().refuse(&status, &self.outbox),
        }
    }

    /// Forgets what has ended.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next_with_id(cx) {
            let task = ended.map_or_else(|error| error.id(), |(task, ())| task);
            let Some(Running::Stream(id)) = self.running.remove(&task) else { continue };
            // Another stream may have taken the number of one that was reset.
            if self.open.get(&id).is_some_and(|entry| entry.task.id() == task) {
                self.open.remove(&id);
            }
        }
    }

    /// Ends everything, for one reason. The peer is told if it can still hear.
    pub(super) fn end(&mut self, cancel: &Cancel, tell: bool) {
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            self.cancel(id, cancel.clone(), tell);
        }
        for (_, running) in self.running.drain() {
            if let Running::Unary(cancellation) = running {
                cancellation.cancel(cancel.clone());
            }
        }
        self.tasks.abort_all();
        self.outbox.close();
    }

    /// Waits until no handler is left.
    pub(super) async fn ended(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let closed = Cancel::because("the connection was closed");
        self.end(&Cancel { wire: Some(code::CONNECTION_CLOSED), ..closed }, false);
    }
}
