//! Server-sent events and lines of JSON: one exchange, one body.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use flumen_stream::{Event, codec::sse::Decoder};
use flumen_wire::client::{Body, Response, Timings};

use super::{
    Fault, Item, Link, Opened, Plan,
    answer::{is_of, refusal, stream_of, wrong_type},
    envelope::Envelope,
    lines::Lines,
};
use crate::Transport;

const SSE: &[&str] = &["text/event-stream"];
const NDJSON: &[&str] =
    &["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];

/// What an envelope adds to a payload, at most.
const ENVELOPE: usize = 1024;

#[derive(Debug)]
pub(crate) struct BodyLink {
    body: Body,
    framing: Framing,
    stream: Option<Arc<str>>,
    ended: bool,
}

#[derive(Debug)]
enum Framing {
    Sse(Decoder),
    Ndjson(Lines),
}

pub(super) async fn open(plan: Plan) -> Result<Opened, Fault> {
    let accept = if plan.transport == Transport::Ndjson { NDJSON[0] } else { SSE[0] };
    let response = plan.shared.wire.send(&plan.request(accept)).await?;
    match response.status.as_u16() {
        204 => Ok(Opened::Finished),
        200 => link(&plan, response),
        _ => Err(refusal(response).await),
    }
}

/// Reads the body of a good answer.
pub(super) fn link(plan: &Plan, response: Response) -> Result<Opened, Fault> {
    let Response { headers, body, .. } = response;
    let max = plan.ask.settings.max_event;
    let framing = if plan.transport == Transport::Ndjson && is_of(&headers, NDJSON) {
        Framing::Ndjson(Lines::new(max + ENVELOPE))
    } else if plan.transport != Transport::Ndjson && is_of(&headers, SSE) {
        Framing::Sse(Decoder::new(max))
    } else {
        return Err(wrong_type(&headers));
    };
    let stream = stream_of(&headers);
    Ok(Opened::Link(Link::Body(Box::new(BodyLink { body, framing, stream, ended: false }))))
}

impl BodyLink {
    /// Events that come from within this process.
    #[cfg(test)]
    pub(crate) fn local(body: Body) -> Self {
        Self { body, framing: Framing::Sse(Decoder::new(1000)), stream: None, ended: false }
    }

    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        loop {
            if let Some(item) = self.framing.next() {
                return Poll::Ready(item);
            }
            if self.ended {
                return Poll::Ready(Item::BodyEnd);
            }
            match ready!(self.body.poll_piece(cx)) {
                Some(Ok(piece)) => {
                    self.framing.push(piece);
                    return Poll::Ready(Item::Life);
                }
                Some(Err(error)) => return Poll::Ready(Item::Fault(error.into())),
                None => {
                    self.ended = true;
                    if let Some(item) = self.framing.finish() {
                        return Poll::Ready(item);
                    }
                }
            }
        }
    }

    pub(super) fn timings(&self) -> &Timings {
        self.body.timings()
    }

    pub(super) fn stream(&self) -> Option<&Arc<str>> {
        self.stream.as_ref()
    }

    pub(super) fn drain(&mut self, cx: &mut Context<'_>) {
        for _ in 0..4 {
            if !matches!(self.body.poll_piece(cx), Poll::Ready(Some(Ok(_)))) {
                break;
            }
        }
    }
}

impl Framing {
    fn push(&mut self, piece: Bytes) {
        match self {
            Self::Sse(decoder) => decoder.push(piece),
            Self::Ndjson(lines) => lines.push(&piece),
        }
    }

    fn next(&mut self) -> Option<Item> {
        match self {
            Self::Sse(decoder) => Some(match decoder.next()? {
                Ok(event) => Item::Event(event, None),
                Err(error) => Item::Fault(Fault::too_long(error.limit)),
            }),
            Self::Ndjson(lines) => Some(match lines.next()? {
                Ok(line) => one_line(&line),
                Err(_) => Item::Fault(Fault::too_long(lines.max())),
            }),
        }
    }

    /// What was whole when the body ended.
    fn finish(&mut self) -> Option<Item> {
        match self {
            Self::Sse(decoder) => decoder.finish().map(|event| Item::Event(event, None)),
            Self::Ndjson(lines) => lines.finish().map(|line: BytesMut| one_line(&line)),
        }
    }
}

/// An envelope, or whatever another server writes into a line.
fn one_line(line: &[u8]) -> Item {
    match serde_json::from_slice::<Envelope<'_>>(line) {
        Ok(envelope) => {
            let seq = envelope.seq;
            match envelope.event() {
                Ok(event) => Item::Event(event, seq),
                Err(error) => Item::Fault(Fault::protocol(error.to_string())),
            }
        }
        Err(_) => Item::Event(Event::data(line), None),
    }
}
