//! What is said of a call beside its messages.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// A method of a service, and what travels with the call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The service, with its package if it has one: `flumen.generation.v1.Generation`, or `Echo`.
    pub service: String,
    /// The method.
    pub method: String,
    /// When the answer must be complete. It travels as the time that is left.
    pub deadline: Option<Instant>,
    /// What else travels.
    pub metadata: Metadata,
}

impl Call {
    /// A call of a method, without a deadline.
    pub fn new(service: impl Into<String>, method: impl Into<String>) -> Self {
        Self { service: service.into(), method: method.into(), ..Self::default() }
    }

    /// The same with a deadline so long from now.
    pub fn within(self, span: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(span), ..self }
    }

    /// The same with one more plain header; see [`Metadata::plain`].
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.plain.insert(key.into(), value.into());
        self
    }

    /// How much time is left.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Text that travels with a call, or with its answer. Keys are in lower case, words parted by `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Headers of this call: `traceparent`, `x-request-id`. On TTHeader Streaming, entries of the header's string map.
    pub plain: BTreeMap<String, String>,
    /// Kitex's transient values: for the next hop only. `rpc-transit-*` in HTTP/2, `RPC_TRANSIT_*` in TTHeader.
    pub transient: BTreeMap<String, String>,
    /// Kitex's persistent values: for every hop behind. `rpc-persist-*`, `RPC_PERSIST_*`.
    pub persistent: BTreeMap<String, String>,
}

/// What messages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Protocol buffers.
    #[default]
    Proto,
    /// Thrift's binary protocol, a bare struct a message.
    Thrift,
}
