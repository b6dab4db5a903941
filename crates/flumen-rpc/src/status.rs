//! How a call ends when it does not end well.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;

mod rich;

pub use tonic::Code;

/// Why a call failed: a gRPC code, whichever protocol carried it, and a sentence for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.description())]
pub struct Status {
    /// The kind.
    pub code: Code,
    /// What happened, as the peer tells it.
    pub message: Cow<'static, str>,
    /// The number that TTHeader Streaming gave it (12001 to 12015, or the service's own).
    pub wire: Option<i32>,
    /// What the service calls an error of its business, not of the call: Kitex's `biz-status`.
    pub business: Option<Box<Business>>,
    /// The details of the rich error model (a `google.rpc.Status`, encoded); empty if there are none.
    pub details: Bytes,
    /// Why there is no connection, or none any more, if that is it.
    pub connection: Option<flumen_wire::client::ErrorKind>,
    /// Whoever cancelled, and those through whose hands that went: Kitex's `ttscp`.
    pub path: Vec<String>,
}

/// An error of the service's business: the call itself was well. Kitex sends it beside the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Business {
    /// The service's own number.
    pub code: i32,
    /// The service's own words.
    pub message: String,
    /// What else it tells.
    pub extra: BTreeMap<String, String>,
}

impl Status {
    /// A status of a kind.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            wire: None,
            business: None,
            details: Bytes::new(),
            connection: None,
            path: Vec::new(),
        }
    }

    /// The peer sent what the protocol does not allow.
    pub fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The connection is lost, or never was.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// The time is over.
    pub fn deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "the deadline of the call has passed")
    }

    /// An error of the service's business.
    pub fn business(business: Business) -> Self {
        let message = business.message.clone();
        Self { business: Some(Box::new(business)), ..Self::new(Code::Internal, message) }
    }

    /// The same with the number that TTHeader Streaming uses for it.
    pub fn with_wire(self, wire: i32) -> Self {
        Self { wire: Some(wire), ..self }
    }

    /// Whether the same call can be made again elsewhere, if nothing of an answer has come.
    pub fn may_be_tried_again(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::ResourceExhausted)
    }
}

/// There is no connection.
impl From<flumen_wire::client::Error> for Status {
    fn from(error: flumen_wire::client::Error) -> Self {
        Self { connection: Some(error.kind()), ..Self::unavailable(error.to_string()) }
    }
}
