//! One stream, from the request to its end.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use flumen_stream::{Event, codec::sse::Decoder};
use flumen_wire::client::{Body, Client, ErrorKind, Request, Response};
use http::header;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::check::{Checker, Seen};

/// The longest event that is read, in bytes.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// What went wrong with one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, in a word or two; failures are counted by it.
    pub kind: String,
    /// What happened.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<flumen_wire::client::Error> for Failure {
    fn from(error: flumen_wire::client::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Resolve => "dns",
            ErrorKind::Connect | ErrorKind::ConnectTimeout => "connect",
            ErrorKind::Tls | ErrorKind::TlsTimeout => "tls",
            ErrorKind::Truncated => "truncated",
            _ => "broken",
        };
        Self::new(kind, error.to_string())
    }
}

/// Who hears of what a stream does.
pub(crate) trait Observer {
    /// Events came together.
    fn arrived(&mut self, arrival: &Arrival);
}

/// What one receive brought.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// When it came.
    pub(crate) at: Instant,
    /// Whole events.
    pub(crate) events: u64,
    /// Events that were part of the answer.
    pub(crate) tokens: u64,
    /// Bytes of the body.
    pub(crate) bytes: u64,
    /// For how long each stamped event was under way, in microseconds.
    pub(crate) delays: Vec<u64>,
}

impl Arrival {
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, events: 0, tokens: 0, bytes: 0, delays: Vec::new() }
    }

    /// Forgets what came before.
    pub(crate) fn begin(&mut self, bytes: u64) {
        (self.at, self.events, self.tokens, self.bytes) = (Instant::now(), 0, 0, bytes);
        self.delays.clear();
    }

    /// Counts an event.
    pub(crate) fn count(&mut self, event: &Event, seen: Seen) {
        self.events += u64::from(event.has_data());
        if let Seen::Token(stamp) = seen {
            self.tokens += 1;
            if let Some(stamp) = stamp {
                self.delays.push(wall_clock().saturating_sub(stamp));
            }
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Sends the request and waits for a response that is a stream of events.
///
/// # Errors
/// When there is no response within `patience`, or one that is an error or anything but an event stream; the message is
/// one line for people.
pub async fn open(client: &Client, request: &Request, patience: Duration) -> Result<Body, Failure> {
    let silent = |_| Failure::new("timeout", format!("no response header within {patience:?}"));
    let Response { status, headers, mut body } =
        timeout(patience, client.send(request)).await.map_err(silent)??;
    if !status.is_success() {
        let mut words = Vec::new();
        while let Ok(Some(Ok(piece))) = timeout(patience, body.piece()).await {
            words.extend_from_slice(&piece);
            if words.len() > 2048 {
                break;
            }
        }
        let words = in_one_line(&words);
        return Err(Failure::new(
            format!("status {}", status.as_u16()),
            format!("the server answered {status}: {words}"),
        ));
    }
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.to_ascii_lowercase().starts_with("text/event-stream") {
        let message = format!("the answer is no event stream, but `{content_type}`");
        return Err(Failure::new("no event stream", message));
    }
    Ok(body)
}

/// What an error's body says: the message that the API's errors carry, or the beginning of whatever it is.
fn in_one_line(body: &[u8]) -> String {
    let error = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let message = error["error"]["message"].as_str().map(str::to_owned);
    let words = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// Reads a stream to its end.
pub(crate) async fn read(
    body: Body,
    patience: Duration,
    observer: &mut impl Observer,
) -> Result<(), Failure> {
    read_until(body, patience, observer, |_| false).await
}

/// Reads a stream to its end, or until the observer has seen enough.
pub(crate) async fn read_until<O: Observer>(
    body: Body,
    patience: Duration,
    observer: &mut O,
    enough: impl Fn(&O) -> bool,
) -> Result<(), Failure> {
    let mut reader = Reader::new(body, patience);
    while !enough(observer) {
        if !reader.receive(observer).await? {
            return reader.checker.end();
        }
    }
    Ok(())
}

/// Reads the first piece of a stream and holds the rest without reading it.
pub(crate) async fn hold(
    body: Body,
    patience: Duration,
    observer: &mut impl Observer,
) -> Result<Body, Failure> {
    let mut reader = Reader::new(body, patience);
    reader.receive(observer).await?;
    Ok(reader.body)
}

struct Reader {
    body: Body,
    decoder: Decoder,
    checker: Checker,
    patience: Duration,
    /// Armed anew only when it fires: a timer per event would cost more than the event.
    silence: Pin<Box<Sleep>>,
    arrival: Arrival,
}

impl Reader {
    fn new(body: Body, patience: Duration) -> Self {
        let at = Instant::now();
        Self {
            body,
            decoder: Decoder::new(MAX_EVENT),
            checker: Checker::default(),
            patience,
            silence: Box::pin(sleep_until(at + patience)),
            arrival: Arrival::new(at),
        }
    }

    /// Receives once; whether the body goes on.
    async fn receive(&mut self, observer: &mut impl Observer) -> Result<bool, Failure> {
        let Some(piece) = poll_fn(|cx| self.poll_piece(cx)).await? else { return Ok(false) };
        let arrival = &mut self.arrival;
        arrival.begin(piece.len() as u64);
        self.decoder.push(piece);
        while let Some(event) = self.decoder.next() {
            let event = event.map_err(|error| Failure::new("event too long", error.to_string()))?;
            arrival.count(&event, self.checker.look(&event)?);
        }
        observer.arrived(arrival);
        Ok(true)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        if let Poll::Ready(piece) = self.body.poll_piece(cx) {
            return Poll::Ready(Ok(piece.transpose()?));
        }
        while self.silence.as_mut().poll(cx).is_ready() {
            if self.arrival.at.elapsed() >= self.patience {
                return Poll::Ready(Err(Failure::new("timeout", format!("silence for {:?}", self.patience))));
            }
            self.silence.as_mut().reset(self.arrival.at + self.patience);
        }
        Poll::Pending
    }
}
