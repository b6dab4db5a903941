//! Work in a queue, and the handle of whoever waits for it.

use std::{
    cell::{OnceCell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tracing::Span;

use super::{shared::Shared, sync::thread_local};
use crate::{Error, Result};

mod cell;

pub use cell::Work;
pub(super) use cell::{Alone, Cell, Once, Turns};

/// Where a job is. Closures are never woken, so only futures go beyond [`RUNNING`](status::RUNNING).
mod status {
    /// In its queue, or on the way to a thread.
    pub(super) const WAITING: u8 = 0;
    /// On a thread.
    pub(super) const RUNNING: u8 = 1;
    /// On a thread, and to be queued again afterwards.
    pub(super) const AGAIN: u8 = 2;
    /// Nowhere, until somebody wakes it.
    pub(super) const PARKED: u8 = 3;
}

/// What the executor needs to know of a job, whatever it computes.
#[derive(Debug)]
pub(super) struct Tag {
    /// Its last place in a queue.
    number: AtomicU64,
    status: AtomicU8,
    cancelled: AtomicBool,
    waited: AtomicU64,
    /// Where it was brought, if anybody traces. In a box, because jobs are many and traces are rare.
    span: Option<Box<Span>>,
}

impl Tag {
    fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            status: AtomicU8::new(status::WAITING),
            cancelled: AtomicBool::new(false),
            waited: AtomicU64::new(0),
            span: Some(Span::current()).filter(|span| !span.is_disabled()).map(Box::new),
        }
    }

    /// Notes its place. Under the lock of the schedule, like the next three.
    pub(super) fn queued(&self, number: u64) {
        self.number.store(number, Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Relaxed)
    }

    /// After a turn that did not end it: whether it goes back into its queue at once.
    pub(super) fn park(&self) -> bool {
        let again = self.status.load(Relaxed) == status::AGAIN;
        self.status.store(if again { status::WAITING } else { status::PARKED }, Relaxed);
        again
    }

    /// Whether it is to be queued now.
    pub(super) fn wake(&self) -> bool {
        if self.is_cancelled() {
            return false;
        }
        match self.status.load(Relaxed) {
            status::PARKED => self.status.store(status::WAITING, Relaxed),
            status::RUNNING => {
                self.status.store(status::AGAIN, Relaxed);
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Its turn begins. Whoever wakes it from now on was given its waker after this.
    fn begin(&self, waited: Duration) {
        self.status.store(status::RUNNING, Relaxed);
        self.waited.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long it has waited in its queue.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Relaxed))
    }

    /// Asks it to stop. Whether it is parked, so that nobody else will end it.
    pub(super) fn cancel(&self) -> bool {
        self.cancelled.store(true, Relaxed);
        self.status.load(Relaxed) == status::PARKED
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }
}

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The job is done.
    Done,
    /// It waits, or has asked to be queued again.
    Pending,
}

/// Work that a thread can run.
pub(super) trait Job: Send + Sync {
    fn tag(&self) -> &Tag;
    /// Runs it; `own` is the pointer that it is behind.
    fn run(&self, own: &Arc<dyn Job>) -> Progress;
    /// Ends it without a turn; whoever waits for it is told.
    fn discard(&self, error: Error);
}

// The model checker knows no constants here.
#[cfg_attr(not(feature = "shuttle"), expect(clippy::missing_const_for_thread_local, reason = "see above"))]
mod current {
    use super::{Arc, Job, OnceCell, RefCell, Shared, thread_local};

    thread_local! {
        pub(super) static JOB: RefCell<Option<Arc<dyn Job>>> = RefCell::new(None);
        pub(super) static EXECUTOR: OnceCell<Arc<Shared>> = OnceCell::new();
    }
}
use current::{EXECUTOR, JOB};

/// Makes this thread one of the executor's.
pub(super) fn enter(shared: &Arc<Shared>) {
    EXECUTOR.with(|executor| drop(executor.set(Arc::clone(shared))));
}

/// Runs a job as the thread's current one, and gives it back.
pub(super) fn run(job: Arc<dyn Job>, waited: Duration) -> (Arc<dyn Job>, Progress) {
    job.tag().begin(waited);
    if job.tag().is_cancelled() {
        job.discard(Error::cancelled());
        return (job, Progress::Done);
    }
    JOB.with(|current| current.replace(Some(job)));
    let progress = JOB.with(|current| {
        let current = current.borrow();
        let job = current.as_ref().expect("set above");
        match &job.tag().span {
            None => job.run(job),
            Some(span) => span.in_scope(|| job.run(job)),
        }
    });
    let job = JOB.with(RefCell::take).expect("set above");
    (job, progress)
}

/// Whether whoever waited for the work that runs on this thread has left: it may as well stop.
/// `false` on threads that no executor owns.
pub fn is_cancelled() -> bool {
    JOB.with(|job| job.borrow().as_ref().is_some_and(|job| job.tag().is_cancelled()))
}

/// Whether another queue waits for a thread: long work may want to make room (see [`yield_turn`]).
/// `false` on threads that no executor owns.
pub fn others_wait() -> bool {
    EXECUTOR.with(|executor| executor.get().is_some_and(|shared| shared.someone_is_ready()))
}

/// A point where asynchronous work on an executor ([`Queue::run_async`](super::Queue::run_async)) makes room: if a queue
/// waits for a thread, the rest of the work goes back into its queue; if none does, this is done at once.
pub async fn yield_turn() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded || !others_wait() {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Makes an error of a panic.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    // What the closure leaves half-done is its own: nobody else can reach it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Error::panicked(&*panic))
}
