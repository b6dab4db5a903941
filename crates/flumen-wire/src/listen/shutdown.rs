use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The end of a server in two steps: `drain` lets running requests finish, `abort` ends them.
///
/// Cheap to clone; every part that must notice holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

/// After the abort, how long streams have to say their last words to their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Shutdown {
    /// Nothing has been shut down yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops taking new work.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends what still runs; drains as well.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits for the drain to begin. Cancel-safe.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits for the abort. Cancel-safe.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }

    /// The abort, as an owned future for code that polls by hand.
    pub fn abort_token(&self) -> CancellationToken {
        self.abort.clone()
    }

    pub(super) async fn over(&self) {
        self.abort.cancelled().await;
        sleep(LAST_WORDS).await;
    }
}
