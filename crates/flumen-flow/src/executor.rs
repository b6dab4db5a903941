//! Executors: threads for work that computes or blocks, in named queues that get fair shares.
//!
//! An [`Executor`] has threads and named [`Queue`]s. A queue with waiting work holds one ticket; threads take tickets in
//! turn, so that no queue has to wait for another's backlog. What a turn costs is the executor's [`Policy`]; weights,
//! priorities, caps and bounds are the queue's ([`QueueConfig`]). Queues that nobody holds and that have no work are
//! forgotten, so a queue per tenant costs nothing when the tenant is gone.
//!
//! ```
//! use flumen_flow::executor::{Executor, Policy, QueueConfig};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let executor = Executor::new("render", 2, Policy::Time);
//! let gold = executor.define("gold", QueueConfig::default().weight(3)).unwrap();
//! assert_eq!(gold.run(|| 6 * 7).await.unwrap(), 42);
//! # }
//! ```

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    thread::available_parallelism,
};

use crate::{Context, Result, Sketch, Task};

mod algorithms;
mod config;
mod handle;
mod job;
mod schedule;
mod shared;
mod stats;
mod sync;
mod worker;

pub use config::{Policy, QueueConfig, WhenFull};
pub use job::{Work, is_cancelled, others_wait, yield_turn};
pub use stats::{QueueStats, Spread};

use handle::{Owner, QueueHandle};
use job::{Alone, Cell, Once, Turns};
use shared::Shared;

/// Threads with named queues. Cheap to clone; when the last clone, [`Queue`] and [`Work`] are gone, the threads end after the
/// turns they are in, and detached work that still waits is dropped.
#[derive(Clone)]
pub struct Executor {
    owner: Arc<Owner>,
}

/// A queue name was used with two configurations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue `{name}` exists with another configuration")]
pub struct QueueConflict {
    /// The queue's name.
    pub name: String,
}

impl Executor {
    /// An executor with up to this many threads; they start when there is work for them.
    pub fn new(name: impl Into<String>, threads: usize, policy: Policy) -> Self {
        Self { owner: Arc::new(Owner { shared: Shared::new(name.into(), threads, policy) }) }
    }

    /// The executor of this process for work that computes: a thread per core, policy [`Policy::Count`].
    pub fn compute() -> &'static Self {
        static COMPUTE: OnceLock<Executor> = OnceLock::new();
        COMPUTE.get_or_init(|| {
            let cores = available_parallelism().map_or(2, std::num::NonZero::get);
            Self::new("compute", cores, Policy::Count)
        })
    }

    /// The executor of this process for file work and other calls that block: up to 32 threads.
    pub fn blocking() -> &'static Self {
        static BLOCKING: OnceLock<Executor> = OnceLock::new();
        BLOCKING.get_or_init(|| Self::new("blocking", 32, Policy::Count))
    }

    /// The queue of a name: the one that exists, or a new one with [`QueueConfig::default`].
    pub fn queue(&self, name: &str) -> Queue {
        match Shared::queue(&self.owner, name, None) {
            Ok(handle) => Queue { handle },
            // Without a configuration there is nothing that could differ.
            Err(QueueConflict { name }) => unreachable!("the queue `{name}` was asked for as it is"),
        }
    }

    /// The queue of a name with this configuration.
    ///
    /// # Errors
    /// When a queue of this name exists with another configuration.
    pub fn define(&self, name: &str, config: QueueConfig) -> Result<Queue, QueueConflict> {
        Shared::queue(&self.owner, name, Some(config)).map(|handle| Queue { handle })
    }

    /// Changes how many threads there may be, at least 1. Superfluous ones end after the turn that they are in.
    pub fn set_threads(&self, threads: usize) {
        self.owner.shared.set_threads(threads);
    }

    /// How many threads there may be.
    pub fn threads(&self) -> usize {
        self.owner.shared.wanted_threads()
    }

    /// How each queue does, by name.
    pub fn stats(&self) -> Vec<QueueStats> {
        self.owner.shared.stats()
    }

    /// Refuses further work, ends waiting work with [`ErrorKind::Refused`](crate::ErrorKind::Refused), and waits until the
    /// turns that run are over and the threads gone.
    ///
    /// Cancel-safe: the executor ends anyway.
    pub async fn shutdown(&self) {
        self.owner.shared.end();
        self.owner.shared.ended().await;
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// A named queue of an [`Executor`]. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    handle: Arc<QueueHandle>,
}

impl Queue {
    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.handle.name
    }

    /// How it does.
    pub fn stats(&self) -> QueueStats {
        self.handle.owner.shared.stats_of(self.handle.id)
    }

    /// Runs a closure in its turn, and waits for what it returns. A full queue is waited for, or refuses, as configured.
    ///
    /// Dropping the future cancels the work; see [`Work`].
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused), [`ErrorKind::Panicked`](crate::ErrorKind::Panicked).
    pub async fn run<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.bring(Arc::new(Cell::new(Once(f)))).await?.await
    }

    /// Brings a closure without waiting: a full queue refuses, whatever its configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused).
    pub fn spawn<T, F>(&self, f: F) -> Result<Work<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let cell = Arc::new(Cell::new(Once(f)));
        self.handle.try_bring(cell.clone())?;
        Ok(Work::new(cell, Arc::clone(&self.handle)))
    }

    /// Brings a closure that nobody waits for, without waiting: a full queue refuses, whatever its configuration. A panic
    /// is logged.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused).
    pub fn submit<F>(&self, f: F) -> Result<()>
    where
        F: FnOnce() + Send + 'static,
    {
        self.handle.try_bring(Arc::new(Cell::new(Alone(f))))
    }

    /// Runs a future on the executor's threads, each poll in its turn, and waits for its output. Long work makes room
    /// for other queues with [`yield_turn`].
    ///
    /// # Errors
    /// Like [`run`](Self::run).
    pub async fn run_async<Fut>(&self, future: Fut) -> Result<Fut::Output>
    where
        Fut: Future<Output: Send + 'static> + Send + 'static,
    {
        self.bring(Arc::new(Cell::new(Turns::new(future, Arc::clone(&self.handle))))).await?.await
    }

    async fn bring<W: Send + 'static, T: Send + 'static>(&self, cell: Arc<Cell<W, T>>) -> Result<Work<T>>
    where
        Cell<W, T>: job::Job,
    {
        self.handle.bring(cell.clone()).await?;
        Ok(Work::new(cell, Arc::clone(&self.handle)))
    }

    /// A task that runs a function of its input in its turn.
    ///
    /// ```
    /// use flumen_flow::{Context, Task, executor::Executor};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let sort = Executor::compute().queue("sort").task(|mut words: Vec<&str>| {
    ///     words.sort_unstable();
    ///     Ok(words)
    /// });
    /// assert_eq!(sort.run(&Context::new(), vec!["b", "a"]).await.unwrap(), ["a", "b"]);
    /// # }
    /// ```
    pub fn task<I, O, F>(&self, f: F) -> Compute<I, F>
    where
        I: Send + 'static,
        O: Send + 'static,
        F: Fn(I) -> Result<O> + Send + Sync + 'static,
    {
        Compute { queue: self.clone(), f: Arc::new(f), input: PhantomData }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A function on an executor as a task; see [`Queue::task`].
pub struct Compute<I, F> {
    queue: Queue,
    f: Arc<F>,
    input: PhantomData<fn(I)>,
}

impl<I, O, F> Task for Compute<I, F>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(I) -> Result<O> + Send + Sync + 'static,
{
    type Input = I;
    type Output = O;

    async fn run(&self, cx: &Context, input: I) -> Result<O> {
        let f = Arc::clone(&self.f);
        let cell = Arc::new(Cell::new(Once(move || f(input))));
        let outcome = self.queue.bring(cell.clone()).await?.await;
        cx.state().waited(cx.node(), job::Job::tag(&*cell).waited());
        outcome?
    }

    fn sketch(&self) -> Sketch {
        Sketch::task(format!("on {}", self.queue.name()))
    }
}

impl<I, F> Clone for Compute<I, F> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), f: Arc::clone(&self.f), input: PhantomData }
    }
}

impl<I, F> fmt::Debug for Compute<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute").field("queue", &self.queue).finish_non_exhaustive()
    }
}
