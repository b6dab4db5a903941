use std::{
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context as Cx, Poll, ready},
};

use tokio::{task::JoinHandle, time::timeout_at};

use crate::{
    Context, Error, ErrorKind, Result, RunTree, Task, TaskEventKind,
    observe::{ROOT, RunState, guarded},
};

/// A flow that runs as a task of the runtime: a future of its output. Dropping it cancels the run.
///
/// It dereferences to its [`RunHandle`].
pub struct Run<O> {
    task: JoinHandle<Result<O>>,
    handle: RunHandle,
}

/// Steers and shows a run. Cheap to clone; keeps nothing running.
#[derive(Clone)]
pub struct RunHandle {
    state: Arc<RunState>,
}

impl<O: Send + 'static> Run<O> {
    pub(crate) fn start<T>(task: T, cx: &Context, input: T::Input) -> Self
    where
        T: Task<Output = O> + 'static,
        T::Input: 'static,
    {
        let cx = cx.for_run();
        let handle = cx.handle();
        Self { task: tokio::spawn(drive(task, cx, input)), handle }
    }
}

/// Runs a task under its context's deadline and cancel token.
pub(crate) async fn drive<T: Task>(task: T, cx: Context, input: T::Input) -> Result<T::Output> {
    let token = cx.cancel_token();
    let mut over = Over { state: Arc::clone(cx.state()), ended: None };
    // In a box before anything is wrapped around it: see `Entered::watch`.
    let work = guarded(Box::pin(task.run(&cx, input)));
    let deadline = cx.deadline();
    let outcome = token.run_until_cancelled(async {
        match deadline {
            Some(at) => timeout_at(at, work)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "the deadline of the run passed"))),
            None => work.await,
        }
    });
    let outcome = outcome.await.unwrap_or_else(|| Err(Error::cancelled()));
    over.ended = match &outcome {
        Ok(_) => Some(TaskEventKind::Finished),
        Err(error) if error.kind() == ErrorKind::Cancelled => None,
        Err(error) => Some(TaskEventKind::Failed { error: error.to_string() }),
    };
    outcome
}

/// Says that a run is over when it is dropped: at its end, or before it.
struct Over {
    state: Arc<RunState>,
    /// `None`: cancelled.
    ended: Option<TaskEventKind>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.state.token.cancel();
        let ended = self.ended.take().unwrap_or(TaskEventKind::Cancelled);
        self.state.tell(ROOT, || ended);
    }
}

impl<O> Run<O> {
    pub(crate) fn of(task: JoinHandle<Result<O>>, handle: RunHandle) -> Self {
        Self { task, handle }
    }

    /// Steers and shows the run, also for others than whoever waits for it.
    pub fn handle(&self) -> RunHandle {
        self.handle.clone()
    }
}

impl<O> Future for Run<O> {
    type Output = Result<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Result<O>> {
        let outcome = ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(outcome.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => Err(Error::panicked(&*panic)),
            Err(_) => Err(Error::cancelled()),
        }))
    }
}

impl<O> Deref for Run<O> {
    type Target = RunHandle;

    fn deref(&self) -> &RunHandle {
        &self.handle
    }
}

impl<O> Drop for Run<O> {
    fn drop(&mut self) {
        self.task.abort();
        self.handle.cancel();
    }
}

impl<O> fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

impl RunHandle {
    pub(crate) fn new(state: Arc<RunState>) -> Self {
        Self { state }
    }

    /// Ends the run now: its tasks are dropped where they wait, its outcome is [`ErrorKind::Cancelled`].
    pub fn cancel(&self) {
        self.state.token.cancel();
    }

    /// Cancels the named tasks at a path such as `checkout/fetch`; to the task around them they fail with
    /// [`ErrorKind::Cancelled`]. Returns how many were running.
    pub fn cancel_branch(&self, path: &str) -> usize {
        self.state.cancel_branch(path)
    }

    /// Asks the run to end well: repeats stop after the round they are in, and tasks can ask
    /// [`Context::is_stopping`].
    pub fn stop(&self) {
        self.state.stop.cancel();
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.state.token.is_cancelled()
    }

    /// What the named tasks are at.
    pub fn tree(&self) -> RunTree {
        self.state.tree()
    }
}

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("over", &self.is_over()).finish_non_exhaustive()
    }
}
