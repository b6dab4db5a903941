//! What happens when a task fails: retry, fallback, catch, finally.

use std::fmt;

use tokio::time::sleep;

use crate::{Backoff, Context, Error, Result, Sketch, Task, TaskEventKind};

/// Tries again after failures that are marked retryable; see [`Task::retry`].
#[derive(Clone, Debug)]
pub struct Retry<T> {
    task: T,
    backoff: Backoff,
}

impl<T> Retry<T> {
    pub(crate) fn new(task: T, backoff: Backoff) -> Self {
        Self { task, backoff }
    }
}

impl<T: Task<Input: Clone>> Task for Retry<T> {
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        let mut attempt = 1;
        loop {
            let error = match self.task.run(cx, input.clone()).await {
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            let Some(pause) = self.backoff.pause(attempt) else { return Err(error) };
            cx.state().tell(cx.node(), || TaskEventKind::Retrying {
                attempt,
                pause,
                error: error.to_string(),
            });
            sleep(pause).await;
            attempt += 1;
        }
    }

    fn sketch(&self) -> Sketch {
        Sketch::wrap("retry", self.task.sketch())
    }
}

/// Runs another task when the first one fails; see [`Task::fallback`].
#[derive(Clone, Debug)]
pub struct Fallback<A, B> {
    first: A,
    other: B,
}

impl<A, B> Fallback<A, B> {
    pub(crate) fn new(first: A, other: B) -> Self {
        Self { first, other }
    }
}

impl<A, B> Task for Fallback<A, B>
where
    A: Task<Input: Clone>,
    B: Task<Input = A::Input, Output = A::Output>,
{
    type Input = A::Input;
    type Output = A::Output;

    async fn run(&self, cx: &Context, input: A::Input) -> Result<A::Output> {
        match self.first.run(cx, input.clone()).await {
            Err(_) => self.other.run(cx, input).await,
            output => output,
        }
    }

    fn sketch(&self) -> Sketch {
        Sketch::choice("fallback", [("ok", self.first.sketch()), ("failed", self.other.sketch())])
    }
}

/// Makes an output of a failure; see [`Task::catch`].
#[derive(Clone)]
pub struct Catch<T, F> {
    task: T,
    handler: F,
}

impl<T, F> Catch<T, F> {
    pub(crate) fn new(task: T, handler: F) -> Self {
        Self { task, handler }
    }
}

impl<T, F> Task for Catch<T, F>
where
    T: Task,
    F: Fn(&Context, Error) -> Result<T::Output> + Send + Sync,
{
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        match self.task.run(cx, input).await {
            Err(error) => (self.handler)(cx, error),
            output => output,
        }
    }

    fn sketch(&self) -> Sketch {
        Sketch::wrap("catch", self.task.sketch())
    }
}

impl<T: fmt::Debug, F> fmt::Debug for Catch<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catch").field("task", &self.task).finish_non_exhaustive()
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It succeeded.
    Finished,
    /// It failed.
    Failed(&'a Error),
    /// It was dropped before its end: cancelled, timed out, or unwound by a panic.
    Dropped,
}

/// Calls a function at the end, whatever the end; see [`Task::finally`].
#[derive(Clone)]
pub struct Finally<T, F> {
    task: T,
    f: F,
}

impl<T, F> Finally<T, F> {
    pub(crate) fn new(task: T, f: F) -> Self {
        Self { task, f }
    }
}

/// Calls the function when it is dropped, unless that was done.
struct AtEnd<'a, F: Fn(&Context, Outcome<'_>)> {
    f: &'a F,
    cx: &'a Context,
    over: bool,
}

impl<F: Fn(&Context, Outcome<'_>)> Drop for AtEnd<'_, F> {
    fn drop(&mut self) {
        if !self.over {
            (self.f)(self.cx, Outcome::Dropped);
        }
    }
}

impl<T, F> Task for Finally<T, F>
where
    T: Task,
    F: Fn(&Context, Outcome<'_>) + Send + Sync,
{
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        let mut end = AtEnd { f: &self.f, cx, over: false };
        let outcome = self.task.run(cx, input).await;
        end.over = true;
        (self.f)(
            cx,
            match &outcome {
                Ok(_) => Outcome::Finished,
                Err(error) => Outcome::Failed(error),
            },
        );
        outcome
    }

    fn sketch(&self) -> Sketch {
        Sketch::wrap("finally", self.task.sketch())
    }
}

impl<T: fmt::Debug, F> fmt::Debug for Finally<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finally").field("task", &self.task).finish_non_exhaustive()
    }
}
