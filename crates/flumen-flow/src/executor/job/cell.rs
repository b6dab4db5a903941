use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

#[cfg(doc)]
use super::is_cancelled;
use super::{
    super::{handle::QueueHandle, sync::Mutex},
    Job, Progress, Tag, caught,
};
use crate::{Error, Result};

/// Where the outcome of work waits for whoever wants it.
enum Slot<W, T> {
    Work(W),
    /// It runs, or is polled.
    Taken,
    Done(Result<T>),
    Gone,
}

/// A job: one allocation that holds the work, then its outcome.
pub(in crate::executor) struct Cell<W, T> {
    tag: Tag,
    slot: Mutex<(Slot<W, T>, Option<Waker>)>,
}

impl<W, T> Cell<W, T> {
    pub(in crate::executor) fn new(work: W) -> Self {
        Self { tag: Tag::new(), slot: Mutex::new((Slot::Work(work), None)) }
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

/// A closure.
pub(in crate::executor) struct Once<F>(pub(in crate::executor) F);

impl<F, T> Job for Cell<Once<F>, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn run(&self, _own: &Arc<dyn Job>) -> Progress {
        if let (Slot::Work(Once(work)), _) = self.swap(Slot::Taken) {
            self.settle(caught(work));
        }
        Progress::Done
    }

    fn discard(&self, error: Error) {
        self.settle(Err(error));
    }
}

/// A closure whose outcome nobody wants.
pub(in crate::executor) struct Alone<F>(pub(in crate::executor) F);

impl<F: FnOnce() + Send> Job for Cell<Alone<F>, ()> {
    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn run(&self, _own: &Arc<dyn Job>) -> Progress {
        if let (Slot::Work(Alone(work)), _) = self.swap(Slot::Gone)
            && let Err(error) = caught(work)
        {
            tracing::error!(%error, "submitted work failed");
        }
        Progress::Done
    }

    fn discard(&self, _error: Error) {
        drop(self.swap(Slot::Gone));
    }
}

/// A future, polled turn by turn.
pub(in crate::executor) struct Turns<F> {
    future: Pin<Box<F>>,
    /// Where it goes back when it is woken.
    queue: Arc<QueueHandle>,
}

impl<F> Turns<F> {
    pub(in crate::executor) fn new(future: F, queue: Arc<QueueHandle>) -> Self {
        Self { future: Box::pin(future), queue }
    }
}

impl<F> Job for Cell<Turns<F>, F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn run(&self, own: &Arc<dyn Job>) -> Progress {
        let (Slot::Work(mut turns), _) = self.swap(Slot::Taken) else { return Progress::Done };
        let waker = Waker::from(Arc::new(Again { job: Arc::clone(own), queue: Arc::clone(&turns.queue) }));
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

/// Queues a job again.
struct Again {
    job: Arc<dyn Job>,
    queue: Arc<QueueHandle>,
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue.wake(Arc::clone(&self.job));
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
    pub(in crate::executor) fn new<W: Send + 'static>(cell: Arc<Cell<W, T>>, queue: Arc<QueueHandle>) -> Self
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
