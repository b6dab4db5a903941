//! What the admin API tells, as far as it is shown.
//!
//! What a newer or older gateway leaves out is read as nothing; only what makes an answer this answer is required.

use serde::Deserialize;
use tokio::time::Instant;

use super::text::Text;

/// All of it, at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) overview: Overview,
    /// The oldest first.
    pub(super) streams: Vec<Stream>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) pools: Vec<Pool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Overview {
    pub(super) version: Text,
    #[serde(default)]
    pub(super) uptime_ms: f64,
    #[serde(default)]
    pub(super) draining: bool,
    #[serde(default)]
    pub(super) connections: u64,
    pub(super) streams: Counts,
    #[serde(default)]
    pub(super) requests: u64,
    #[serde(default)]
    pub(super) failed: u64,
    #[serde(default)]
    pub(super) tokens_in: u64,
    #[serde(default)]
    pub(super) tokens_out: u64,
    #[serde(default)]
    pub(super) kept: Kept,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    pub(super) queued: u64,
    pub(super) waiting: u64,
    pub(super) streaming: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) streams: u64,
    pub(super) bytes: u64,
}

/// The form of every list.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stream {
    pub(super) id: Text,
    pub(super) request_id: Option<Text>,
    /// What readers find it by.
    #[serde(rename = "stream_id")]
    pub(super) public_id: Option<Text>,
    pub(super) tenant: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) model: Option<Text>,
    pub(super) pool: Option<Text>,
    pub(super) upstream: Option<Text>,
    pub(super) dialect: Option<Text>,
    pub(super) state: Text,
    pub(super) position: Option<u64>,
    #[serde(default)]
    pub(super) age_ms: f64,
    pub(super) queue_ms: Option<f64>,
    pub(super) first_token_ms: Option<f64>,
    #[serde(default)]
    pub(super) events: u64,
    #[serde(default)]
    pub(super) tokens: u64,
    #[serde(default)]
    pub(super) kept: bool,
    #[serde(default)]
    pub(super) seams: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tenant {
    #[serde(rename = "tenant")]
    pub(super) name: Text,
    pub(super) pool: Option<Text>,
    pub(super) weight: Option<f64>,
    #[serde(default)]
    pub(super) waiting: u64,
    #[serde(default)]
    pub(super) running: u64,
    pub(super) oldest_wait_ms: Option<f64>,
    pub(super) service: Option<f64>,
    pub(super) share: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pool {
    #[serde(rename = "pool")]
    pub(super) name: Text,
    /// `None` where nothing limits it.
    pub(super) slots: Option<u64>,
    #[serde(default)]
    pub(super) running: u64,
    #[serde(default)]
    pub(super) waiting: u64,
    pub(super) drain_rate: Option<f64>,
    #[serde(default)]
    pub(super) upstreams: Vec<Upstream>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Upstream {
    pub(super) name: Text,
    pub(super) state: Text,
    pub(super) breaker: Text,
    #[serde(default)]
    pub(super) in_flight: u64,
    /// `None` where nothing limits it.
    pub(super) concurrency: Option<u64>,
    #[serde(default)]
    pub(super) requests: u64,
    #[serde(default)]
    pub(super) failures: u64,
    pub(super) first_token_ms: Option<f64>,
}

impl Upstream {
    /// New requests stay away because an operator said so.
    pub(super) fn is_draining(&self) -> bool {
        self.state.raw() == "draining"
    }

    /// Its own failures, or an operator, keep requests away.
    pub(super) fn is_shut(&self) -> bool {
        self.breaker.raw() != "closed" || self.state.raw() == "ejected"
    }
}
