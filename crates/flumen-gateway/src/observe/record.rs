use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use flumen_stream::{Cause, Meter};
use flumen_wire::client::Timings;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::{
    access_log::AccessLog,
    metrics::{Metrics, RouteMetrics},
};
use crate::{access::Tenant, provider::openai::Usage};

/// The record of one request. It settles when its last holder lets go: the line of the access log is written and the
/// request is counted then, exactly once, whatever way the request ended.
#[derive(Debug)]
pub(crate) struct Record {
    started: Instant,
    facts: Mutex<Facts>,
    metrics: Arc<Metrics>,
    log: AccessLog,
}

/// What is known of a request so far.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// When the request came, by the wall clock.
    pub time: SystemTime,
    /// The client's or a new id, sent back as `x-request-id`.
    pub request_id: String,
    /// The client's address.
    pub peer: String,
    /// The method.
    pub method: Method,
    /// The path, without its query.
    pub path: String,
    /// The status that was sent; `None` when the client left before.
    pub status: Option<StatusCode>,
    /// The wire format that the client speaks, on routes that have one.
    pub dialect: Option<&'static str>,
    /// The configured name of the model.
    pub model: Option<String>,
    /// The configured name of the upstream.
    pub upstream: Option<String>,
    /// Upstreams that were asked, where one was not enough.
    pub tried: Vec<Tried>,
    /// How often the answer went on at another upstream.
    pub seams: u32,
    /// How long the request waited for its turn.
    pub queued: Option<Duration>,
    /// Who asked, once that is known.
    pub tenant: Option<Arc<Tenant>>,
    /// The name of the key that was presented.
    pub key: Option<Arc<str>>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// The beginning of the id of the stream that the request began or read.
    pub stream_id: Option<String>,
    /// The answer outlives the response: how the response ends says nothing of it.
    pub outlives: bool,
    /// Why the request ended. The first to know says it.
    pub cause: Option<Cause>,
    /// A more precise code of an end that was not good.
    pub code: Option<&'static str>,
    /// What the response says of limits.
    pub headers: HeaderMap,
    /// Bytes of the request's head, as HTTP/1.1 writes it.
    pub header_in: u64,
    /// Bytes of the request's body.
    pub body_in: u64,
    /// Bytes of the response's head, as HTTP/1.1 writes it.
    pub header_out: u64,
    /// Bytes of the response's body.
    pub body_out: u64,
    /// What the exchange with the upstream took.
    pub timings: Option<Timings>,
    /// From the request to the first token.
    pub first_token: Option<Duration>,
    /// Frames and gaps of the upstream's stream.
    pub meter: Meter,
    /// Tokens, if the upstream told.
    pub usage: Option<Usage>,
    /// How long the upstream was not read because the client was slow.
    pub paused: Duration,
}

/// One upstream that was asked, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    /// Its configured name.
    pub upstream: String,
    /// What came of it.
    pub outcome: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl Record {
    /// Opens the record of a request that has just come.
    pub(crate) fn open(facts: Facts, metrics: Arc<Metrics>, log: AccessLog) -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), facts: Mutex::new(facts), metrics, log })
    }

    /// When the request came.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The metrics that this record feeds.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The metrics of the model at the upstream that answers, as far as they are known.
    pub(crate) fn route(&self) -> RouteMetrics {
        let facts = self.facts();
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let (model, upstream) = (name(&facts.model), name(&facts.upstream));
        drop(facts);
        self.metrics.route(&model, &upstream)
    }

    /// The facts, to be read or completed. Held for moments only.
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why the request ended, unless that was said before.
    pub(crate) fn ended(&self, cause: Cause, code: Option<&'static str>) {
        let mut facts = self.facts();
        if facts.cause.is_none() {
            facts.cause = Some(cause);
            facts.code = code;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let facts = self.facts.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nobody said a word: the request was dropped while it was being answered.
        let unsaid = if std::thread::panicking() { Cause::Internal } else { Cause::ClientGone };
        let cause = *facts.cause.get_or_insert(unsaid);
        let total = self.started.elapsed();
        self.metrics.settle(facts, cause, total);
        self.log.write(facts, cause, total);
    }
}
