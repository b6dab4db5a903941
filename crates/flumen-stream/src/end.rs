//! How a stream ends.

use std::{borrow::Cow, fmt};

/// Why a stream ended. Every stream has exactly one cause; it is what logs and metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The answer was delivered to its end mark.
    Complete,
    /// The last reader left before the end.
    ClientGone,
    /// The reader took nothing for too long.
    ClientStalled,
    /// Somebody asked for the generation to stop.
    Stopped,
    /// The upstream refused, failed, or broke the protocol.
    UpstreamError,
    /// The upstream ended without its dialect's end mark.
    UpstreamTruncated,
    /// No token came within the first-token timeout.
    FirstTokenTimeout,
    /// Too long a silence between two tokens.
    IdleTimeout,
    /// The whole answer took too long.
    TotalTimeout,
    /// The server shut down before the answer was done.
    Shutdown,
    /// The request was refused before any upstream was asked.
    Rejected,
    /// A fault of this program.
    Internal,
}

impl Cause {
    /// Every cause, for code that walks the list (metrics, documentation, tests).
    pub const ALL: [Self; 12] = [
        Self::Complete,
        Self::ClientGone,
        Self::ClientStalled,
        Self::Stopped,
        Self::UpstreamError,
        Self::UpstreamTruncated,
        Self::FirstTokenTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::Shutdown,
        Self::Rejected,
        Self::Internal,
    ];

    /// The cause as logs, metrics and error events spell it, for example `upstream_truncated`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::ClientStalled => "client_stalled",
            Self::Stopped => "stopped",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::FirstTokenTimeout => "first_token_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Shutdown => "shutdown",
            Self::Rejected => "rejected",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of a stream that did not complete: the cause, and a sentence for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct End {
    /// What kind of end it was.
    pub cause: Cause,
    /// A code for programs, at least as precise as the cause.
    pub code: &'static str,
    /// What happened, in words that may be shown to the client.
    pub message: Cow<'static, str>,
}

impl End {
    /// An end with its cause and message; the code is the cause's name.
    pub fn new(cause: Cause, message: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, code: cause.as_str(), message: message.into() }
    }

    /// The same end with a more precise code.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }
}
