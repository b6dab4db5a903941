//! How those who work on an answer learn that nobody wants it, and why.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a call was cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancel {
    /// The number that TTHeader Streaming gives it: 12007 for "the caller does not want it any more", 12008 for one with a cause
    /// of its own.
    pub wire: Option<i32>,
    /// In words, or a code such as `client_gone`.
    pub reason: String,
    /// Who cancelled first, and through whose hands that went.
    pub path: Vec<String>,
}

impl Cancel {
    /// For this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { wire: None, reason: reason.into(), path: Vec::new() }
    }
}

/// The cancelling of one call, as its handler sees it. Cheap to clone.
///
/// A handler that is cancelled is dropped; what it must do then it does in a destructor, where [`reason`](Self::reason) tells why.
/// Work that it has put elsewhere (threads, processes) waits for [`cancelled`](Self::cancelled).
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    token: CancellationToken,
    cancel: Arc<OnceLock<Cancel>>,
}

impl Cancellation {
    /// Cancels. Only the first reason counts.
    pub fn cancel(&self, cancel: Cancel) {
        // Whoever was first has said why.
        let _ = self.cancel.set(cancel);
        self.token.cancel();
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Why, if it has been.
    pub fn reason(&self) -> Option<&Cancel> {
        self.cancel.get()
    }

    /// Waits until it is cancelled. Cancel-safe.
    pub async fn cancelled(&self) -> Cancel {
        self.token.cancelled().await;
        self.cancel.get().cloned().unwrap_or_default()
    }
}
