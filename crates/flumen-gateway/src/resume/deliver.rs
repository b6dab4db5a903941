//! How a reader becomes a response: the transports of `docs/streams.md`.

use std::{collections::VecDeque, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use flumen_store::EventId;
use flumen_stream::{End, Event, StreamTools, codec::sse::Decoder};
use flumen_wire::transport::{Batched, Chunked, Coding, compressed, streaming};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use tokio::task::yield_now;

use super::{Pacing, envelope};
use crate::{error::Failure, provider::openai, sink};

/// What a response is made of: one event, and its number in a stream that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    /// Its id.
    pub id: Option<EventId>,
    /// The event as the model sent it; or a comment.
    pub wire: Bytes,
    /// When the client is to come back: the connection ends after this event.
    pub retry: Option<Duration>,
}

/// How a client wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Server-sent events.
    Sse,
    /// An envelope a line.
    Ndjson,
    /// The text alone.
    Text,
    /// The state instead of the events.
    Json,
}

/// How a response is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    /// The transport.
    pub transport: Transport,
    /// Silence after which a comment goes out.
    pub heartbeat: Duration,
    /// Bytes of text that the client has.
    pub skip: u64,
    /// How it is compressed.
    pub coding: Option<Coding>,
    /// How fast it may go out.
    pub pacing: Pacing,
}

impl Transport {
    /// What a request asks for: by its query, else by its `Accept` header.
    ///
    /// # Errors
    /// 400 for a name that is none.
    pub(crate) fn of(headers: &HeaderMap, query: Option<&str>) -> Result<Self, Failure> {
        if let Some(name) = query {
            return match name {
                "sse" => Ok(Self::Sse),
                "ndjson" => Ok(Self::Ndjson),
                "text" => Ok(Self::Text),
                "json" => Ok(Self::Json),
                _ => Err(Failure::bad_request("the transport must be one of sse, ndjson, text, json")),
            };
        }
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let named =
            accept.split(',').filter_map(|item| match item.split(';').next().unwrap_or_default().trim() {
                "text/event-stream" => Some(Self::Sse),
                "application/x-ndjson" | "application/ndjson" => Some(Self::Ndjson),
                "text/plain" => Some(Self::Text),
                _ => None,
            });
        Ok(named.into_iter().next().unwrap_or(Self::Sse))
    }
}

impl Delivery {
    /// A response of these events.
    pub(crate) fn respond(
        self,
        events: impl Stream<Item = Result<Numbered, End>> + Send + 'static,
    ) -> Response {
        if self.pacing != Pacing::default() {
            let pacing = self.pacing;
            return Self { pacing: Pacing::default(), ..self }.respond(pacing.hold(events));
        }
        let response = match self.transport {
            Transport::Sse | Transport::Json => {
                let events = events.map(sse_form).heartbeat(self.heartbeat, Event::ping().into_wire());
                streaming("text/event-stream", Batched::new(events))
            }
            Transport::Ndjson => {
                let lines = events.filter_map(|item| std::future::ready(ndjson_form(item)));
                streaming("application/x-ndjson", Batched::new(lines))
            }
            Transport::Text => Chunked::new(text_form(events, self.skip))
                .content_type("text/plain; charset=utf-8")
                .into_response(),
        };
        match self.coding {
            None => response,
            Some(coding) => compressed(response, coding).unwrap_or_else(|error| {
                tracing::error!(%error, "a stream cannot be compressed");
                Failure::internal("the stream cannot be compressed").into_response()
            }),
        }
    }
}

fn sse_form(item: Result<Numbered, End>) -> Bytes {
    match item {
        Ok(Numbered { id: None, wire, .. }) => wire,
        Ok(Numbered { id: Some(id), wire, retry }) => with_id(&wire, id, retry),
        Err(end) => openai::error_event(&end).into_wire(),
    }
}

/// The event with its id, which must be its last line: a widely used client takes an id over before the event is complete.
pub(super) fn with_id(wire: &[u8], id: EventId, retry: Option<Duration>) -> Bytes {
    let lines =
        if wire.ends_with(b"\r\n") { &wire[..wire.len() - 2] } else { &wire[..wire.len().saturating_sub(1)] };
    let mut out = BytesMut::with_capacity(wire.len() + 96);
    if retry.is_some() {
        out.put_slice(b": the server stops; come back\n");
    }
    out.put_slice(lines);
    if let Some(retry) = retry {
        out.put_slice(format!("retry: {}\n", retry.as_millis()).as_bytes());
    }
    out.put_slice(b"id: ");
    // Writing to a buffer in memory does not fail.
    let _ = std::fmt::Write::write_fmt(&mut out, format_args!("{id}\n\n"));
    out.freeze()
}

/// The event, taken apart.
pub(super) fn event_of(wire: &Bytes) -> Option<Event> {
    let mut decoder = Decoder::new(wire.len());
    decoder.push(wire.clone());
    decoder.next()?.ok().or_else(|| decoder.finish()).filter(Event::has_data)
}

fn ndjson_form(item: Result<Numbered, End>) -> Option<Bytes> {
    match item {
        Ok(Numbered { id, wire, .. }) => Some(envelope::line(&event_of(&wire)?, id)),
        Err(end) => Some(envelope::line(&openai::error_event(&end), None)),
    }
}

/// The text of the answer. An error cuts it short.
fn text_form(
    events: impl Stream<Item = Result<Numbered, End>>,
    skip: u64,
) -> impl Stream<Item = Result<Bytes, End>> {
    events
        .scan((skip, false), |(skip, failed), item| {
            if *failed {
                return std::future::ready(None);
            }
            let text = match item {
                Ok(numbered) => text_of(&numbered.wire),
                Err(end) => Err(end),
            };
            *failed = text.is_err();
            std::future::ready(Some(text.map(|text| rest_of(text, skip))))
        })
        .filter(|text| std::future::ready(!matches!(text, Ok(text) if text.is_empty())))
        .then(|text| async {
            if text.is_err() {
                // What came before the error goes out first: it cuts off whatever is not written yet.
                yield_now().await;
            }
            text
        })
}

fn text_of(wire: &Bytes) -> Result<Bytes, End> {
    let Some(event) = event_of(wire) else { return Ok(Bytes::new()) };
    if sink::is_error(&event) {
        return Err(End::new(flumen_stream::Cause::UpstreamError, "the answer failed"));
    }
    Ok(openai::text_of(&event).unwrap_or_default().into())
}

/// What is left of a text when so many bytes are skipped.
fn rest_of(mut text: Bytes, skip: &mut u64) -> Bytes {
    let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(text.len());
    *skip -= skipped as u64;
    text.split_off(skipped)
}

/// The events of a burst, each for itself; comments and unfinished ones are left out.
pub(crate) fn apart(wire: Bytes) -> impl Stream<Item = Result<Numbered, End>> {
    let mut decoder = Decoder::new(wire.len());
    decoder.push(wire);
    let mut events = VecDeque::new();
    while let Some(Ok(event)) = decoder.next() {
        events.push_back(Ok(Numbered { id: None, wire: event.into_wire(), retry: None }));
    }
    stream::iter(events)
}

/// The answer to a reader that has seen everything.
pub(crate) fn nothing_more() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use flumen_store::{Position, StreamId};

    use super::*;

    #[test]
    fn the_id_is_the_last_line_whatever_ends_lines() {
        let id = EventId { stream: StreamId::from_u128(1), at: Position { epoch: 1, seq: 2 } };
        for (wire, begin) in
            [("data: x\n\n", "data: x\n"), ("data: x\r\n\r\n", "data: x\r\n"), ("data: x\r\r", "data: x\r")]
        {
            let out = with_id(wire.as_bytes(), id, None);
            assert_eq!(out, format!("{begin}id: {id}\n\n"));
            let event = event_of(&out).unwrap();
            assert_eq!((&*event.payload(), event.id()), (&b"x"[..], Some(id.to_string().as_bytes())));
        }
        let leaving = event_of(&with_id(b"data: x\n\n", id, Some(Duration::from_millis(1500)))).unwrap();
        assert_eq!(leaving.retry(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_query_decides_over_the_header() {
        let of = |accept: &str, query| {
            Transport::of(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]), query).unwrap()
        };
        assert_eq!(of("application/x-ndjson", None), Transport::Ndjson);
        assert_eq!(of("text/html, text/plain;q=0.5", None), Transport::Text);
        assert_eq!(of("*/*", None), Transport::Sse);
        assert_eq!(of("application/json", None), Transport::Sse);
        assert_eq!(of("text/plain", Some("sse")), Transport::Sse);
        assert!(Transport::of(&HeaderMap::new(), Some("pigeon")).is_err());
    }

    #[test]
    fn bytes_of_text_are_skipped_across_events() {
        let mut skip = 5;
        let rest: Vec<_> = ["abc", "def", "gh"].map(|text| rest_of(Bytes::from(text), &mut skip)).into();
        assert_eq!(rest, ["", "f", "gh"]);
    }
}
