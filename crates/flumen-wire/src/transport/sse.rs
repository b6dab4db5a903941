use std::{fmt, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flumen_stream::{Event, StreamTools};
use futures_util::{Stream, StreamExt};

use super::{Batched, streaming};

/// A stream as `text/event-stream`, with a heartbeat.
///
/// Items are anything that makes events ([`IntoEvents`]). An item `Err` becomes an event of type `error` that carries its text,
/// and ends the stream.
///
/// ```
/// use flumen_wire::transport::Sse;
/// use futures_util::stream;
///
/// async fn handler() -> Sse<impl futures_util::Stream<Item = &'static str>> {
///     Sse::new(stream::iter(["one", "two"]))
/// }
/// ```
#[derive(Debug)]
pub struct Sse<S> {
    stream: S,
    heartbeat: Duration,
}

impl<S> Sse<S> {
    /// A response of this stream, with a heartbeat after 15 s of silence.
    pub fn new(stream: S) -> Self {
        Self { stream, heartbeat: Duration::from_secs(15) }
    }

    /// Sends the comment `: ping` after every such time without an event.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }
}

/// What can be an item of [`Sse`].
pub trait IntoEvents {
    /// One or more whole events as they stand on the wire, and whether the stream goes on after them.
    fn into_events(self) -> (Bytes, bool);
}

impl IntoEvents for Event {
    fn into_events(self) -> (Bytes, bool) {
        (self.into_wire(), true)
    }
}

impl IntoEvents for String {
    fn into_events(self) -> (Bytes, bool) {
        Event::from(self).into_events()
    }
}

impl IntoEvents for &str {
    fn into_events(self) -> (Bytes, bool) {
        Event::from(self).into_events()
    }
}

impl IntoEvents for char {
    fn into_events(self) -> (Bytes, bool) {
        Event::from(self).into_events()
    }
}

impl<T: IntoEvents, E: fmt::Display> IntoEvents for Result<T, E> {
    fn into_events(self) -> (Bytes, bool) {
        match self {
            Ok(item) => item.into_events(),
            Err(error) => {
                let event = Event::builder().name("error").data(error.to_string()).build();
                (event.unwrap_or_else(|_| Event::data("error")).into_wire(), false)
            }
        }
    }
}

impl<S> IntoResponse for Sse<S>
where
    S: Stream<Item: IntoEvents> + Send + 'static,
{
    fn into_response(self) -> Response {
        let events = self.stream.scan(true, |go_on, item| {
            let events = go_on.then(|| {
                let (events, more) = item.into_events();
                *go_on = more;
                events
            });
            std::future::ready(events)
        });
        let events = events.heartbeat(self.heartbeat, Event::ping().into_wire());
        streaming("text/event-stream", Batched::new(events))
    }
}
