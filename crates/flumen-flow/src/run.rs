use std::{
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context as Cx, Poll, ready},
    time::Duration,
};

use flumen_stream::{Cause, Cursor, End, Frame, Watermarks};
use futures_util::{Stream, future::BoxFuture};
use serde::Serialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinHandle,
    time::timeout_at,
};

use crate::{
    Context, Error, ErrorKind, Out, Result, Task,
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
async fn drive<T: Task>(task: T, cx: Context, input: T::Input) -> Result<T::Output> {
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

/// What a named task is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It runs.
    Running,
    /// It succeeded.
    Finished,
    /// It failed.
    Failed,
    /// It was dropped before its end, or cancelled by name.
    Cancelled,
}

/// The named tasks of a run. `Display` draws it.
#[derive(Clone, Debug, Serialize)]
pub struct RunTree {
    /// The task's name.
    pub name: String,
    /// What it is at.
    pub state: TaskState,
    /// How often it began.
    pub runs: u64,
    /// When it began the last time, since the start of the run.
    pub started: Duration,
    /// What all its runs took.
    pub elapsed: Duration,
    /// How long its work waited in executors' queues.
    pub waited: Duration,
    /// The named tasks within it.
    pub children: Vec<RunTree>,
}

impl RunTree {
    fn draw(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let state = match self.state {
            TaskState::Running => "…",
            TaskState::Finished => "✓",
            TaskState::Failed => "✗",
            TaskState::Cancelled => "-",
        };
        write!(
            f,
            "{:indent$}{state} {} at {:.1?} took {:.1?}",
            "",
            self.name,
            self.started,
            self.elapsed,
            indent = 2 * depth
        )?;
        if self.runs > 1 {
            write!(f, " ({} runs)", self.runs)?;
        }
        if !self.waited.is_zero() {
            write!(f, ", {:.1?} of it in queues", self.waited)?;
        }
        writeln!(f)?;
        self.children.iter().try_for_each(|child| child.draw(f, depth + 1))
    }
}

impl fmt::Display for RunTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.draw(f, 0)
    }
}

/// Something that happened to a named task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskEvent {
    /// The names from the outermost to the task, joined by `/`; empty for the run itself.
    pub path: String,
    /// Since the start of the run.
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub kind: TaskEventKind,
}

/// What happened to a named task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEventKind {
    /// It began.
    Started,
    /// It succeeded.
    Finished,
    /// It failed.
    Failed {
        /// The error as text.
        error: String,
    },
    /// It failed and will be tried again.
    Retrying {
        /// The try that failed, from 1.
        attempt: u32,
        /// How long until the next.
        pause: Duration,
        /// The error as text.
        error: String,
    },
    /// It was cancelled, or the task around it ended first.
    Cancelled,
    /// The reader was too slow for this many events.
    Missed {
        /// How many.
        events: u64,
    },
}

/// What happens to the named tasks of a run, as it happens, and last, under an empty path, the end of the run; see
/// [`Context::observed`]. The run never waits for it: a reader that is slower sees [`TaskEventKind::Missed`].
pub struct Events {
    over: bool,
    next: BoxFuture<'static, (Receiver<TaskEvent>, Result<TaskEvent, RecvError>)>,
}

impl From<Receiver<TaskEvent>> for Events {
    fn from(receiver: Receiver<TaskEvent>) -> Self {
        Self { over: false, next: Box::pin(receive(receiver)) }
    }
}

async fn receive(mut receiver: Receiver<TaskEvent>) -> (Receiver<TaskEvent>, Result<TaskEvent, RecvError>) {
    let event = receiver.recv().await;
    (receiver, event)
}

impl Stream for Events {
    type Item = TaskEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<TaskEvent>> {
        if self.over {
            return Poll::Ready(None);
        }
        let (receiver, event) = ready!(self.next.as_mut().poll(cx));
        let event = match event {
            Ok(event) => {
                self.over = event.path.is_empty();
                Some(event)
            }
            Err(RecvError::Lagged(events)) => Some(TaskEvent {
                path: "?".to_owned(),
                at: Duration::ZERO,
                kind: TaskEventKind::Missed { events },
            }),
            Err(RecvError::Closed) => None,
        };
        self.next = Box::pin(receive(receiver));
        Poll::Ready(event)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The frames of a run as they are emitted, then its failure, if it failed. Dropping it cancels the run.
///
/// A reader that does not poll pauses the tasks that emit.
pub struct Streaming<F: Frame, O> {
    frames: Cursor<F>,
    run: Run<O>,
    output: Option<Result<O>>,
    over: bool,
}

impl<F: Frame + Send + 'static, O: Send + 'static> Streaming<F, O> {
    pub(crate) fn start<T>(task: T, cx: &Context, input: T::Input, marks: Watermarks) -> Self
    where
        T: Task<Output = O> + 'static,
        T::Input: 'static,
    {
        let (writer, frames) = flumen_stream::log(marks);
        let out = Out::new(writer);
        let cx = cx.for_run().with_out(out.clone());
        let handle = cx.handle();
        let work = async move {
            let outcome = drive(task, cx, input).await;
            out.close(outcome.as_ref().err()).await;
            outcome
        };
        Self { frames, run: Run { task: tokio::spawn(work), handle }, output: None, over: false }
    }

    /// Steers and shows the run.
    pub fn handle(&self) -> RunHandle {
        self.run.handle.clone()
    }

    /// Waits for the run's end and gives its output. Frames that were not read are dropped.
    ///
    /// # Errors
    /// Those of the run.
    pub async fn output(mut self) -> Result<O> {
        if let Some(output) = self.output.take() {
            return output;
        }
        while let Some(Ok(_)) = self.frames.next().await {}
        (&mut self.run).await
    }
}

impl<F: Frame + Send + 'static, O: Send + Unpin + 'static> Stream for Streaming<F, O> {
    type Item = Result<F>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<F>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(Ok(frame)) = ready!(Pin::new(&mut this.frames).poll_next(cx)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let outcome = ready!(Pin::new(&mut this.run).poll(cx));
        this.over = true;
        match outcome {
            Ok(output) => {
                this.output = Some(Ok(output));
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl<F: Frame, O> fmt::Debug for Streaming<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}

/// How a failed producer ends its stream.
pub(crate) fn end_of(error: &Error) -> End {
    let cause = match error.kind() {
        ErrorKind::Cancelled => Cause::Stopped,
        ErrorKind::TimedOut => Cause::TotalTimeout,
        _ => Cause::Internal,
    };
    End::new(cause, error.to_string())
}
