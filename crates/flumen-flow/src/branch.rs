//! Choices: branch and switch.

use std::{collections::BTreeMap, fmt};

use crate::{BoxTask, Context, Error, ErrorKind, Result, Sketch, Task};

/// One of two tasks; see [`branch`].
#[derive(Clone)]
pub struct Branch<P, A, B> {
    condition: P,
    then: A,
    otherwise: B,
}

/// Runs the first task when the condition holds for the input, the second one when not.
pub fn branch<P, A, B>(condition: P, then: A, otherwise: B) -> Branch<P, A, B>
where
    P: Fn(&A::Input) -> bool + Send + Sync,
    A: Task,
    B: Task<Input = A::Input, Output = A::Output>,
{
    Branch { condition, then, otherwise }
}

impl<P, A, B> Task for Branch<P, A, B>
where
    P: Fn(&A::Input) -> bool + Send + Sync,
    A: Task,
    B: Task<Input = A::Input, Output = A::Output>,
{
    type Input = A::Input;
    type Output = A::Output;

    async fn run(&self, cx: &Context, input: A::Input) -> Result<A::Output> {
        if (self.condition)(&input) {
            self.then.run(cx, input).await
        } else {
            self.otherwise.run(cx, input).await
        }
    }

    fn sketch(&self) -> Sketch {
        Sketch::choice("branch", [("yes", self.then.sketch()), ("no", self.otherwise.sketch())])
    }
}

impl<P, A, B> fmt::Debug for Branch<P, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").finish_non_exhaustive()
    }
}

/// One of many tasks by a key; see [`switch`].
#[derive(Clone)]
pub struct Switch<K, F, I, O> {
    key: F,
    cases: BTreeMap<K, BoxTask<I, O>>,
    default: Option<BoxTask<I, O>>,
}

/// Runs the task of the key that the function finds in the input.
///
/// ```
/// use flumen_flow::{Context, Task, switch, task};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let flow = switch(|text: &String| text.len())
///     .case(0, task(|_, _| async { Ok("empty") }))
///     .otherwise(task(|_, _| async { Ok("full") }));
/// assert_eq!(flow.run(&Context::new(), String::new()).await.unwrap(), "empty");
/// # }
/// ```
pub fn switch<K, F, I, O>(key: F) -> Switch<K, F, I, O>
where
    F: Fn(&I) -> K + Send + Sync,
    K: Ord,
{
    Switch { key, cases: BTreeMap::new(), default: None }
}

impl<K: Ord, F, I: Send, O: Send> Switch<K, F, I, O> {
    /// The task for a key. The last one given for a key counts.
    pub fn case(mut self, key: K, task: impl Task<Input = I, Output = O> + 'static) -> Self {
        self.cases.insert(key, task.boxed());
        self
    }

    /// The task for every other key. Without it such a key is an error of the kind [`ErrorKind::Missing`].
    pub fn otherwise(mut self, task: impl Task<Input = I, Output = O> + 'static) -> Self {
        self.default = Some(task.boxed());
        self
    }
}

impl<K, F, I, O> Task for Switch<K, F, I, O>
where
    K: Ord + fmt::Debug + Send + Sync,
    F: Fn(&I) -> K + Send + Sync,
    I: Send,
    O: Send,
{
    type Input = I;
    type Output = O;

    async fn run(&self, cx: &Context, input: I) -> Result<O> {
        let key = (self.key)(&input);
        let task = self.cases.get(&key).or(self.default.as_ref());
        let task = task
            .ok_or_else(|| Error::new(ErrorKind::Missing, format!("the switch has no case for {key:?}")))?;
        task.run(cx, input).await
    }

    fn sketch(&self) -> Sketch {
        let cases = self.cases.iter().map(|(key, task)| (format!("{key:?}"), task.sketch()));
        let default = self.default.iter().map(|task| ("otherwise".to_owned(), task.sketch()));
        Sketch::choice("switch", cases.chain(default))
    }
}

impl<K, F, I, O> fmt::Debug for Switch<K, F, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("cases", &self.cases.len()).finish_non_exhaustive()
    }
}
