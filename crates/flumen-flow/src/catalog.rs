//! Flows that are composed at run time: tasks over JSON values, found by name, put together by a JSON definition.

use std::{collections::BTreeMap, fmt, future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Backoff, BoxTask, Context, GraphBuilder, GraphError, Node, Result, Task, branch, each, parallel, series,
    task,
};

/// A task over JSON values.
pub type ValueTask = BoxTask<Value, Value>;

/// Named tasks over JSON values, and the builder of flows from definitions.
///
/// A definition is the name of a task, or an object with one of these keys:
///
/// | Key | Value | Means |
/// |---|---|---|
/// | `series` | list | one after the other |
/// | `parallel` | list or object | at the same time; outputs as a list or under the same keys |
/// | `first` | list | the output of the first that succeeds |
/// | `branch` | JSON pointer into the input | `then` if the value there is true, else `otherwise` |
/// | `each` | definition | for each item of the input, `width` at a time |
/// | `repeat` | definition | `times` |
/// | `retry` | definition | up to `attempts` |
/// | `timeout` | definition | after `seconds` |
/// | `fallback` | list of two | the second when the first fails |
/// | `module` | name | `flow`, with scope and name of its own |
/// | `graph` | object of `{"task": …, "needs": [names]}` | outputs under the nodes' names |
///
/// ```
/// use flumen_flow::{Catalog, Context, Task};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let catalog = Catalog::new()
///     .with("double", |_, n: i64| async move { Ok(n * 2) })
///     .with("sum", |_, (a, b): (i64, i64)| async move { Ok(a + b) });
/// let flow = catalog.build(&json!({"series": [{"parallel": ["double", "double"]}, "sum"]})).unwrap();
/// assert_eq!(flow.run(&Context::new(), json!(3)).await.unwrap(), json!(12));
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Catalog {
    tasks: BTreeMap<String, ValueTask>,
}

/// What is wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if path.is_empty() { "/" } else { path })]
pub struct DefinitionError {
    /// JSON pointer to the faulty part.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

type Built<T = ValueTask> = Result<T, DefinitionError>;

fn fault<T>(path: &str, problem: impl Into<String>) -> Built<T> {
    Err(DefinitionError { path: path.to_owned(), problem: problem.into() })
}

impl Catalog {
    /// A catalog without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a function under a name. Its input and output are read from and written to JSON.
    pub fn with<I, O, F, Fut>(self, name: impl Into<String>, f: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O>> + Send + 'static,
    {
        self.with_task(name, task(f))
    }

    /// The same with a task under a name. The last one given for a name counts.
    pub fn with_task<T>(mut self, name: impl Into<String>, task: T) -> Self
    where
        T: Task<Input: DeserializeOwned + 'static, Output: Serialize + 'static> + 'static,
    {
        let name = name.into();
        let read = self::task(|_, value: Value| async move { Ok(serde_json::from_value(value)?) });
        let write = |_, output: T::Output| async move { Ok(serde_json::to_value(&output)?) };
        let over_values = read.chain(task).then(write).named(name.clone()).boxed();
        self.tasks.insert(name, over_values);
        self
    }

    /// Builds the flow of a definition.
    ///
    /// # Errors
    /// The first fault, with a JSON pointer to it.
    pub fn build(&self, definition: &Value) -> Built {
        self.build_at("", definition)
    }

    fn build_at(&self, path: &str, definition: &Value) -> Built {
        match definition {
            Value::String(name) => match self.tasks.get(name) {
                Some(task) => Ok(task.clone()),
                None => fault(path, format!("there is no task `{name}`; there are {}", self.names())),
            },
            Value::Object(parts) => self.combine(&Part { path, parts }),
            _ => fault(path, "a definition is the name of a task or an object such as {\"series\": […]}"),
        }
    }

    fn names(&self) -> String {
        self.tasks.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    fn combine(&self, part: &Part<'_>) -> Built {
        let kinds = [
            "series", "parallel", "first", "branch", "each", "repeat", "retry", "timeout", "fallback",
            "module", "graph",
        ];
        let mut found = kinds.into_iter().filter(|kind| part.parts.contains_key(*kind));
        let (Some(kind), None) = (found.next(), found.next()) else {
            return fault(part.path, format!("exactly one of these keys is needed: {}", kinds.join(", ")));
        };
        Ok(match kind {
            "series" => series(self.list(part, kind)?).boxed(),
            "parallel" if part.parts[kind].is_object() => self.parallel_object(part)?,
            "parallel" => {
                parallel(self.list(part, kind)?).then(|_, all| async { Ok(Value::from(all)) }).boxed()
            }
            "first" => parallel(self.list(part, kind)?).first().boxed(),
            "branch" => {
                let pointer = part.text(kind)?.to_owned();
                let condition = move |input: &Value| {
                    input.pointer(&pointer).is_some_and(|value| *value == Value::Bool(true))
                };
                branch(condition, self.one(part, "then")?, self.one(part, "otherwise")?).boxed()
            }
            "each" => {
                let width = part.number("width")?.unwrap_or(1);
                let items =
                    task(|_, input: Value| async { Ok(serde_json::from_value::<Vec<Value>>(input)?) });
                let all = each::<_, Vec<Value>>(self.one(part, kind)?).width(width);
                items.chain(all).then(|_, all| async { Ok(Value::from(all)) }).boxed()
            }
            "repeat" => self.one(part, kind)?.repeat().times(part.need_number("times")?).boxed(),
            "retry" => {
                let attempts = u32::try_from(part.need_number("attempts")?).unwrap_or(u32::MAX);
                self.one(part, kind)?.retry(Backoff::attempts(attempts)).boxed()
            }
            "timeout" => self.one(part, kind)?.timeout(part.seconds("seconds")?).boxed(),
            "fallback" => match <[ValueTask; 2]>::try_from(self.list(part, kind)?) {
                Ok([first, other]) => first.fallback(other).boxed(),
                Err(_) => return fault(&part.at(kind), "two definitions are needed"),
            },
            "module" => self.one(part, "flow")?.module(part.text(kind)?.to_owned()).boxed(),
            _ => self.graph(part)?,
        })
    }

    fn one(&self, part: &Part<'_>, key: &str) -> Built {
        match part.parts.get(key) {
            Some(definition) => self.build_at(&part.at(key), definition),
            None => fault(part.path, format!("`{key}` is missing")),
        }
    }

    fn list(&self, part: &Part<'_>, key: &str) -> Built<Vec<ValueTask>> {
        let path = part.at(key);
        let Some(items) = part.parts[key].as_array() else { return fault(&path, "a list is needed") };
        let build = |(at, item)| self.build_at(&format!("{path}/{at}"), item);
        items.iter().enumerate().map(build).collect()
    }

    fn parallel_object(&self, part: &Part<'_>) -> Built {
        let branches = Part { path: &part.at("parallel"), parts: part.object("parallel")? };
        let keys: Vec<String> = branches.parts.keys().cloned().collect();
        let tasks = keys.iter().map(|key| self.one(&branches, key)).collect::<Built<Vec<_>>>()?;
        let name_outputs = move |_, outputs: Vec<Value>| {
            let named: Map<String, Value> = keys.iter().cloned().zip(outputs).collect();
            async { Ok(Value::Object(named)) }
        };
        Ok(parallel(tasks).then(name_outputs).boxed())
    }

    /// Nodes without needs get the graph's input, the others an object of the outputs that they need.
    fn graph(&self, part: &Part<'_>) -> Built {
        let nodes = Part { path: &part.at("graph"), parts: part.object("graph")? };
        let mut graph = GraphBuilder::<Value>::new();
        let input = graph.input();
        let order = nodes.in_order()?;
        let mut built: BTreeMap<&str, Node<Value>> = BTreeMap::new();
        for (name, needs) in order {
            let spec = Part { path: &nodes.at(name), parts: nodes.object(name)? };
            let task = self.one(&spec, "task")?;
            let node = if needs.is_empty() {
                graph.task(name.to_owned(), input, task)
            } else {
                let names: Vec<String> = needs.iter().map(|need| (*need).to_owned()).collect();
                let name_inputs = crate::task(move |_, values: Vec<Value>| {
                    let named: Map<String, Value> = names.iter().cloned().zip(values).collect();
                    async { Ok(Value::Object(named)) }
                });
                let inputs: Vec<Node<Value>> = needs.iter().map(|need| built[need]).collect();
                graph.task(name.to_owned(), inputs, name_inputs.chain(task))
            };
            built.insert(name, node);
        }
        let names: Vec<String> = built.keys().map(|name| (*name).to_owned()).collect();
        let all: Vec<Node<Value>> = built.into_values().collect();
        let outputs = graph.node("outputs", all, move |_, values| {
            let named: Map<String, Value> = names.iter().cloned().zip(values).collect();
            async { Ok(Value::Object(named)) }
        });
        let built = graph.build(outputs);
        built.map(Task::boxed).or_else(|error: GraphError| fault(nodes.path, error.to_string()))
    }
}

/// An object of a definition and where it stands.
struct Part<'a> {
    path: &'a str,
    parts: &'a Map<String, Value>,
}

impl<'a> Part<'a> {
    fn at(&self, key: &str) -> String {
        format!("{}/{}", self.path, key.replace('~', "~0").replace('/', "~1"))
    }

    fn object(&self, key: &str) -> Built<&'a Map<String, Value>> {
        self.parts
            .get(key)
            .and_then(Value::as_object)
            .map_or_else(|| fault(&self.at(key), "an object is needed"), Ok)
    }

    fn text(&self, key: &str) -> Built<&'a str> {
        self.parts
            .get(key)
            .and_then(Value::as_str)
            .map_or_else(|| fault(&self.at(key), "a string is needed"), Ok)
    }

    fn number(&self, key: &str) -> Built<Option<usize>> {
        let Some(value) = self.parts.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => fault(&self.at(key), "a whole number above 0 is needed"),
        }
    }

    fn need_number(&self, key: &str) -> Built<usize> {
        self.number(key)?.map_or_else(|| fault(self.path, format!("`{key}` is missing")), Ok)
    }

    fn seconds(&self, key: &str) -> Built<Duration> {
        let seconds = self.parts.get(key).and_then(Value::as_f64);
        let span = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        span.map_or_else(|| fault(&self.at(key), "a number of seconds is needed"), Ok)
    }

    /// The nodes of a graph such that each comes after those it needs.
    fn in_order(&self) -> Built<Vec<(&'a str, Vec<&'a str>)>> {
        let mut left = Vec::new();
        for (name, spec) in self.parts {
            let mut needs = Vec::new();
            for need in spec.get("needs").and_then(Value::as_array).into_iter().flatten() {
                match need.as_str().filter(|need| self.parts.contains_key(*need)) {
                    Some(need) => needs.push(need),
                    None => {
                        return fault(&self.at(name), format!("it needs {need}, which is not in the graph"));
                    }
                }
            }
            left.push((&**name, needs));
        }
        let mut order: Vec<(&str, Vec<&str>)> = Vec::new();
        while !left.is_empty() {
            let ready = left
                .iter()
                .position(|(_, needs)| needs.iter().all(|need| order.iter().any(|(done, _)| done == need)));
            if let Some(at) = ready {
                order.push(left.remove(at));
            } else {
                let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
                return fault(self.path, format!("there is a cycle among these tasks: {}", names.join(", ")));
            }
        }
        Ok(order)
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tasks.keys()).finish()
    }
}
