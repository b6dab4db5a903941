//! Work in a queue, and the handle of whoever waits for it.

use std::{
    cell::{OnceCell, RefCell},
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tracing::Span;

use super::{
    handle::QueueHandle,
    shared::Shared,
    sync::{Mutex, thread_local},
};
use crate::{Error, Result};

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
    fn run(self: Arc<Self>) -> Progress;
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
    let working = Arc::clone(&job);
    let span = job.tag().span.clone();
    JOB.with(|current| current.replace(Some(job)));
    let progress = match span {
        None => working.run(),
        Some(span) => span.in_scope(|| working.run()),
    };
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

/// Where the outcome of work waits for whoever wants it.
enum Slot<W, T> {
    Work(W),
    /// It runs, or is polled.
    Taken,
    Done(Result<T>),
    Gone,
}

/// A job: one allocation that holds the work, then its outcome.
pub(super) struct Cell<W, T> {
    tag: Tag,
    /// Where it goes back when it is woken; a closure never is.
    home: Option<Arc<QueueHandle>>,
    slot: Mutex<(Slot<W, T>, Option<Waker>)>,
}

impl<W, T> Cell<W, T> {
    pub(super) fn new(work: W, home: Option<Arc<QueueHandle>>) -> Self {
        Self { tag: Tag::new(), home, slot: Mutex::new((Slot::Work(work), None)) }
    }

    fn swap(&self, slot: Slot<W, T>) -> (Slot<W, T>, Option<Waker>) {
        let mut guard = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = if matches!(slot, Slot::Done(_)) { guard.1.take() } else { None };
        (std::mem::replace(&mut guard.0, slot), waker)
    }

    fn settle(&self, outcome: Result<T>) {
        let (old, waker) = self.swap(Slot::Done(outcome));
        // Dropped outside of the lock: it may run code of the caller's.
        drop(old);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    // What the closure leaves half-done is its own: nobody else can reach it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Error::panicked(&*panic))
}

/// A closure.
pub(super) struct Once<F>(pub(super) F);

impl<F, T> Job for Cell<Once<F>, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn run(self: Arc<Self>) -> Progress {
        if let (Slot::Work(Once(work)), _) = self.swap(Slot::Taken) {
            self.settle(caught(work));
        }
        Progress::Done
    }

    fn discard(&self, error: Error) {
        self.settle(Err(error));
    }
}

/// A future, polled turn by turn.
pub(super) struct Turns<F> {
    future: Pin<Box<F>>,
}

impl<F> Turns<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Box::pin(future) }
    }
}

impl<F> Job for Cell<Turns<F>, F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn run(self: Arc<Self>) -> Progress {
        let (Slot::Work(mut turns), _) = self.swap(Slot::Taken) else { return Progress::Done };
        let waker = Waker::from(Arc::clone(&self));
        let polled = caught(|| turns.future.as_mut().poll(&mut Context::from_waker(&waker)));
        match polled {
            Ok(Poll::Pending) => {
                self.swap(Slot::Work(turns));
                Progress::Pending
            }
            Ok(Poll::Ready(output)) => {
                self.settle(Ok(output));
                Progress::Done
            }
            Err(error) => {
                self.settle(Err(error));
                Progress::Done
            }
        }
    }

    fn discard(&self, error: Error) {
        self.settle(Err(error));
    }
}

impl<F> Wake for Cell<Turns<F>, F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        if let Some(home) = self.home.clone() {
            home.wake(self);
        }
    }
}

/// The other side of a job.
trait Outcome<T>: Send + Sync {
    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<T>>;
    fn tag(&self) -> &Tag;
    fn clear(&self);
}

impl<W: Send, T: Send> Outcome<T> for Cell<W, T>
where
    Self: Job,
    W: 'static,
    T: 'static,
{
    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let mut guard = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut guard.0, Slot::Gone) {
            Slot::Done(outcome) => Poll::Ready(outcome),
            other => {
                guard.0 = other;
                guard.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn clear(&self) {
        drop(self.swap(Slot::Gone));
    }
}

/// Work that was brought to a queue: a future of its outcome.
///
/// Dropping it cancels the work: in the queue it is removed, while it runs it can ask [`is_cancelled`]. Panics of the
/// work are errors of the kind [`ErrorKind::Panicked`](crate::ErrorKind::Panicked).
pub struct Work<T> {
    /// Gone when the outcome was taken, or the work detached.
    outcome: Option<Arc<dyn Outcome<T>>>,
    queue: Arc<QueueHandle>,
}

impl<T: Send + 'static> Work<T> {
    pub(super) fn new<W: Send + 'static>(cell: Arc<Cell<W, T>>, queue: Arc<QueueHandle>) -> Self
    where
        Cell<W, T>: Job,
    {
        Self { outcome: Some(cell), queue }
    }
}

impl<T> Work<T> {
    /// Lets the work go on without anybody who waits for it.
    pub fn detach(mut self) {
        self.outcome = None;
    }
}

impl<T> Future for Work<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(outcome) = &self.outcome else { return Poll::Ready(Err(Error::cancelled())) };
        let outcome = std::task::ready!(outcome.poll_outcome(cx));
        self.outcome = None;
        Poll::Ready(outcome)
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take()
            && self.queue.cancel(outcome.tag())
        {
            outcome.clear();
        }
    }
}

impl<T> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}
