//! What a client says.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A message. One struct for all of them: a request's body stays as it is written, which tagged enums cannot do.
#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) r#type: Kind,
    pub(super) r#ref: u32,
    pub(super) path: Option<String>,
    pub(super) body: Option<Box<RawValue>>,
    pub(super) idempotency_key: Option<String>,
    pub(super) stream: Option<String>,
    pub(super) after: Option<u64>,
    pub(super) last_event_id: Option<String>,
    #[serde(default)]
    pub(super) credit: u64,
    #[serde(default)]
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) frames: Form,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Start,
    Resume,
    Credit,
    Stop,
    Leave,
}

/// How events travel.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    #[default]
    Json,
    Verbatim,
}
