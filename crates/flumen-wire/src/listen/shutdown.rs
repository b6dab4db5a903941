use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The end of a server in two steps: `drain` lets running requests finish, `abort` ends them.
///
/// Cheap to clone; every part that must notice holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: Step,
    abort: Step,
}

#[derive(Clone, Debug, Default)]
struct Step {
    token: CancellationToken,
    /// Set just before the token wakes anybody; unlike the token it can be read without a lock.
    begun: Arc<AtomicBool>,
}

impl Step {
    fn begin(&self) {
        self.begun.store(true, Relaxed);
        self.token.cancel();
    }

    fn signal(&self) -> Signal {
        let wait = Box::pin(self.token.clone().cancelled_owned());
        Signal { wait, begun: Arc::clone(&self.begun), waker: None }
    }
}

/// After the abort, how long streams have to say their last words to their clients.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

impl Shutdown {
    /// Nothing has been shut down yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops taking new work.
    pub fn drain(&self) {
        self.drain.begin();
    }

    /// Ends what still runs; drains as well.
    pub fn abort(&self) {
        self.drain.begin();
        self.abort.begin();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.begun.load(Relaxed)
    }

    /// Waits for the drain to begin. Cancel-safe.
    pub async fn draining(&self) {
        self.drain.token.cancelled().await;
    }

    /// Waits for the abort. Cancel-safe.
    pub async fn aborted(&self) {
        self.abort.token.cancelled().await;
    }

    /// The abort, for code that polls for it with every event.
    pub fn abort_signal(&self) -> Signal {
        self.abort.signal()
    }

    /// The beginning of the drain, for code that polls for it with every event.
    pub fn drain_signal(&self) -> Signal {
        self.drain.signal()
    }

    /// Waits until nobody need be waited for any more: a moment after the abort. Cancel-safe.
    pub async fn over(&self) {
        self.aborted().await;
        sleep(LAST_WORDS).await;
    }
}

/// One step of a shutdown, cheap to poll again and again from the same task.
pub struct Signal {
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
    begun: Arc<AtomicBool>,
    waker: Option<Waker>,
}

impl Signal {
    /// Ready once the step has begun.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.begun.load(Relaxed) {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.wait.as_mut().poll(cx)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("begun", &self.begun).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_signal_that_was_polled_before_wakes_its_task() {
        let shutdown = Shutdown::new();
        let (mut drain, mut abort) = (shutdown.drain_signal(), shutdown.abort_signal());
        let waiting = tokio::spawn(async move {
            poll_fn(|cx| drain.poll(cx)).await;
            poll_fn(|cx| abort.poll(cx)).await;
        });
        tokio::task::yield_now().await;
        shutdown.drain();
        tokio::task::yield_now().await;
        assert!(shutdown.is_draining() && !waiting.is_finished());
        shutdown.abort();
        waiting.await.unwrap();
    }
}
