//! How much everybody may use. STUB to compile the types; the real one follows.
#![allow(dead_code, clippy::unused_self, clippy::unused_async, reason = "signatures first")]

use http::HeaderMap;

use crate::{access::Identity, config::Limits, error::Failure};

/// The limits of everybody, shared by all cores. What was used survives a change of the configuration.
#[derive(Debug)]
pub(crate) struct Limiter;

/// The right to run one request.
#[derive(Debug)]
pub(crate) struct Held;

impl Limiter {
    pub(crate) fn new(_limits: &Limits) -> Self {
        Self
    }

    /// Takes over the limits of the whole gateway.
    pub(crate) fn apply(&self, _limits: &Limits) {}

    /// Forgets what nobody uses, for as long as the gateway runs.
    pub(crate) async fn tend(&self) {
        std::future::pending::<()>().await;
    }

    /// Takes what a request needs of all limits that apply to it, or nothing.
    ///
    /// # Errors
    /// 429, with the limit that is used up.
    pub(crate) fn admit(
        &self,
        _identity: &Identity,
        _model: &str,
        _model_limits: &Limits,
        _estimate_input: u64,
        _estimate_output: u64,
    ) -> Result<Held, Failure> {
        Ok(Held)
    }
}

impl Held {
    /// Counts tokens of the answer as they come.
    pub(crate) fn output(&self, _tokens: u64) {}

    /// What the request has really used.
    pub(crate) fn settle(&self, _input: Option<u64>, _output: Option<u64>) {}

    /// The headers that tell the client where it stands.
    pub(crate) fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }
}
