//! Parallel branches of which only the first count.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::{
    Context, Error, ErrorKind, Group, Parallel, Result, Sketch, Task,
    parallel::{Lanes, as_ready, in_order},
};

impl<T: Task<Input: Clone>> Parallel<Vec<T>> {
    /// The output of the branch that succeeds first; the others are cancelled. Fails with
    /// [`ErrorKind::TooFew`] when none succeeds.
    pub fn first(self) -> First<T> {
        First { any: self.any(1) }
    }

    /// The outputs of the `n` branches that succeed first, in the order of the branches; the others are cancelled.
    /// Fails with [`ErrorKind::TooFew`] as soon as fewer can succeed.
    pub fn any(self, n: usize) -> Any<T> {
        Any { parallel: self, wanted: n }
    }
}

/// The output or failure of the branch that ends first; the others are cancelled.
///
/// ```
/// # use std::time::Duration;
/// use flumen_flow::{Context, Task, delay, race};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let fast = race(vec![delay(Duration::from_secs(60)), delay(Duration::from_millis(1))]);
/// assert_eq!(fast.run(&Context::new(), "x").await.unwrap(), "x");
/// # }
/// ```
pub fn race<T: Task<Input: Clone>>(tasks: Vec<T>) -> Race<T> {
    Race { tasks }
}

/// The first successes; see [`Parallel::any`].
#[derive(Clone)]
pub struct Any<T> {
    parallel: Parallel<Vec<T>>,
    wanted: usize,
}

impl<T: Task<Input: Clone>> Task for Any<T> {
    type Input = T::Input;
    type Output = Vec<T::Output>;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<Vec<T::Output>> {
        let tasks = &self.parallel.group;
        let runs =
            tasks.iter().enumerate().map(move |(number, task)| cx.run_lane(number, task, input.clone()));
        let (mut outputs, mut failures) = (Vec::new(), Vec::new());
        let enough = |outputs: &Vec<_>| outputs.len() >= self.wanted;
        if !enough(&outputs) {
            as_ready(runs, self.parallel.width, |number, outcome| {
                match outcome {
                    Ok(output) => outputs.push((number, output)),
                    Err(error) => failures.push(error),
                }
                !enough(&outputs) && tasks.len() - failures.len() >= self.wanted
            })
            .await;
        }
        if enough(&outputs) {
            return Ok(in_order(outputs));
        }
        let reasons: Vec<String> = failures.iter().map(Error::to_string).collect();
        let message = format!(
            "{} of {} branches had to succeed, and {} failed: {}",
            self.wanted,
            tasks.len(),
            failures.len(),
            reasons.join("; ")
        );
        let retryable = failures.iter().any(Error::is_retryable);
        let error = Error::new(ErrorKind::TooFew, message);
        Err(if retryable { error.retryable() } else { error })
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel(format!("any {}", self.wanted), self.parallel.group.sketches())
    }
}

impl Context {
    /// [`Lanes::run`] in a box: the compiler cannot name its lifetimes within a closure.
    fn run_lane<'a, T: Task>(
        &'a self,
        number: usize,
        task: &'a T,
        input: T::Input,
    ) -> BoxFuture<'a, Result<T::Output>>
    where
        T::Input: 'a,
    {
        Box::pin(Lanes::run(self, number, task, input))
    }
}

/// The first success; see [`Parallel::first`].
#[derive(Clone)]
pub struct First<T> {
    any: Any<T>,
}

impl<T: Task<Input: Clone>> Task for First<T> {
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        let first = self.any.run(cx, input).await?.pop();
        first.ok_or_else(|| Error::new(ErrorKind::TooFew, "there are no branches"))
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel("first", self.any.parallel.group.sketches())
    }
}

/// The first end; see [`race`].
#[derive(Clone)]
pub struct Race<T> {
    tasks: Vec<T>,
}

impl<T: Task<Input: Clone>> Task for Race<T> {
    type Input = T::Input;
    type Output = T::Output;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Output> {
        let runs =
            self.tasks.iter().enumerate().map(move |(number, task)| cx.run_lane(number, task, input.clone()));
        let mut first = None;
        as_ready(runs, usize::MAX, |_, outcome| {
            first = Some(outcome);
            false
        })
        .await;
        first.unwrap_or_else(|| Err(Error::new(ErrorKind::TooFew, "there are no branches")))
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel("race", self.tasks.iter().map(Task::sketch).collect())
    }
}

macro_rules! debug_of_contest {
    ($($name:ident),+) => {$(
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )+};
}
debug_of_contest!(Any, First, Race);
