//! Loops. They replace chains of callbacks: the state goes round as input and output.

use std::{fmt, marker::PhantomData, time::Duration};

use tokio::{task::coop, time::sleep};

use crate::{Backoff, Context, Result, Sketch, Task, TaskEventKind};

/// A task to repeat on its own output; see [`Task::repeat`]. As it stands it runs once; its methods say how often.
///
/// Every repeat ends after the round it is in when the run is asked to [stop](crate::RunHandle::stop), with what it has.
#[derive(Clone, Debug)]
pub struct Repeat<T> {
    task: T,
}

impl<T: Task<Output = <T as Task>::Input>> Repeat<T> {
    pub(crate) fn new(task: T) -> Self {
        Self { task }
    }

    /// This many rounds.
    pub fn times(self, rounds: usize) -> Times<T> {
        Times { task: self.task, rounds }
    }

    /// Rounds while the condition holds for the state; it is asked before each.
    pub fn while_<P: Fn(&T::Input) -> bool + Send + Sync>(self, condition: P) -> While<T, P> {
        While { task: self.task, condition, first: false }
    }

    /// Rounds until the condition holds for the state; it is asked after each, so there is at least one.
    pub fn until<P: Fn(&T::Input) -> bool + Send + Sync>(self, condition: P) -> While<T, P> {
        While { task: self.task, condition, first: true }
    }

    /// Rounds without end, until the run is asked to stop. After a failure marked retryable it waits as the backoff
    /// says and repeats the round; a good round starts the backoff afresh. Other failures end it.
    pub fn forever(self, backoff: Backoff) -> Forever<T>
    where
        T::Input: Clone,
    {
        Forever { task: self.task, backoff, pause: Duration::ZERO }
    }
}

impl<T: Task<Output = <T as Task>::Input>> Task for Repeat<T> {
    type Input = T::Input;
    type Output = T::Input;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Input> {
        self.task.run(cx, input).await
    }

    fn sketch(&self) -> Sketch {
        self.task.sketch()
    }
}

/// A fixed number of rounds; see [`Repeat::times`].
#[derive(Clone, Debug)]
pub struct Times<T> {
    task: T,
    rounds: usize,
}

impl<T: Task<Output = <T as Task>::Input>> Task for Times<T> {
    type Input = T::Input;
    type Output = T::Input;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Input> {
        let mut state = input;
        for _ in 0..self.rounds {
            if cx.is_stopping() {
                break;
            }
            state = self.task.run(cx, state).await?;
            coop::consume_budget().await;
        }
        Ok(state)
    }

    fn sketch(&self) -> Sketch {
        Sketch::repeat(format!("{} times", self.rounds), self.task.sketch())
    }
}

/// Rounds under a condition; see [`Repeat::while_`] and [`Repeat::until`].
#[derive(Clone)]
pub struct While<T, P> {
    task: T,
    condition: P,
    /// A round comes before the question, and the answer `true` ends it.
    first: bool,
}

impl<T, P> Task for While<T, P>
where
    T: Task<Output = <T as Task>::Input>,
    P: Fn(&T::Input) -> bool + Send + Sync,
{
    type Input = T::Input;
    type Output = T::Input;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Input> {
        let mut state = input;
        if self.first && !cx.is_stopping() {
            state = self.task.run(cx, state).await?;
        }
        while (self.condition)(&state) != self.first && !cx.is_stopping() {
            state = self.task.run(cx, state).await?;
            coop::consume_budget().await;
        }
        Ok(state)
    }

    fn sketch(&self) -> Sketch {
        Sketch::repeat(if self.first { "until" } else { "while" }, self.task.sketch())
    }
}

impl<T, P> fmt::Debug for While<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("While").finish_non_exhaustive()
    }
}

/// Rounds without end; see [`Repeat::forever`].
#[derive(Clone, Debug)]
pub struct Forever<T> {
    task: T,
    backoff: Backoff,
    pause: Duration,
}

impl<T> Forever<T> {
    /// Waits this long between two good rounds.
    pub fn every(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

impl<T> Task for Forever<T>
where
    T: Task<Output = <T as Task>::Input, Input: Clone>,
{
    type Input = T::Input;
    type Output = T::Input;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Input> {
        let mut state = input;
        let mut failures = 0;
        while !cx.is_stopping() {
            let pause = match self.task.run(cx, state.clone()).await {
                Ok(next) => {
                    (state, failures) = (next, 0);
                    self.pause
                }
                Err(error) if error.is_retryable() => {
                    failures += 1;
                    let Some(pause) = self.backoff.pause(failures) else { return Err(error) };
                    let error = error.to_string();
                    cx.state().tell(cx.node(), || TaskEventKind::Retrying {
                        attempt: failures,
                        pause,
                        error,
                    });
                    pause
                }
                Err(error) => return Err(error),
            };
            if pause.is_zero() {
                coop::consume_budget().await;
            } else {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = cx.stopping() => {}
                }
            }
        }
        Ok(state)
    }

    fn sketch(&self) -> Sketch {
        Sketch::repeat("forever", self.task.sketch())
    }
}

/// A task for each item; see [`each`].
#[derive(Clone)]
pub struct Each<T, C> {
    task: T,
    width: usize,
    items: PhantomData<fn(C)>,
}

/// Runs the task for each item of its input and collects the outputs in order. One after the other, until
/// [`Each::width`] says otherwise. The first failure ends it and cancels the others.
pub fn each<T, C>(task: T) -> Each<T, C>
where
    T: Task,
    C: IntoIterator<Item = T::Input, IntoIter: Send> + Send,
{
    Each { task, width: 1, items: PhantomData }
}

impl<T, C> Each<T, C> {
    /// Up to this many items at a time.
    pub fn width(mut self, width: usize) -> Self {
        self.width = width.max(1);
        self
    }
}

impl<T, C> Task for Each<T, C>
where
    T: Task,
    C: IntoIterator<Item = T::Input, IntoIter: Send> + Send,
{
    type Input = C;
    type Output = Vec<T::Output>;

    async fn run(&self, cx: &Context, input: C) -> Result<Vec<T::Output>> {
        let runs = input.into_iter().map(|item| self.task.run(cx, item));
        crate::parallel::collect(runs, self.width).await
    }

    fn sketch(&self) -> Sketch {
        Sketch::repeat(format!("each, {} at a time", self.width), self.task.sketch())
    }
}

impl<T, C> fmt::Debug for Each<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each").field("width", &self.width).finish_non_exhaustive()
    }
}
