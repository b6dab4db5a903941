//! Tasks with names, and named flows of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{Context, Name, Result, Sketch, Task};

/// A task with a name; see [`Task::named`].
#[derive(Clone, Debug)]
pub struct Named<T> {
    name: Name,
    task: T,
}

impl<T> Named<T> {
    pub(crate) fn new(name: Name, task: T) -> Self {
        Self { name, task }
    }
}

impl<T: Task> Task for Named<T> {
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        let (cx, entered) = cx.enter(&self.name);
        entered.watch(Box::pin(self.task.run(&cx, input))).await
    }

    fn sketch(&self) -> Sketch {
        self.task.sketch().named(&self.name)
    }
}

/// A named flow of its own: it sees the values of the context around it, and what it puts there itself is gone when
/// it ends; it counts its runs. Retry, timeout and fallback hung on it hold for it as a whole; see [`Task::module`].
#[derive(Clone, Debug)]
pub struct Module<T> {
    name: Name,
    task: T,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    runs: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    busy: AtomicU64,
}

/// How a [`Module`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleStats {
    /// Runs that began.
    pub runs: u64,
    /// Runs that succeeded.
    pub finished: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that were dropped before their end, and those that still go.
    pub unfinished: u64,
    /// What the runs that came to their end took together.
    pub busy: Duration,
}

impl<T> Module<T> {
    pub(crate) fn new(name: Name, task: T) -> Self {
        Self { name, task, counts: Arc::default() }
    }

    /// What all runs of this module and its clones came to.
    pub fn stats(&self) -> ModuleStats {
        let [runs, finished, failed] =
            [&self.counts.runs, &self.counts.finished, &self.counts.failed].map(|count| count.load(Relaxed));
        ModuleStats {
            runs,
            finished,
            failed,
            unfinished: runs.saturating_sub(finished + failed),
            busy: Duration::from_nanos(self.counts.busy.load(Relaxed)),
        }
    }
}

impl<T: Task> Task for Module<T> {
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        let (cx, entered) = cx.scoped().enter(&self.name);
        let began = Instant::now();
        self.counts.runs.fetch_add(1, Relaxed);
        let outcome = entered.watch(Box::pin(self.task.run(&cx, input))).await;
        let count = if outcome.is_ok() { &self.counts.finished } else { &self.counts.failed };
        count.fetch_add(1, Relaxed);
        let busy = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counts.busy.fetch_add(busy, Relaxed);
        outcome
    }

    fn sketch(&self) -> Sketch {
        Sketch::module(self.name.clone(), self.task.sketch())
    }
}
