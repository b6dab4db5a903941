use std::{fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    Backoff, Context, Error, Result, Run, Sketch, Streaming,
    module::{Module, Named},
    pipe::Pipe,
    recover::{Catch, Fallback, Finally, Outcome, Retry},
    repeat::Repeat,
    series::Then,
    time::Timeout,
};

/// A unit of work: an async function of a context and an input.
///
/// [`task`] makes one of a closure or an `async fn`; the methods compose it with others. Everything is checked by the
/// compiler from the first input to the last output, and a composition is a value: nothing runs before [`run`](Self::run),
/// and it can run any number of times, also at the same time.
///
/// Every task is cancel-safe in that dropping its future stops it: no work of a run outlives the run, save what
/// [`Context::detach`] was told to.
///
/// ```
/// use flumen_flow::{Context, Task, task};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> flumen_flow::Result<()> {
/// let flow = task(|_, name: String| async move { Ok(name.len()) })
///     .then(|_, length| async move { Ok(length * 2) });
/// assert_eq!(flow.run(&Context::new(), "river".into()).await?, 10);
/// # Ok(()) }
/// ```
pub trait Task: Send + Sync {
    /// What it works on.
    type Input: Send;
    /// What it makes of it.
    type Output: Send;

    /// Runs the task. Combinators call this; so may you.
    ///
    /// # Errors
    /// What the task says. A panic passes through, until a named task or [`start`](Self::start) makes it an error.
    fn run(&self, cx: &Context, input: Self::Input) -> impl Future<Output = Result<Self::Output>> + Send;

    /// What it looks like: for [`Sketch::mermaid`] and `Display`.
    fn sketch(&self) -> Sketch {
        Sketch::task_of_type::<Self>()
    }

    /// Then this function, with the output as its input.
    fn then<O, F, Fut>(self, f: F) -> Then<Self, Func<Self::Output, F>>
    where
        Self: Sized,
        O: Send,
        F: Fn(Context, Self::Output) -> Fut + Send + Sync,
        Fut: Future<Output = Result<O>> + Send,
    {
        Then::new(self, task(f))
    }

    /// Then that task, with the output as its input.
    fn chain<T>(self, next: T) -> Then<Self, T>
    where
        Self: Sized,
        T: Task<Input = Self::Output>,
    {
        Then::new(self, next)
    }

    /// Runs the next task while this one still runs: the frames that this one emits ([`Context::out`]) are the stream
    /// that the next one takes as its input.
    fn pipe<F, T>(self, next: T) -> Pipe<Self, T, F>
    where
        Self: Sized,
        F: flumen_stream::Frame + Send + 'static,
        T: Task<Input = crate::Frames<F>>,
    {
        Pipe::new(self, next)
    }

    /// Gives the task a name, for errors, events, and the tree of a run. The tree remembers every name, so names come from a
    /// small set: not a new one for each user.
    fn named(self, name: impl Into<crate::Name>) -> Named<Self>
    where
        Self: Sized,
    {
        Named::new(name.into(), self)
    }

    /// Makes a named flow of its own: own scope of context values, own count of runs.
    fn module(self, name: impl Into<crate::Name>) -> Module<Self>
    where
        Self: Sized,
    {
        Module::new(name.into(), self)
    }

    /// Repeats the task on its own output; say how often with the methods of [`Repeat`].
    fn repeat(self) -> Repeat<Self>
    where
        Self: Sized + Task<Output = <Self as Task>::Input>,
    {
        Repeat::new(self)
    }

    /// Tries again after a failure that is marked retryable.
    fn retry(self, backoff: Backoff) -> Retry<Self>
    where
        Self: Sized,
        Self::Input: Clone,
    {
        Retry::new(self, backoff)
    }

    /// Fails when it takes longer than this.
    fn timeout(self, after: Duration) -> Timeout<Self>
    where
        Self: Sized,
    {
        Timeout::new(self, after)
    }

    /// Runs the other task on the same input when this one fails.
    fn fallback<T>(self, other: T) -> Fallback<Self, T>
    where
        Self: Sized,
        Self::Input: Clone,
        T: Task<Input = Self::Input, Output = Self::Output>,
    {
        Fallback::new(self, other)
    }

    /// Makes an output, or another error, of a failure.
    fn catch<F>(self, handler: F) -> Catch<Self, F>
    where
        Self: Sized,
        F: Fn(&Context, Error) -> Result<Self::Output> + Send + Sync,
    {
        Catch::new(self, handler)
    }

    /// Calls the function exactly once at the end of each run, whatever the end: success, failure, panic, cancel.
    fn finally<F>(self, f: F) -> Finally<Self, F>
    where
        Self: Sized,
        F: Fn(&Context, Outcome<'_>) + Send + Sync,
    {
        Finally::new(self, f)
    }

    /// The task behind a pointer, so that tasks of different make have one type. Cheap to clone.
    fn boxed(self) -> BoxTask<Self::Input, Self::Output>
    where
        Self: Sized + 'static,
    {
        BoxTask { task: Arc::new(self) }
    }

    /// Starts a run as a task of the runtime. Dropping the [`Run`] cancels it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    fn start(self, cx: &Context, input: Self::Input) -> Run<Self::Output>
    where
        Self: Sized + 'static,
        Self::Input: 'static,
        Self::Output: 'static,
    {
        Run::start(self, cx, input)
    }

    /// Starts a run whose emitted frames are a stream, bounded at 64 KiB. Dropping it cancels the run.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    fn stream<F>(self, cx: &Context, input: Self::Input) -> Streaming<F, Self::Output>
    where
        Self: Sized + 'static,
        Self::Input: 'static,
        Self::Output: 'static,
        F: flumen_stream::Frame + Send + 'static,
    {
        Streaming::start(self, cx, input, flumen_stream::Watermarks::new(64 * 1024))
    }
}

impl<T: Task + ?Sized> Task for &T {
    type Input = T::Input;
    type Output = T::Output;

    fn run(&self, cx: &Context, input: Self::Input) -> impl Future<Output = Result<Self::Output>> + Send {
        (**self).run(cx, input)
    }

    fn sketch(&self) -> Sketch {
        (**self).sketch()
    }
}

impl<T: Task + ?Sized> Task for Arc<T> {
    type Input = T::Input;
    type Output = T::Output;

    fn run(&self, cx: &Context, input: Self::Input) -> impl Future<Output = Result<Self::Output>> + Send {
        (**self).run(cx, input)
    }

    fn sketch(&self) -> Sketch {
        (**self).sketch()
    }
}

/// A function as a task; see [`task`].
pub struct Func<I, F> {
    f: F,
    input: PhantomData<fn(I)>,
}

/// Makes a task of an `async fn` or a closure that takes a [`Context`] and an input and returns a [`Result`].
///
/// ```
/// use flumen_flow::{Context, Result, Task, task};
///
/// async fn length(_cx: Context, text: String) -> Result<usize> {
///     Ok(text.len())
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(task(length).run(&Context::new(), "river".into()).await.unwrap(), 5);
/// # }
/// ```
pub fn task<I, O, F, Fut>(f: F) -> Func<I, F>
where
    I: Send,
    O: Send,
    F: Fn(Context, I) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O>> + Send,
{
    Func { f, input: PhantomData }
}

impl<I, O, F, Fut> Task for Func<I, F>
where
    I: Send,
    O: Send,
    F: Fn(Context, I) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O>> + Send,
{
    type Input = I;
    type Output = O;

    fn run(&self, cx: &Context, input: I) -> impl Future<Output = Result<O>> + Send {
        (self.f)(cx.clone(), input)
    }

    fn sketch(&self) -> Sketch {
        Sketch::task_of_type::<F>()
    }
}

impl<I, F: Clone> Clone for Func<I, F> {
    fn clone(&self) -> Self {
        Self { f: self.f.clone(), input: PhantomData }
    }
}

impl<I, F> fmt::Debug for Func<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Func").finish_non_exhaustive()
    }
}

/// A task of any make behind a pointer; see [`Task::boxed`].
pub struct BoxTask<I, O> {
    task: Arc<dyn Erased<I, O>>,
}

trait Erased<I, O>: Send + Sync {
    fn run_boxed<'a>(&'a self, cx: &'a Context, input: I) -> BoxFuture<'a, Result<O>>
    where
        I: 'a;
    fn sketch_boxed(&self) -> Sketch;
}

impl<T: Task> Erased<T::Input, T::Output> for T {
    fn run_boxed<'a>(&'a self, cx: &'a Context, input: T::Input) -> BoxFuture<'a, Result<T::Output>>
    where
        T::Input: 'a,
    {
        Box::pin(self.run(cx, input))
    }

    fn sketch_boxed(&self) -> Sketch {
        self.sketch()
    }
}

impl<I: Send, O: Send> Task for BoxTask<I, O> {
    type Input = I;
    type Output = O;

    async fn run(&self, cx: &Context, input: I) -> Result<O> {
        self.task.run_boxed(cx, input).await
    }

    fn sketch(&self) -> Sketch {
        self.task.sketch_boxed()
    }
}

impl<I, O> Clone for BoxTask<I, O> {
    fn clone(&self) -> Self {
        Self { task: Arc::clone(&self.task) }
    }
}

impl<I, O> fmt::Debug for BoxTask<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxTask").finish_non_exhaustive()
    }
}
