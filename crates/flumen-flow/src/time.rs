//! Tasks about time: timeout and delay.

use std::{fmt, marker::PhantomData, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{Context, Error, Result, Sketch, Task};

/// Fails what takes too long; see [`Task::timeout`].
#[derive(Clone, Debug)]
pub struct Timeout<T> {
    task: T,
    after: Duration,
}

impl<T> Timeout<T> {
    pub(crate) fn new(task: T, after: Duration) -> Self {
        Self { task, after }
    }
}

impl<T: Task> Task for Timeout<T> {
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        // A limit beyond what the clock can say is none.
        let Some(deadline) = Instant::now().checked_add(self.after) else {
            return self.task.run(cx, input).await;
        };
        let cx = cx.with_deadline(deadline);
        timeout_at(deadline, self.task.run(&cx, input))
            .await
            .unwrap_or_else(|_| Err(Error::timed_out(self.after)))
    }

    fn sketch(&self) -> Sketch {
        Sketch::wrap(format!("timeout {:?}", self.after), self.task.sketch())
    }
}

/// Gives its input back after a while; see [`delay`].
#[derive(Clone, Copy)]
pub struct Delay<I> {
    span: Duration,
    input: PhantomData<fn(I)>,
}

/// A task that gives its input back after this time.
pub fn delay<I: Send>(span: Duration) -> Delay<I> {
    Delay { span, input: PhantomData }
}

impl<I: Send> Task for Delay<I> {
    type Input = I;
    type Output = I;

    async fn run(&self, _cx: &Context, input: I) -> Result<I> {
        sleep(self.span).await;
        Ok(input)
    }

    fn sketch(&self) -> Sketch {
        Sketch::task(format!("delay {:?}", self.span))
    }
}

impl<I> fmt::Debug for Delay<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").field("span", &self.span).finish()
    }
}
