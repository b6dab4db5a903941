//! Log -> client, and whole answers. Errors become statuses or error events here, and nowhere else.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Buf, Bytes, BytesMut};
use flumen_stream::{Cause, Cursor, End, codec::sse::Decoder};
use flumen_wire::client;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    burst::Burst,
    dispatch::NEWS,
    error::Failure,
    journey::Journey,
    live::{Entry, Phase, stopped},
    observe::Record,
    provider::openai::{self, Usage},
    relay::timed_out,
    resume::{Delivery, Numbered, Pacing, Transport, apart},
};

/// Headers of an upstream's answer that mean something to its client.
const PASSED: [&str; 5] =
    ["retry-after", "openai-model", "openai-processing-ms", "openai-version", "content-encoding"];

/// How a stream begins.
pub(crate) enum First<S> {
    /// Its first event reports an error: this is what it says.
    Refused(Bytes),
    /// It has events, or is silent for so long that the response begins anyway.
    Begun(S),
}

/// Waits for the first event of a stream, so that whatever goes wrong before it is still a real status that clients retry;
/// if that takes longer than a heartbeat, the response begins anyway and is kept alive. `error` says what an event that
/// reports an error says.
///
/// # Errors
/// When the stream ends before its first event.
pub(crate) async fn first<T, S>(
    mut events: S,
    heartbeat: Duration,
    error: impl FnOnce(&T) -> Option<Bytes>,
) -> Result<First<impl Stream<Item = Result<T, End>>>, End>
where
    S: Stream<Item = Result<T, End>> + Unpin,
{
    let first = match timeout(heartbeat, events.next()).await {
        Err(_) => None,
        Ok(None) => return Err(End::new(Cause::UpstreamTruncated, "the upstream sent no event")),
        Ok(Some(Err(end))) => return Err(end),
        Ok(Some(Ok(item))) => match error(&item) {
            Some(payload) => return Ok(First::Refused(payload)),
            None => Some(Ok(item)),
        },
    };
    Ok(First::Begun(stream::iter(first).chain(events)))
}

/// The response of a stream that lives as long as its client reads.
pub(crate) async fn streamed(
    cursor: Cursor<Burst>,
    upstream: &HeaderMap,
    delivery: Delivery,
    record: Arc<Record>,
    frames_out: Counter,
) -> Result<Response, Failure> {
    let heartbeat = delivery.heartbeat;
    let events = match first(cursor, heartbeat, |burst: &Burst| burst.error.then(|| payload(burst))).await? {
        First::Refused(payload) => {
            record.ended(Cause::UpstreamError, None);
            return Ok(bad_gateway(payload));
        }
        First::Begun(events) => events,
    };
    let counted = events.inspect(move |item| match item {
        Ok(burst) => {
            frames_out.inc_by(u64::from(burst.events));
        }
        Err(end) => record.ended(end.cause, Some(end.code)),
    });
    // What is paced goes event by event.
    let together = delivery.transport == Transport::Sse && delivery.pacing == Pacing::default();
    let mut response = if together {
        delivery.respond(counted.map(|item| item.map(Numbered::from)))
    } else {
        let apart = counted.flat_map(|item| match item {
            Ok(burst) => apart(burst.wire).left_stream(),
            Err(end) => stream::iter([Err(end)]).right_stream(),
        });
        delivery.respond(apart)
    };
    pass(upstream, response.headers_mut());
    Ok(response)
}

/// The response of a stream whose turn has not come.
pub(crate) fn queued(
    events: impl Stream<Item = Result<Burst, End>> + Send + 'static,
    place: Arc<Entry>,
    delivery: Delivery,
    record: Arc<Record>,
) -> Response {
    let events = events.inspect(move |item| {
        if let Err(end) = item {
            record.ended(end.cause, Some(end.code));
        }
    });
    let items = events.flat_map(|item| match item {
        Ok(burst) => apart(burst.wire).left_stream(),
        Err(end) => stream::iter([Err(end)]).right_stream(),
    });
    delivery.respond(waiting(items, place, delivery.transport))
}

/// Until the first event, comments tell the place in the queue. Where there are no comments, that the response has
/// begun must do.
pub(crate) fn waiting(
    items: impl Stream<Item = Result<Numbered, End>> + Send + 'static,
    place: Arc<Entry>,
    transport: Transport,
) -> impl Stream<Item = Result<Numbered, End>> + Send + 'static {
    let state = (Box::pin(items), transport == Transport::Sse, place);
    stream::unfold(state, |(mut items, waits, place)| async move {
        if !waits {
            return Some((items.next().await?, (items, false, place)));
        }
        let item = tokio::select! {
            biased;
            item = items.next() => item?,
            () = sleep(NEWS) => {
                let comment = match place.phase() {
                    Phase::Queued => format!(": queued {}\n", place.position() + 1),
                    Phase::Waiting | Phase::Streaming => ": waiting\n".to_owned(),
                };
                let comment = Numbered { id: None, wire: comment.into(), retry: None };
                return Some((Ok(comment), (items, true, place)));
            }
        };
        Some((item, (items, false, place)))
    })
}

impl From<Burst> for Numbered {
    /// Events that came together go on together: without numbers there is nothing to add to them.
    fn from(burst: Burst) -> Self {
        Self { id: None, wire: burst.wire, retry: None }
    }
}

fn payload(burst: &Burst) -> Bytes {
    let mut decoder = Decoder::new(burst.wire.len());
    decoder.push(burst.wire.clone());
    let payload = decoder.next().and_then(Result::ok).map(|event| Bytes::copy_from_slice(&event.payload()));
    payload.unwrap_or_default()
}

/// A stream whose first event is an error never began: its error object is the answer.
pub(crate) fn bad_gateway(payload: Bytes) -> Response {
    json(StatusCode::BAD_GATEWAY, payload)
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Passes on what means something to the client.
pub(crate) fn pass(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if PASSED.contains(&name.as_str()) || name.as_str().starts_with("x-ratelimit-") {
            to.append(name, value.clone());
        }
    }
}

/// An upstream's refusal, with its own words where they are for the client.
pub(crate) async fn upstream_refused(
    response: client::Response,
    within: Instant,
    record: &Record,
) -> Response {
    let client::Response { status, headers, mut body } = response;
    let words = timeout_at(within, collect(&mut body, MAX_ERROR)).await;
    record.facts().timings = Some(body.timings().clone());
    let status = refusal_status(status);
    record.ended(Cause::UpstreamError, Some(code_of(status)));
    let own_words = status != StatusCode::BAD_GATEWAY && is_json(&headers);
    let mut response = match words {
        Ok(Ok(Collected::Whole(words)))
            if own_words && serde_json::from_slice::<serde::de::IgnoredAny>(&words).is_ok() =>
        {
            json(status, words)
        }
        _ => {
            let mut failure: Failure = End::new(
                Cause::UpstreamError,
                format!("the upstream answered with an error (status {})", status.as_u16()),
            )
            .with_code(code_of(status))
            .into();
            failure.status = status;
            failure.into_response()
        }
    };
    pass(&headers, response.headers_mut());
    response
}

/// Longest error body that is passed on, in bytes.
const MAX_ERROR: usize = 64 * 1024;

/// Which status a refusal of the upstream becomes. What concerns the request stays as it is, so that clients act on
/// it; what concerns the gateway's own dealings with the upstream is a bad gateway.
fn refusal_status(upstream: StatusCode) -> StatusCode {
    match upstream.as_u16() {
        // The key is the gateway's, not the client's.
        401 | 403 | 407 => StatusCode::BAD_GATEWAY,
        400..=499 | 503 | 504 => upstream,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "upstream_rate_limited",
        503 => "upstream_overloaded",
        504 => "upstream_timeout",
        502 => "upstream_error",
        _ => "upstream_refused",
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
}

/// What of a body fits the bound.
enum Collected {
    Whole(Bytes),
    Part(Bytes),
}

async fn collect(body: &mut client::Body, limit: usize) -> Result<Collected, client::Error> {
    let mut collected = BytesMut::new();
    while let Some(piece) = body.piece().await {
        collected.extend_from_slice(&piece?);
        if collected.len() >= limit {
            return Ok(Collected::Part(collected.freeze()));
        }
    }
    Ok(Collected::Whole(collected.freeze()))
}

/// A whole answer. It is held back until it is complete if it fits the stream's buffer, so that a failure is still a
/// status; a larger one is passed on as it comes, and cut short when the upstream fails.
pub(crate) async fn whole(
    response: client::Response,
    buffer: usize,
    journey: Journey,
) -> Result<Response, Failure> {
    let client::Response { status, headers, mut body } = response;
    let (deadlines, record) = (journey.deadlines(), Arc::clone(journey.record()));
    let deadline = journey.began() + deadlines.total.unwrap_or(A_DAY);
    let live = journey.live();
    let collected = tokio::select! {
        biased;
        collected = timeout_at(deadline, collect(&mut body, buffer)) => match collected {
            Ok(Ok(collected)) => Ok(collected),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(timed_out(flumen_stream::Expired::Total).into()),
        },
        () = live.stopped() => Err(stopped()),
    };
    record.facts().timings = Some(body.timings().clone());
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    let may = |collected| journey.check().map(|()| collected).map_err(Failure::from);
    let payload = match collected.and_then(may) {
        Ok(Collected::Whole(answer)) => {
            let usage = openai::usage_of(&answer);
            record.facts().usage = usage;
            finish(journey, answer.len(), usage);
            Body::from(answer)
        }
        Ok(Collected::Part(begun)) => {
            let idle = deadlines.idle.unwrap_or(A_DAY);
            Body::new(StreamBody::new(rest(begun, body, deadline, idle, journey)))
        }
        Err(failure) => {
            journey.finish(failure.cause, None);
            return Err(failure);
        }
    };
    let mut response = (status, payload).into_response();
    response.headers_mut().extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    pass(&headers, response.headers_mut());
    Ok(response)
}

const A_DAY: Duration = Duration::from_hours(24);

/// The answer is complete. Where the upstream does not tell the usage, four bytes are a token.
fn finish(mut journey: Journey, bytes: usize, usage: Option<Usage>) {
    if usage.is_none() {
        journey.charge(bytes as u64 / 4);
    }
    journey.finish(Cause::Complete, usage);
}

/// An answer that is larger than what is held back, as it comes.
struct Rest {
    body: client::Body,
    journey: Journey,
    bytes: usize,
    /// The end of what came: usage stands there.
    tail: BytesMut,
}

/// What of an answer's end is searched for its usage, in bytes.
const TAIL: usize = 4096;

impl Rest {
    fn pass(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
        self.tail.extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.advance(over);
    }

    fn complete(self) {
        let usage = openai::usage_at_end(&self.tail);
        self.journey.record().facts().usage = usage;
        finish(self.journey, self.bytes, usage);
    }

    fn fail(mut self, end: &End) {
        self.journey.record().ended(end.cause, Some(end.code));
        self.journey.charge(self.bytes as u64 / 4);
        self.journey.finish(end.cause, None);
    }

    /// The next piece, if the answer may go on.
    async fn piece(&mut self, deadline: Instant, idle: Duration) -> Option<Result<Bytes, End>> {
        let patience = deadline.min(Instant::now() + idle);
        let live = self.journey.live();
        let piece = tokio::select! {
            biased;
            piece = timeout_at(patience, self.body.piece()) => match piece {
                Ok(piece) => piece?.map_err(|error| crate::error::upstream_end(&error)),
                Err(_) if patience == deadline => Err(timed_out(flumen_stream::Expired::Total)),
                Err(_) => Err(timed_out(flumen_stream::Expired::Idle)),
            },
            () = live.stopped() => Err(End::new(Cause::Stopped, "the operator stopped the answer")),
        };
        self.journey.record().facts().timings = Some(self.body.timings().clone());
        Some(piece.and_then(|piece| self.journey.check().map(|()| piece)))
    }
}

fn rest(
    begun: Bytes,
    body: client::Body,
    deadline: Instant,
    idle: Duration,
    journey: Journey,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, End>> {
    let mut rest = Rest { body, journey, bytes: 0, tail: BytesMut::new() };
    rest.pass(&begun);
    let following = stream::unfold(Some(rest), move |rest| async move {
        let mut rest = rest?;
        match rest.piece(deadline, idle).await {
            None => {
                rest.complete();
                None
            }
            Some(Ok(piece)) => {
                rest.pass(&piece);
                Some((Ok(Frame::data(piece)), Some(rest)))
            }
            Some(Err(end)) => {
                rest.fail(&end);
                Some((Err(end), None))
            }
        }
    });
    stream::iter([Ok(Frame::data(begun))]).chain(following).fuse()
}
