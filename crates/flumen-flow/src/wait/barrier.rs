use std::sync::Arc;

use tokio::sync::watch;

/// Opens once it was counted down to zero. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Counter {
    left: Arc<watch::Sender<usize>>,
}

impl Counter {
    /// A counter that waits for this many counts.
    pub fn new(target: usize) -> Self {
        Self { left: Arc::new(watch::Sender::new(target)) }
    }

    /// Counts once. Counts beyond the target change nothing.
    pub fn count(&self) {
        self.left.send_modify(|left| *left = left.saturating_sub(1));
    }

    /// Counts still to come.
    pub fn left(&self) -> usize {
        *self.left.borrow()
    }

    /// Waits until it has come to zero.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.left.subscribe().wait_for(|left| *left == 0).await;
    }
}

/// Lets pass or holds up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// An open gate.
    pub fn opened() -> Self {
        Self { open: Arc::new(watch::Sender::new(true)) }
    }

    /// A closed gate.
    pub fn closed() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)) }
    }

    /// Lets all pass who wait, and who come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Holds up who comes from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}
