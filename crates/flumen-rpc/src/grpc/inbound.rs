use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use flumen_stream::Alarm;
use futures_util::{FutureExt, Stream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::codec::Streaming;

use super::metadata;
use crate::{Code, Metadata, Status};

/// The messages that come in on one stream of HTTP/2.
pub(crate) struct Inbound {
    state: State,
    header: Metadata,
    trailer: Metadata,
    deadline: Option<Alarm>,
    /// The stream's place on its connection.
    place: Option<Place>,
    /// Whether a request broke off, which tonic does not tell from its end.
    broken: Option<Arc<AtomicBool>>,
    /// Its drop tells the other half of the call.
    _held: Option<oneshot::Sender<()>>,
}

/// How much sooner than ours the clock of a service may be.
const SLACK: Duration = Duration::from_millis(5);

pub(super) type Begun = Result<(Metadata, Streaming<Bytes>, Place), Status>;

enum State {
    /// The head of the answer has not come. Messages can be sent all the same.
    Begins(Pin<Box<dyn Future<Output = Begun> + Send>>),
    Runs(Box<Streaming<Bytes>>),
    Over,
}

/// One stream more on a connection, for as long as it is held.
#[derive(Debug)]
pub(super) struct Place(pub(super) Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Inbound {
    /// An answer whose head is still to come.
    pub(super) fn begins(
        head: impl Future<Output = Begun> + Send + 'static,
        deadline: Option<Instant>,
        held: oneshot::Sender<()>,
    ) -> Self {
        let deadline = deadline.map(Alarm::at);
        Self {
            state: State::Begins(Box::pin(head)),
            header: Metadata::default(),
            trailer: Metadata::default(),
            deadline,
            place: None,
            broken: None,
            _held: Some(held),
        }
    }

    /// Puts the request on its way, which without this would wait for the first look at the answer.
    pub(super) fn start(mut self) -> Self {
        if let State::Begins(head) = &mut self.state {
            let begun = head.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(begun) = begun {
                self.state = State::Begins(Box::pin(std::future::ready(begun)));
            }
        }
        self
    }

    /// The messages of a request.
    pub(super) fn of_request(header: Metadata, messages: Streaming<Bytes>, broken: Arc<AtomicBool>) -> Self {
        let state = State::Runs(Box::new(messages));
        Self {
            state,
            header,
            trailer: Metadata::default(),
            deadline: None,
            place: None,
            broken: Some(broken),
            _held: None,
        }
    }

    pub(crate) fn header(&self) -> &Metadata {
        &self.header
    }

    pub(crate) fn trailer(&self) -> &Metadata {
        &self.trailer
    }

    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if let Poll::Ready(message) = self.poll_before_deadline(cx) {
            // The service may notice first, and has its own words for it.
            let late = |deadline: &Alarm| deadline.due() <= Instant::now() + SLACK;
            let failed = matches!(message, Some(Err(_))) && self.deadline.as_ref().is_some_and(late);
            return Poll::Ready(if failed { Some(Err(Status::deadline())) } else { message });
        }
        let deadline = self.deadline.as_mut();
        if deadline.is_some_and(|deadline| deadline.poll(cx).is_ready()) {
            return Poll::Ready(Some(self.fail(Status::deadline())));
        }
        Poll::Pending
    }

    fn poll_before_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match &mut self.state {
                State::Begins(head) => match ready!(head.as_mut().poll(cx)) {
                    Ok((header, messages, place)) => {
                        (self.header, self.place) = (header, Some(place));
                        self.state = State::Runs(Box::new(messages));
                    }
                    Err(status) => return Poll::Ready(Some(self.fail(status))),
                },
                State::Runs(messages) => {
                    let message = match ready!(Pin::new(&mut **messages).poll_next(cx)) {
                        Some(Ok(message)) => Some(Ok(message)),
                        Some(Err(status)) => Some(self.fail(metadata::received(&status))),
                        None => self.end(),
                    };
                    return Poll::Ready(message);
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    /// The proper end, unless the trailers say that the service's business failed.
    fn end(&mut self) -> Option<Result<Bytes, Status>> {
        let State::Runs(mut messages) = std::mem::replace(&mut self.state, State::Over) else { return None };
        self.place = None;
        if self.broken.as_ref().is_some_and(|broken| broken.load(Relaxed)) {
            return Some(Err(Status::new(Code::Cancelled, "the caller broke the call off")));
        }
        // They came with the end.
        let trailers = messages.trailers().now_or_never()?.ok()??.into_headers();
        self.trailer = metadata::read(&trailers);
        metadata::business(&trailers).map(|business| Err(Status::business(business)))
    }

    /// Lets go of the stream: if it had not ended, that resets it.
    fn fail(&mut self, status: Status) -> Result<Bytes, Status> {
        self.state = State::Over;
        self.place = None;
        Err(status)
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("over", &matches!(self.state, State::Over)).finish_non_exhaustive()
    }
}
