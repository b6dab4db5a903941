//! One stream: what its handler and the connection share.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flumen_stream::{Cursor, Frame as Sized, Pressure};
use futures_util::{FutureExt, Stream as _};
use tokio::time::{Instant, timeout_at};

use super::{NAME, outbox::Outbox};
use crate::{
    Cancel, Cancellation, Code, Incoming, Metadata, Status,
    exchange::over,
    services::Handler,
    ttheader::{
        Frame, Kind, code, ending,
        frame::{LARGEST, Template},
        halves::EMPTY,
    },
};

/// A request that waits for its handler. It counts for what it holds, so that empty ones have an end too.
#[derive(Clone, Debug)]
pub(super) struct Message(pub(super) Bytes);

impl Sized for Message {
    fn size(&self) -> usize {
        self.0.len() + 64
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: i32,
    method: String,
    template: Template,
    outbox: Arc<Outbox>,
    /// The answer's header has been sent. This and `over` change only while the outbox is locked.
    begun: AtomicBool,
    /// Nothing may be sent any more.
    over: AtomicBool,
    /// Why the requests ended, if not well.
    pub(super) failure: OnceLock<Status>,
    /// What the caller said at the end of its requests.
    pub(super) trailer: OnceLock<Metadata>,
}

impl Stream {
    pub(super) fn new(id: i32, method: String, outbox: Arc<Outbox>) -> Self {
        Self {
            id,
            template: Template::new(id, &method),
            method,
            outbox,
            begun: AtomicBool::new(false),
            over: AtomicBool::new(false),
            failure: OnceLock::new(),
            trailer: OnceLock::new(),
        }
    }

    async fn send(&self, message: Bytes) -> Result<(), Status> {
        if message.len() > LARGEST - self.template.size() {
            return Err(Status::new(Code::OutOfRange, "the message is larger than a frame can be"));
        }
        let room = self.outbox.room(self.template.size() + message.len()).await?;
        self.outbox.put(room, |frames| {
            if self.over.load(Relaxed) {
                return Err(over());
            }
            self.begin(frames);
            self.template.write(&message, frames);
            Ok(())
        })
    }

    /// Sends the end of the answer.
    async fn end(&self, outcome: &Result<Metadata, Status>) {
        let trailer = ending::trailer(self.id, &self.method, outcome);
        let Ok(room) = self.outbox.room(trailer.payload.len() + self.template.size()).await else { return };
        self.outbox.put(room, |frames| self.write_last(frames, Some(&trailer)));
    }

    /// Nothing more is sent, save this. Returns how many bytes it has added to the outbox.
    pub(super) fn end_now(&self, last: Option<&Frame>) -> usize {
        self.outbox.put_unasked(|frames| self.write_last(frames, last))
    }

    /// Resets the stream, unless it has ended already.
    pub(super) fn reset(&self, cancel: &Cancel) -> usize {
        self.end_now(Some(&ending::reset(self.id, &self.method, cancel, NAME)))
    }

    fn write_last(&self, frames: &mut Vec<u8>, last: Option<&Frame>) {
        if !self.over.swap(true, Relaxed)
            && let Some(last) = last
        {
            if last.kind() == Some(Kind::Trailer) {
                self.begin(frames);
            }
            last.write(frames);
        }
    }

    fn begin(&self, frames: &mut Vec<u8>) {
        if !self.begun.swap(true, Relaxed) {
            Frame::of_stream(self.id, Kind::Header, &self.method, [], Bytes::new()).write(frames);
        }
    }
}

/// Runs a handler to its end, and sends what it comes to.
pub(super) async fn run(stream: Arc<Stream>, handler: Handler, incoming: Incoming) {
    let outcome = handle(handler, incoming).await;
    stream.end(&outcome).await;
}

/// What a handler comes to, within the deadline of its call.
pub(super) async fn handle(handler: Handler, incoming: Incoming) -> Result<Metadata, Status> {
    let (deadline, cancellation) = (incoming.call.deadline, incoming.cancellation.clone());
    let handling = AssertUnwindSafe(async move { handler(incoming).await }).catch_unwind();
    let outcome = match deadline {
        Some(deadline) => in_time(handling, deadline, &cancellation).await?,
        None => handling.await,
    };
    outcome.unwrap_or_else(|_| Err(Status::new(Code::Internal, "the handler panicked")))
}

async fn in_time<T>(
    handling: impl Future<Output = T>,
    deadline: Instant,
    cancellation: &Cancellation,
) -> Result<T, Status> {
    // Dropped behind what tells why.
    let handling = pin!(handling);
    timeout_at(deadline, handling).await.map_err(|_| {
        cancellation
            .cancel(Cancel { wire: Some(code::DEADLINE), ..Cancel::because("the deadline has passed") });
        ending::deadline()
    })
}

/// The answers of a handler.
#[derive(Debug)]
pub(crate) struct Answers(pub(super) Arc<Stream>);

impl Answers {
    pub(crate) async fn send(&mut self, message: Bytes) -> Result<(), Status> {
        self.0.send(message).await
    }

    pub(crate) async fn ready(&mut self) -> Result<(), Status> {
        drop(self.0.outbox.room(1).await?);
        if self.0.over.load(Relaxed) { Err(over()) } else { Ok(()) }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        if self.0.outbox.is_full() { Pressure::Paused } else { Pressure::Flowing }
    }
}

/// The requests to a handler.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(super) cursor: Cursor<Message>,
    pub(super) stream: Arc<Stream>,
    pub(super) header: Metadata,
}

impl Requests {
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let message = ready!(Pin::new(&mut self.cursor).poll_next(cx));
        Poll::Ready(message.map(|message| match message {
            Ok(message) => Ok(message.0),
            Err(_) => Err(self.stream.failure.get().cloned().unwrap_or_else(over)),
        }))
    }

    pub(crate) fn header(&self) -> &Metadata {
        &self.header
    }

    pub(crate) fn trailer(&self) -> &Metadata {
        self.stream.trailer.get().unwrap_or(&EMPTY)
    }

    /// Resets the stream from this side.
    pub(crate) fn cancel(self, cancel: &Cancel) {
        self.stream.reset(cancel);
    }
}
