//! Every metric and its name.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_store::Store;
use flumen_stream::Cause;
use flumen_wire::listen::Gate;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::{
    record::Facts,
    tenants::Tenants,
    totals::{Sums, Totals},
};
use crate::{access::Access, pool::Pools};

mod labels;
mod pools;

use labels::{
    Buckets, CodeLabels, DURATIONS, ErrorLabels, GAPS, PHASES, RequestLabels, RouteLabels, TokenLabels,
    UpstreamLabels, WAITS,
};
use pools::PoolMetrics;

/// The gateway's metrics. Labels come from the configuration, never from a request, so their number is bounded.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    duration: Family<RouteLabels, Histogram, Buckets>,
    first_token: Family<RouteLabels, Histogram, Buckets>,
    gap: Family<RouteLabels, Histogram, Buckets>,
    active: Family<RouteLabels, Gauge>,
    paused: Family<RouteLabels, Counter<f64, AtomicU64>>,
    frames_in: Family<RouteLabels, Counter>,
    frames_out: Family<RouteLabels, Counter>,
    bytes_in: Family<RouteLabels, Counter>,
    bytes_out: Family<RouteLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    upstream_dns: Family<UpstreamLabels, Histogram, Buckets>,
    upstream_connect: Family<UpstreamLabels, Histogram, Buckets>,
    upstream_tls: Family<UpstreamLabels, Histogram, Buckets>,
    upstream_header: Family<UpstreamLabels, Histogram, Buckets>,
    upstream_first_byte: Family<UpstreamLabels, Histogram, Buckets>,
    seams: Family<RouteLabels, Counter>,
    pools: PoolMetrics,
    totals: Totals,
    errors: Family<ErrorLabels, Counter>,
    tenants: Tenants,
    turned_away: Family<CodeLabels, Counter>,
    disconnects: Counter,
    resumes: Counter,
    resumed_frames: Counter,
    kept: Gauge,
    kept_bytes: Gauge,
    buffered: Arc<AtomicUsize>,
    buffered_gauge: Gauge,
    connections: Gauge,
    connections_accepted: Gauge,
    connections_refused: Gauge,
}

/// The metrics of one route, looked up once per stream.
#[derive(Clone, Debug)]
pub(crate) struct RouteMetrics {
    /// Streams that are open now.
    pub active: Gauge,
    /// Frames from the upstream.
    pub frames_in: Counter,
    /// Frames to the client.
    pub frames_out: Counter,
    /// Payload bytes from the upstream.
    pub bytes_in: Counter,
    /// Time between two arrivals, in seconds.
    pub gap: Histogram,
    /// Seconds for which the upstream was not read because the client was slow.
    pub paused: Counter<f64, AtomicU64>,
    /// Answers that went on here after another upstream failed.
    pub seams: Counter,
    /// Bytes that streams hold; shared by all routes.
    pub buffered: Arc<AtomicUsize>,
}

impl Metrics {
    /// All metrics at zero.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("flumen")),
            requests: Family::default(),
            duration: Family::new_with_constructor(DURATIONS),
            first_token: Family::new_with_constructor(WAITS),
            gap: Family::new_with_constructor(GAPS),
            active: Family::default(),
            paused: Family::default(),
            frames_in: Family::default(),
            frames_out: Family::default(),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            tokens: Family::default(),
            upstream_dns: Family::new_with_constructor(PHASES),
            upstream_connect: Family::new_with_constructor(PHASES),
            upstream_tls: Family::new_with_constructor(PHASES),
            upstream_header: Family::new_with_constructor(WAITS),
            upstream_first_byte: Family::new_with_constructor(WAITS),
            seams: Family::default(),
            pools: PoolMetrics::new(),
            totals: Totals::default(),
            errors: Family::default(),
            tenants: Tenants::default(),
            turned_away: Family::default(),
            disconnects: Counter::default(),
            resumes: Counter::default(),
            resumed_frames: Counter::default(),
            kept: Gauge::default(),
            kept_bytes: Gauge::default(),
            buffered: Arc::default(),
            buffered_gauge: Gauge::default(),
            connections: Gauge::default(),
            connections_accepted: Gauge::default(),
            connections_refused: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let registry = &mut *self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = || Unit::Seconds;
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("stream_requests", "Requests to a model, by how they ended", self.requests.clone());
        registry.register_with_unit(
            "stream_duration",
            "From the request to the end of the answer",
            seconds(),
            self.duration.clone(),
        );
        registry.register_with_unit(
            "stream_first_token",
            "From the request to the first token",
            seconds(),
            self.first_token.clone(),
        );
        registry.register_with_unit(
            "stream_gap",
            "Time between arrivals from the upstream",
            seconds(),
            self.gap.clone(),
        );
        registry.register("active_streams", "Streams that are open now", self.active.clone());
        registry.register_with_unit(
            "paused",
            "Time for which upstreams were not read because a client was slow",
            seconds(),
            self.paused.clone(),
        );
        registry.register("frames_in", "Frames from upstreams", self.frames_in.clone());
        registry.register("frames_out", "Frames to clients", self.frames_out.clone());
        registry.register("bytes_in", "Body bytes from upstreams", self.bytes_in.clone());
        registry.register("bytes_out", "Body bytes to clients", self.bytes_out.clone());
        registry.register("tokens", "Tokens, where upstreams tell", self.tokens.clone());
        for (name, help, family) in [
            ("upstream_dns", "Name resolution", &self.upstream_dns),
            ("upstream_connect", "TCP connect", &self.upstream_connect),
            ("upstream_tls", "TLS handshake", &self.upstream_tls),
            ("upstream_header", "To the end of the upstream's response head", &self.upstream_header),
            ("upstream_first_byte", "To the first byte of the upstream's body", &self.upstream_first_byte),
        ] {
            registry.register_with_unit(name, help, seconds(), family.clone());
        }
        registry.register(
            "seams",
            "Answers that went on here after another upstream failed in the middle",
            self.seams.clone(),
        );
        self.pools.register(registry);
        registry.register("errors", "Requests that did not end well, timeouts included", self.errors.clone());
        self.tenants.register(registry);
        registry.register("turned_away", "Requests whose key was not accepted", self.turned_away.clone());
        registry.register("client_disconnects", "Clients that left before the end", self.disconnects.clone());
        registry.register("resumes", "Readers that came back to a stream", self.resumes.clone());
        registry.register(
            "resumed_frames",
            "Frames to readers that came back, and to those of sockets and polls",
            self.resumed_frames.clone(),
        );
        registry.register("kept_streams", "Resumable streams, finished ones included", self.kept.clone());
        registry.register_with_unit(
            "kept",
            "What resumable streams hold",
            Unit::Bytes,
            self.kept_bytes.clone(),
        );
        registry.register_with_unit(
            "buffered",
            "What streams hold that was not read yet",
            Unit::Bytes,
            self.buffered_gauge.clone(),
        );
        registry.register("open_connections", "Connections of clients open now", self.connections.clone());
        registry.register(
            "connections_accepted",
            "Connections accepted since the start",
            self.connections_accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections refused by a limit",
            self.connections_refused.clone(),
        );
    }

    /// The metrics of a route.
    pub(crate) fn route(&self, model: &str, upstream: &str) -> RouteMetrics {
        let labels = RouteLabels { model: model.to_owned(), upstream: upstream.to_owned() };
        RouteMetrics {
            active: self.active.get_or_create(&labels).clone(),
            frames_in: self.frames_in.get_or_create(&labels).clone(),
            frames_out: self.frames_out.get_or_create(&labels).clone(),
            bytes_in: self.bytes_in.get_or_create(&labels).clone(),
            gap: self.gap.get_or_create(&labels).clone(),
            paused: self.paused.get_or_create(&labels).clone(),
            seams: self.seams.get_or_create(&labels).clone(),
            buffered: Arc::clone(&self.buffered),
        }
    }

    /// What there was since the start.
    pub(crate) fn totals(&self) -> Sums {
        self.totals.sums()
    }

    /// Counts an upstream that was asked.
    pub(crate) fn tried(&self, upstream: &str, outcome: &'static str) {
        self.pools.tried(upstream, outcome);
    }

    /// Counts a request for which a second upstream of the pool was asked.
    pub(crate) fn hedged(&self, pool: &str) {
        self.pools.hedged(pool);
    }

    /// Notes how long a request waited for its turn at a pool.
    pub(crate) fn waited(&self, pool: &str, wait: Duration) {
        self.pools.waited(pool, wait);
    }

    /// Counts a reader that came back, and returns the counter of the frames that it gets.
    pub(crate) fn resumed(&self) -> Counter {
        self.resumes.inc();
        self.resumed_frames.clone()
    }

    /// Counts frames to a reader that did not ask by a request of its own.
    pub(crate) fn resumed_frames(&self, frames: u64) {
        self.resumed_frames.inc_by(frames);
    }

    /// Counts a request whose key was not accepted.
    pub(crate) fn turned_away(&self, code: &'static str) {
        self.turned_away.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts a request that has ended.
    pub(super) fn settle(&self, facts: &Facts, cause: Cause, total: Duration) {
        if facts.dialect.is_none() {
            return;
        }
        self.tenants.settle(facts, cause);
        self.totals.settle(facts, cause);
        let model = facts.model.clone().unwrap_or_default();
        let upstream = facts.upstream.clone().unwrap_or_default();
        let status = facts.status.map_or(499, |status| status.as_u16());
        let labels =
            RequestLabels { model: model.clone(), upstream: upstream.clone(), status, cause: cause.as_str() };
        self.requests.get_or_create(&labels).inc();
        if cause != Cause::Complete {
            let code = facts.code.unwrap_or(cause.as_str());
            self.errors.get_or_create(&ErrorLabels { cause: cause.as_str(), code }).inc();
        }
        if cause == Cause::ClientGone {
            self.disconnects.inc();
        }
        if facts.upstream.is_none() {
            return;
        }
        let route = RouteLabels { model: model.clone(), upstream: upstream.clone() };
        self.duration.get_or_create(&route).observe(total.as_secs_f64());
        self.bytes_out.get_or_create(&route).inc_by(facts.body_out);
        if let Some(first) = facts.first_token {
            self.first_token.get_or_create(&route).observe(first.as_secs_f64());
        }
        if let Some(usage) = facts.usage {
            for (kind, count) in [("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)] {
                let labels = TokenLabels { model: model.clone(), upstream: upstream.clone(), kind };
                self.tokens.get_or_create(&labels).inc_by(count);
            }
        }
        if let Some(timings) = &facts.timings {
            let labels = UpstreamLabels { upstream };
            for (family, took) in [
                (&self.upstream_dns, timings.dns),
                (&self.upstream_connect, timings.connect),
                (&self.upstream_tls, timings.tls),
                (&self.upstream_header, timings.header),
                (&self.upstream_first_byte, timings.first_byte),
            ] {
                if let Some(took) = took {
                    family.get_or_create(&labels).observe(took.as_secs_f64());
                }
            }
        }
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub(crate) fn scrape(&self, gate: &Gate, store: &dyn Store, pools: &Pools, access: &Access) -> String {
        self.pools.read(pools, |tenant| self.tenants.label(tenant, access.declares(tenant)));
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let holding = store.holding();
        self.kept.set(whole(holding.streams as u64));
        self.kept_bytes.set(whole(holding.bytes as u64));
        self.buffered_gauge.set(whole((self.buffered.load(Relaxed) + holding.unread) as u64));
        self.connections.set(whole(gate.open() as u64));
        self.connections_accepted.set(whole(gate.accepted()));
        self.connections_refused.set(whole(gate.refused()));
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        encode(&mut text, &registry).unwrap_or_default();
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
