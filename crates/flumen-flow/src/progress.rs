//! What a run tells of its named tasks: the tree of those that were run, and events as they happen.

use std::{
    fmt,
    pin::Pin,
    task::{Context as Cx, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, future::BoxFuture};
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

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
/// [`Context::observed`](crate::Context::observed). The run never waits for it: a reader that is slower sees [`TaskEventKind::Missed`].
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
