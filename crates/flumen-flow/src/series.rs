use std::{fmt, future::Future};

use crate::{Context, Result, Sketch, Task};

/// One task after the other; see [`Task::then`] and [`Task::chain`].
#[derive(Clone, Debug)]
pub struct Then<A, B> {
    first: A,
    second: B,
}

impl<A, B> Then<A, B> {
    pub(crate) fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<A: Task, B: Task<Input = A::Output>> Task for Then<A, B> {
    type Input = A::Input;
    type Output = B::Output;

    async fn run(&self, cx: &Context, input: A::Input) -> Result<B::Output> {
        let middle = self.first.run(cx, input).await?;
        self.second.run(cx, middle).await
    }

    fn sketch(&self) -> Sketch {
        Sketch::series([self.first.sketch(), self.second.sketch()])
    }
}

/// Tasks of one type, one after the other, each on the output of the one before; see [`series`].
#[derive(Clone)]
pub struct Series<T> {
    tasks: Vec<T>,
}

/// A series of tasks of one type, [`BoxTask`](crate::BoxTask) for example. An empty series gives its input back.
pub fn series<T: Task<Output = <T as Task>::Input>>(tasks: impl IntoIterator<Item = T>) -> Series<T> {
    Series { tasks: tasks.into_iter().collect() }
}

impl<T: Task<Output = <T as Task>::Input>> Task for Series<T> {
    type Input = T::Input;
    type Output = T::Input;

    async fn run(&self, cx: &Context, input: T::Input) -> Result<T::Input> {
        let mut value = input;
        for task in &self.tasks {
            value = task.run(cx, value).await?;
        }
        Ok(value)
    }

    fn sketch(&self) -> Sketch {
        Sketch::series(self.tasks.iter().map(Task::sketch))
    }
}

impl<T> fmt::Debug for Series<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").field("len", &self.tasks.len()).finish()
    }
}

/// A task that is made of the value it gets; see [`dynamic`].
#[derive(Clone)]
pub struct Dynamic<I, F> {
    build: F,
    input: std::marker::PhantomData<fn(I)>,
}

/// Builds the next task from the value, when the value is there, and runs it on the value.
///
/// ```
/// use flumen_flow::{Context, Task, dynamic, task};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let flow = dynamic(|n: &u32| {
///     let times = *n;
///     task(move |_, n: u32| async move { Ok(n * times) })
/// });
/// assert_eq!(flow.run(&Context::new(), 7).await.unwrap(), 49);
/// # }
/// ```
pub fn dynamic<I, F, T>(build: F) -> Dynamic<I, F>
where
    I: Send,
    F: Fn(&I) -> T + Send + Sync,
    T: Task<Input = I>,
{
    Dynamic { build, input: std::marker::PhantomData }
}

impl<I, F, T> Task for Dynamic<I, F>
where
    I: Send,
    F: Fn(&I) -> T + Send + Sync,
    T: Task<Input = I>,
{
    type Input = I;
    type Output = T::Output;

    fn run(&self, cx: &Context, input: I) -> impl Future<Output = Result<T::Output>> + Send {
        let task = (self.build)(&input);
        async move { task.run(cx, input).await }
    }

    fn sketch(&self) -> Sketch {
        Sketch::task("dynamic")
    }
}

impl<I, F> fmt::Debug for Dynamic<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dynamic").finish_non_exhaustive()
    }
}
