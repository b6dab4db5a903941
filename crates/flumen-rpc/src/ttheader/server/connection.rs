use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use flumen_wire::listen::{Shutdown, Signal};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep, timeout},
};

use super::{outbox::Outbox, output::Output, receive::poll_receive, streams::Streams};
use crate::{
    Cancel, Services,
    ttheader::{Error, Limits, code},
};

/// How long a peer has to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection, with one task that reads and writes, and one for each call.
#[derive(Debug)]
pub(super) struct Connection<I> {
    io: I,
    streams: Streams,
    output: Output,
    drain: Signal,
    abort: Signal,
    idle: Pin<Box<Sleep>>,
    /// Something has run since `idle` was set.
    busy: bool,
    idle_for: Duration,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    ByPeer,
    /// Nothing runs any more, and nothing new is taken or has come.
    Done,
    Aborted,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    pub(super) fn new(io: I, services: Arc<Services>, limits: Limits, shutdown: &Shutdown) -> Self {
        let outbox = Arc::new(Outbox::new(limits.answers));
        Self {
            io,
            streams: Streams::new(services, limits, Arc::clone(&outbox)),
            output: Output::new(outbox),
            drain: shutdown.drain_signal(),
            abort: shutdown.abort_signal(),
            idle: Box::pin(sleep(limits.idle)),
            busy: false,
            idle_for: limits.idle,
        }
    }

    /// Reads and writes until the connection ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Closing, Error>> {
        if self.abort.poll(cx).is_ready() {
            return Poll::Ready(Ok(Closing::Aborted));
        }
        if !self.streams.is_draining() && self.drain.poll(cx).is_ready() {
            self.streams.drain();
        }
        loop {
            if self.poll_input(cx)?.is_ready() {
                return Poll::Ready(Ok(Closing::ByPeer));
            }
            // After the input, since a set of tasks that was empty wakes nobody for those that came later.
            self.streams.poll_ended(cx);
            let held = self.streams.is_flooded();
            ready!(self.output.poll(&mut self.io, cx))?;
            self.streams.written();
            if !held {
                return self.poll_idle(cx).map(Ok);
            }
        }
    }

    /// Reads until the end of input.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            ready!(self.streams.poll_room(cx))?;
            let streams = &mut self.streams;
            let more = poll_receive(&mut self.io, cx, |fresh| {
                if fresh.is_empty() {
                    return if streams.is_within_frame() { Err(Error::Truncated) } else { Ok(false) };
                }
                streams.accept(fresh).map(|()| true)
            });
            if !ready!(more)?? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Closing> {
        if !self.streams.is_empty() {
            self.busy = true;
            return Poll::Pending;
        }
        if self.streams.is_draining() {
            return Poll::Ready(Closing::Done);
        }
        if std::mem::take(&mut self.busy) {
            self.output.shrink();
            // Beyond what the clock can tell is the same as never.
            if let Some(until) = Instant::now().checked_add(self.idle_for) {
                self.idle.as_mut().reset(until);
            }
        }
        self.idle.as_mut().poll(cx).map(|()| Closing::Done)
    }

    /// Ends what runs, tells the peer, and closes the connection.
    pub(super) async fn end(mut self: Box<Self>, closing: Result<Closing, Error>) -> Result<(), Error> {
        let (wire, reason) = match &closing {
            Ok(Closing::Aborted | Closing::Done) => (code::CLOSING, "the server is shutting down".to_owned()),
            Ok(Closing::ByPeer) | Err(Error::Io(_) | Error::Truncated) => {
                (code::CONNECTION_CLOSED, "the connection was closed".to_owned())
            }
            Err(error) => (code::ILLEGAL_FRAME, error.to_string()),
        };
        let hears = wire != code::CONNECTION_CLOSED;
        self.streams.end(&Cancel { wire: Some(wire), ..Cancel::because(reason) }, hears);
        if hears {
            let last_words = async {
                poll_fn(|cx| self.output.poll(&mut self.io, cx)).await?;
                self.io.shutdown().await
            };
            // Whoever does not listen now goes without.
            let _ = timeout(LAST_WORDS, last_words).await;
        }
        self.streams.ended().await;
        closing.map(drop)
    }
}
