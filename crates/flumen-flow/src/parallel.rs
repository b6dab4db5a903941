//! Tasks at the same time.
//!
//! The branches of a parallel are polled by the task of their run: they overlap while they wait. Work that computes or
//! blocks belongs on an [executor](crate::executor), where it does not hold the others up.

use std::{fmt, future::Future};

use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{Context, Error, Result, Sketch, Task};

/// Runs branches at the same time, all on the same input; see [`parallel`].
#[derive(Clone)]
pub struct Parallel<G> {
    pub(crate) group: G,
    pub(crate) width: usize,
}

/// Runs all branches at the same time, each on a clone of the input. The branches are a tuple of tasks (their outputs
/// become a tuple) or a `Vec` of tasks of one type. The first failure fails it and cancels the other branches; its
/// path has the number of the branch, `[0]` for the first.
///
/// ```
/// use flumen_flow::{Context, Task, parallel, task};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let both = parallel((
///     task(|_, n: u32| async move { Ok(n + 1) }),
///     task(|_, n: u32| async move { Ok(format!("<{n}>")) }),
/// ));
/// assert_eq!(both.run(&Context::new(), 1).await.unwrap(), (2, "<1>".to_owned()));
/// # }
/// ```
pub fn parallel<G: Group>(group: G) -> Parallel<G> {
    Parallel { group, width: usize::MAX }
}

/// Tasks that run side by side: a tuple of two to eight, or a `Vec`.
pub trait Group: Send + Sync {
    /// What each branch gets a clone of.
    type Input: Send;
    /// What all branches come to.
    type Outputs: Send;
    /// What each branch comes to by itself.
    type Settled: Send;

    /// How many branches there are.
    fn branches(&self) -> usize;

    /// Runs all; the first failure ends it.
    #[doc(hidden)]
    fn all(
        &self,
        lanes: &impl Lanes,
        width: usize,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Outputs>> + Send;

    /// Runs all to their ends.
    #[doc(hidden)]
    fn settled(
        &self,
        lanes: &impl Lanes,
        width: usize,
        input: Self::Input,
    ) -> impl Future<Output = Self::Settled> + Send;

    /// What the branches look like.
    fn sketches(&self) -> Vec<Sketch>;
}

/// How a branch is run; [`Parallel`] runs it as it is, a merge gives it a stream of its own.
#[doc(hidden)]
pub trait Lanes: Sync {
    fn run<T: Task>(
        &self,
        number: usize,
        task: &T,
        input: T::Input,
    ) -> impl Future<Output = Result<T::Output>> + Send;
}

impl Lanes for Context {
    async fn run<T: Task>(&self, number: usize, task: &T, input: T::Input) -> Result<T::Output> {
        task.run(self, input).await.map_err(|error| in_branch(error, number))
    }
}

pub(crate) fn in_branch(error: Error, number: usize) -> Error {
    error.within(&format!("[{number}]"))
}

macro_rules! group_of_tuple {
    ($($T:ident $n:tt),+) => {
        impl<In: Clone + Send, $($T: Task<Input = In>),+> Group for ($($T,)+) {
            type Input = In;
            type Outputs = ($($T::Output,)+);
            type Settled = ($(Result<$T::Output>,)+);

            fn branches(&self) -> usize {
                [$($n),+].len()
            }

            async fn all(&self, lanes: &impl Lanes, _: usize, input: In) -> Result<Self::Outputs> {
                tokio::try_join!($(lanes.run($n, &self.$n, input.clone())),+)
            }

            async fn settled(&self, lanes: &impl Lanes, _: usize, input: In) -> Self::Settled {
                tokio::join!($(lanes.run($n, &self.$n, input.clone())),+)
            }

            fn sketches(&self) -> Vec<Sketch> {
                vec![$(self.$n.sketch()),+]
            }
        }
    };
}

group_of_tuple!(A 0, B 1);
group_of_tuple!(A 0, B 1, C 2);
group_of_tuple!(A 0, B 1, C 2, D 3);
group_of_tuple!(A 0, B 1, C 2, D 3, E 4);
group_of_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
group_of_tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
group_of_tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

impl<T: Task<Input: Clone>> Group for Vec<T> {
    type Input = T::Input;
    type Outputs = Vec<T::Output>;
    type Settled = Vec<Result<T::Output>>;

    fn branches(&self) -> usize {
        self.len()
    }

    async fn all(&self, lanes: &impl Lanes, width: usize, input: T::Input) -> Result<Vec<T::Output>> {
        let runs = self.iter().enumerate().map(move |(number, task)| lanes.run(number, task, input.clone()));
        collect(runs, width).await
    }

    async fn settled(&self, lanes: &impl Lanes, width: usize, input: T::Input) -> Vec<Result<T::Output>> {
        let runs = self.iter().enumerate().map(move |(number, task)| lanes.run(number, task, input.clone()));
        let mut settled = Vec::new();
        as_ready(runs, width, |number, outcome| {
            settled.push((number, outcome));
            true
        })
        .await;
        in_order(settled)
    }

    fn sketches(&self) -> Vec<Sketch> {
        self.iter().map(Task::sketch).collect()
    }
}

/// Runs futures, at most `width` at a time, and hands over each outcome as it comes, until it is told to end.
pub(crate) async fn as_ready<O, Fut>(
    runs: impl Iterator<Item = Fut> + Send,
    width: usize,
    mut take: impl FnMut(usize, Result<O>) -> bool + Send,
) where
    O: Send,
    Fut: Future<Output = Result<O>> + Send,
{
    let mut waiting = runs.enumerate();
    let mut running = FuturesUnordered::new();
    let tagged = |(number, run): (usize, Fut)| async move { (number, run.await) };
    loop {
        while running.len() < width
            && let Some(next) = waiting.next()
        {
            running.push(tagged(next));
        }
        let Some((number, outcome)) = running.next().await else { return };
        if !take(number, outcome) {
            return;
        }
    }
}

/// Runs futures, at most `width` at a time; their outputs in order, or the first failure.
pub(crate) async fn collect<O, Fut>(runs: impl Iterator<Item = Fut> + Send, width: usize) -> Result<Vec<O>>
where
    O: Send,
    Fut: Future<Output = Result<O>> + Send,
{
    let mut outputs = Vec::new();
    let mut failure = None;
    as_ready(runs, width, |number, outcome| match outcome {
        Ok(output) => {
            outputs.push((number, output));
            true
        }
        Err(error) => {
            failure = Some(error);
            false
        }
    })
    .await;
    failure.map_or_else(|| Ok(in_order(outputs)), Err)
}

pub(crate) fn in_order<O>(mut outputs: Vec<(usize, O)>) -> Vec<O> {
    outputs.sort_unstable_by_key(|(number, _)| *number);
    outputs.into_iter().map(|(_, output)| output).collect()
}

impl<G: Group> Parallel<G> {
    /// Runs every branch to its end, whatever becomes of the others, and gives each one's outcome.
    pub fn settled(self) -> Settled<G> {
        Settled { parallel: self }
    }
}

impl<T: Task<Input: Clone>> Parallel<Vec<T>> {
    /// Starts at most this many branches at a time, in their order.
    pub fn width(mut self, width: usize) -> Self {
        self.width = width.max(1);
        self
    }
}

impl<G: Group> Task for Parallel<G> {
    type Input = G::Input;
    type Output = G::Outputs;

    fn run(&self, cx: &Context, input: G::Input) -> impl Future<Output = Result<G::Outputs>> + Send {
        self.group.all(cx, self.width, input)
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel("all", self.group.sketches())
    }
}

/// All branches to their ends; see [`Parallel::settled`].
#[derive(Clone)]
pub struct Settled<G> {
    parallel: Parallel<G>,
}

impl<G: Group> Task for Settled<G> {
    type Input = G::Input;
    type Output = G::Settled;

    async fn run(&self, cx: &Context, input: G::Input) -> Result<G::Settled> {
        Ok(self.parallel.group.settled(cx, self.parallel.width, input).await)
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel("settled", self.parallel.group.sketches())
    }
}

macro_rules! debug_of_group {
    ($($name:ident<$G:ident>),+) => {$(
        impl<$G> fmt::Debug for $name<$G> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )+};
}
debug_of_group!(Parallel<G>, Settled<G>);
