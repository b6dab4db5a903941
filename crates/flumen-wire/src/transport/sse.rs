use std::{fmt, time::Duration};

use axum::response::{IntoResponse, Response};
use flumen_stream::{Event, StreamTools};
use futures_util::{Stream, StreamExt};

use super::{Batched, streaming};

/// A stream as `text/event-stream`, with a heartbeat.
///
/// Items are anything that makes an [`Event`]. An item `Err` becomes an event of type `error` that carries its text,
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
pub trait IntoEvent {
    /// The event, and whether the stream goes on after it.
    fn into_event(self) -> (Event, bool);
}

impl IntoEvent for Event {
    fn into_event(self) -> (Event, bool) {
        (self, true)
    }
}

impl IntoEvent for String {
    fn into_event(self) -> (Event, bool) {
        (self.into(), true)
    }
}

impl IntoEvent for &str {
    fn into_event(self) -> (Event, bool) {
        (self.into(), true)
    }
}

impl IntoEvent for char {
    fn into_event(self) -> (Event, bool) {
        (self.into(), true)
    }
}

impl<T: IntoEvent, E: fmt::Display> IntoEvent for Result<T, E> {
    fn into_event(self) -> (Event, bool) {
        match self {
            Ok(item) => item.into_event(),
            Err(error) => {
                let event = Event::builder().name("error").data(error.to_string()).build();
                (event.unwrap_or_else(|_| Event::data("error")), false)
            }
        }
    }
}

impl<S> IntoResponse for Sse<S>
where
    S: Stream<Item: IntoEvent> + Send + 'static,
{
    fn into_response(self) -> Response {
        let events = self.stream.scan(true, |go_on, item| {
            let event = go_on.then(|| {
                let (event, more) = item.into_event();
                *go_on = more;
                event
            });
            std::future::ready(event)
        });
        let wire = events.heartbeat(self.heartbeat, Event::ping()).map(Event::into_wire);
        streaming("text/event-stream", Batched::new(wire))
    }
}
