//! A request on its way: through the queue of its pool, to an upstream, and to others when that one fails.

use std::{sync::Arc, time::Duration};

use flumen_admit::{Asked, Refused};
use flumen_stream::{Cause, Deadlines, End, Expired};
use flumen_wire::{client, listen::Shutdown};
use http::{HeaderMap, StatusCode, header};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    core::Routing,
    error::Failure,
    journey::Journey,
    limits::Held,
    live::{Live, Phase, stopped},
    observe::{Record, metrics::RouteMetrics},
    pool::{Place, Pool},
    provider::Call,
    relay::{Relay, timed_out},
    resume::Pacing,
    sink::Sink,
};

/// A request that was accepted. It owns all it needs, so that it can outlive the connection that it came on.
pub(crate) struct Dispatch {
    pub routing: Arc<Routing>,
    pub pool: Arc<Pool>,
    /// The configured name of the model.
    pub model: String,
    pub call: Call,
    pub asked: Asked,
    /// What consistent hashing goes by.
    pub key: Option<u64>,
    pub rules: Rules,
    /// What it took of the limits.
    pub held: Held,
    /// Cancelled when whoever asked may no longer.
    pub revoked: CancellationToken,
    /// How fast the answer may go out.
    pub pacing: Pacing,
    pub record: Arc<Record>,
    pub shutdown: Shutdown,
    /// Where operators see it.
    pub live: Live,
}

/// What a relay holds its two sides to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long the client may take nothing while something waits for it.
    pub client_stall: Duration,
    /// Largest event accepted, in bytes.
    pub max_event: usize,
    /// The upstream was asked for usage on the gateway's own account: the event that tells it stays here.
    pub withhold_usage: bool,
}

/// An answer that has begun.
pub(crate) struct Answering {
    pub response: client::Response,
    pub journey: Journey,
}

/// How often those who wait are told how many are ahead of them.
pub(crate) const NEWS: Duration = Duration::from_secs(1);

impl Dispatch {
    /// Waits for its turn, sends the request and waits for the head of the answer.
    ///
    /// Cancel-safe: dropping the future leaves the queue or the upstream at once.
    ///
    /// # Errors
    /// When no answer came; an answer with an error status is an answer.
    pub(crate) async fn send(self: Box<Self>) -> Result<Answering, Failure> {
        let came = Instant::now();
        let place = tokio::select! {
            biased;
            place = self.turn() => place?,
            () = self.live.entry().stopped() => return Err(stopped()),
        };
        self.live.is(Phase::Waiting);
        let wait = came.elapsed();
        self.record.facts().queued = Some(wait);
        self.record.metrics().waited(self.pool.name(), wait);
        let mut journey = Journey::new(self, place);
        let response = journey.answer().await?;
        Ok(Answering { response, journey })
    }

    /// Waits in the queue of the pool.
    async fn turn(&self) -> Result<Place, Failure> {
        let mut ticket = self.pool.enter(self.asked.clone()).map_err(|refused| refusal(&refused))?;
        loop {
            self.live.behind(ticket.position());
            tokio::select! {
                biased;
                place = &mut ticket => return place.map_err(|refused| refusal(&refused)),
                () = self.shutdown.aborted() => return Err(stopping().into()),
                () = self.revoked.cancelled() => return Err(Failure::from(revoked())),
                () = sleep(NEWS) => {}
            }
        }
    }
}

pub(crate) fn stopping() -> End {
    End::new(Cause::Shutdown, "the server is shutting down")
}

/// The end of what runs on a key that was taken away.
pub(crate) fn revoked() -> End {
    End::new(Cause::Rejected, "the key is no longer valid").with_code("key_revoked")
}

/// What a full queue, or too long a wait in it, is to a client.
fn refusal(refused: &Refused) -> Failure {
    let (status, code, message) = match refused {
        Refused::TenantQueueFull { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "tenant_queue_full",
            "too many of your requests are waiting already",
        ),
        Refused::QueueFull { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "queue_full",
            "the model is overloaded: too many requests are waiting",
        ),
        Refused::TooLong { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "queue_timeout",
            "the model is overloaded: the request has waited too long",
        ),
    };
    Failure::rejected(status, code, message).retry_after(seconds(refused.retry_after()))
}

/// Whole seconds, at least one.
fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

impl Answering {
    /// Whether the answer is a stream of events.
    ///
    /// # Errors
    /// When it is one that cannot be read.
    pub(crate) fn is_stream(&self) -> Result<bool, Failure> {
        is_stream(&self.response.headers).map_err(Failure::from)
    }

    /// When the head of the answer, and of a stream also its first token, is due.
    pub(crate) fn answer_by(&self) -> Instant {
        self.journey.answer_by()
    }

    /// Moves the events of the answer into a sink.
    pub(crate) fn relay(self, sink: Sink, metrics: RouteMetrics) -> Relay {
        Relay::new(self.response.body, sink, metrics, self.journey)
    }
}

/// Whether an answer is a stream of events.
///
/// # Errors
/// When it is one that cannot be read.
pub(crate) fn is_stream(headers: &HeaderMap) -> Result<bool, End> {
    if !is_event_stream(headers) {
        return Ok(false);
    }
    if is_encoded(headers) {
        let problem = "upstream: the stream is compressed, though that was not asked for";
        return Err(End::new(Cause::UpstreamError, problem).with_code("upstream_encoding"));
    }
    Ok(true)
}

/// The end of an answer of which nothing came in time.
pub(crate) fn late(stream: bool, deadlines: &Deadlines) -> End {
    let first = stream && deadlines.first <= deadlines.total;
    timed_out(if first { Expired::First } else { Expired::Total })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("text/event-stream"))
}
