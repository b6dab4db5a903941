//! Graphs: nodes that run as soon as what they need is there.

use std::{
    any::Any,
    fmt,
    future::Future,
    marker::PhantomData,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use crate::{Context, Error, ErrorKind, Name, Result, Sketch, Task, task};

/// Puts a graph together.
///
/// Edges follow from what a node takes as its input; [`after`](Self::after) adds edges that carry no value.
///
/// ```
/// use flumen_flow::{Context, GraphBuilder, Task};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut graph = GraphBuilder::<u32>::new();
/// let input = graph.input();
/// let double = graph.node("double", input, |_, n| async move { Ok(n * 2) });
/// let square = graph.node("square", input, |_, n| async move { Ok(n * n) });
/// let sum = graph.node("sum", (double, square), |_, (d, s)| async move { Ok(d + s) });
/// let graph = graph.build(sum).unwrap();
/// assert_eq!(graph.run(&Context::new(), 5).await.unwrap(), 35);
/// # }
/// ```
pub struct GraphBuilder<I> {
    id: u64,
    nodes: Vec<Spec>,
    input: PhantomData<fn(I)>,
}

/// A node of a graph in the making: what others take as their input.
pub struct Node<T> {
    graph: u64,
    index: usize,
    output: PhantomData<fn() -> T>,
}

type Value = Box<dyn Any + Send + Sync>;
type Values = [OnceLock<Value>];
type RunNode = Arc<dyn for<'a> Fn(&'a Context, &'a Values) -> BoxFuture<'a, Result<Value>> + Send + Sync>;

struct Spec {
    name: Name,
    run: RunNode,
    sketch: Sketch,
    /// Nodes that must have ended before, as their graph and index.
    needs: Vec<(u64, usize)>,
}

/// Nodes whose outputs are the input of another: `()`, one node, or a tuple of up to six.
pub trait Inputs: Send + Sync + 'static {
    /// The outputs together.
    type Values: Send;

    #[doc(hidden)]
    fn nodes(&self) -> Vec<(u64, usize)>;

    #[doc(hidden)]
    fn gather(&self, values: &Values) -> Option<Self::Values>;
}

/// Why a graph cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Nodes wait for each other.
    #[error("these tasks wait for each other: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// A node takes the output of a node that belongs to another graph.
    #[error("the task `{node}` takes an input that is not in this graph")]
    MissingInput {
        /// The node that takes it.
        node: String,
    },
    /// Two nodes have the same name.
    #[error("two tasks of the graph have the name `{0}`")]
    SameName(String),
}

/// Index 0 is the graph's input.
const INPUT: usize = 0;

impl<I: Clone + Send + Sync + 'static> GraphBuilder<I> {
    /// A graph without nodes, for inputs of this type.
    #[expect(clippy::new_without_default, reason = "a graph without nodes is of no use")]
    pub fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self { id: IDS.fetch_add(1, Relaxed), nodes: Vec::new(), input: PhantomData }
    }

    /// The input of the graph, for nodes that take it.
    pub fn input(&self) -> Node<I> {
        Node { graph: self.id, index: INPUT, output: PhantomData }
    }

    /// Adds a function under a name, unique in the graph. Its input are the outputs of other nodes; each gets a clone.
    pub fn node<N, O, F, Fut>(&mut self, name: impl Into<Name>, inputs: N, f: F) -> Node<O>
    where
        N: Inputs,
        N::Values: 'static,
        O: Clone + Send + Sync + 'static,
        F: Fn(Context, N::Values) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O>> + Send,
    {
        self.task(name, inputs, task(f))
    }

    /// Adds a task under a name; like [`node`](Self::node).
    pub fn task<N, T>(&mut self, name: impl Into<Name>, inputs: N, task: T) -> Node<T::Output>
    where
        N: Inputs,
        T: Task<Input = N::Values, Output: Clone + Sync + 'static> + 'static,
    {
        let name = name.into();
        let (needs, sketch) = (inputs.nodes(), task.sketch().named(&name));
        let parts = Arc::new((inputs, task));
        let run: RunNode = Arc::new(move |cx, values| {
            let parts = Arc::clone(&parts);
            Box::pin(async move {
                let (inputs, task) = &*parts;
                let Some(input) = inputs.gather(values) else {
                    return Err(Error::new(ErrorKind::Missing, "an input was not there in time"));
                };
                let output: Value = Box::new(task.run(cx, input).await?);
                Ok(output)
            })
        });
        self.nodes.push(Spec { name, run, sketch, needs });
        Node { graph: self.id, index: self.nodes.len(), output: PhantomData }
    }

    /// Lets a node begin only when another has ended, though it takes nothing from it.
    pub fn after<A, B>(&mut self, node: Node<A>, earlier: Node<B>) -> &mut Self {
        if node.graph == self.id && node.index != INPUT {
            self.nodes[node.index - 1].needs.push((earlier.graph, earlier.index));
        }
        self
    }

    /// Makes the graph. Its output is that of the given node; all nodes run, also those that this one does not need.
    ///
    /// # Errors
    /// See [`GraphError`].
    pub fn build<O: Clone + Send + Sync + 'static>(self, output: Node<O>) -> Result<Graph<I, O>, GraphError> {
        let name_of = |index: usize| self.nodes[index - 1].name.to_string();
        for (at, node) in self.nodes.iter().enumerate() {
            if self.nodes[..at].iter().any(|other| other.name == node.name) {
                return Err(GraphError::SameName(node.name.to_string()));
            }
            if node.needs.iter().any(|(graph, _)| *graph != self.id) {
                return Err(GraphError::MissingInput { node: node.name.to_string() });
            }
        }
        if output.graph != self.id {
            return Err(GraphError::MissingInput { node: "the output".to_owned() });
        }
        let needs: Vec<Vec<usize>> =
            self.nodes.iter().map(|node| node.needs.iter().map(|(_, index)| *index).collect()).collect();
        if let Some(cycle) = cycle(&needs) {
            return Err(GraphError::Cycle(cycle.into_iter().map(name_of).collect()));
        }
        Ok(Graph { nodes: self.nodes.into(), needs: needs.into(), output: output.index, types: PhantomData })
    }
}

/// A circle among nodes (from 1) that need each other, first node repeated at the end.
fn cycle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    fn visit(
        at: usize,
        needs: &[Vec<usize>],
        done: &mut [bool],
        path: &mut Vec<usize>,
    ) -> Option<Vec<usize>> {
        if at == INPUT || done[at] {
            return None;
        }
        if let Some(start) = path.iter().position(|&seen| seen == at) {
            let mut circle = path[start..].to_vec();
            circle.push(at);
            circle.reverse();
            return Some(circle);
        }
        path.push(at);
        let found = needs[at - 1].iter().find_map(|&next| visit(next, needs, done, path));
        path.pop();
        done[at] = true;
        found
    }
    let mut done = vec![false; needs.len() + 1];
    (1..=needs.len()).find_map(|start| visit(start, needs, &mut done, &mut Vec::new()))
}

/// A graph as a task; see [`GraphBuilder`].
pub struct Graph<I, O> {
    nodes: Arc<[Spec]>,
    /// For each node, those that must have ended before; 0 is the graph's input.
    needs: Arc<[Vec<usize>]>,
    output: usize,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Task for Graph<I, O>
where
    I: Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    type Input = I;
    type Output = O;

    async fn run(&self, cx: &Context, input: I) -> Result<O> {
        let mut values: Vec<OnceLock<Value>> = Vec::new();
        values.resize_with(self.nodes.len() + 1, OnceLock::new);
        let _ = values[INPUT].set(Box::new(input));
        let values: &Values = &values;
        let mut left: Vec<usize> =
            self.needs.iter().map(|needs| needs.iter().filter(|&&need| need != INPUT).count()).collect();
        let start = |index: usize| {
            let node = &self.nodes[index - 1];
            let (cx, entered) = cx.enter(&node.name);
            let work = async move {
                let output = entered.watch((node.run)(&cx, values)).await?;
                Ok((index, output))
            };
            Box::pin(work) as BoxFuture<'_, Result<(usize, Value)>>
        };
        let mut running: FuturesUnordered<_> =
            (1..=left.len()).filter(|index| left[index - 1] == 0).map(start).collect();
        while let Some(ended) = running.next().await {
            let (index, output) = ended?;
            let _ = values[index].set(output);
            for (at, needs) in self.needs.iter().enumerate() {
                let count = needs.iter().filter(|&&need| need == index).count();
                if count > 0 {
                    left[at] -= count;
                    if left[at] == 0 {
                        running.push(start(at + 1));
                    }
                }
            }
        }
        value_of(values, self.output)
            .ok_or_else(|| Error::new(ErrorKind::Missing, "the graph's output was not made"))
    }

    fn sketch(&self) -> Sketch {
        let edges = self.needs.iter().enumerate().flat_map(|(to, needs)| {
            needs.iter().filter(|&&from| from != INPUT).map(move |&from| (from - 1, to))
        });
        Sketch::graph(self.nodes.iter().map(|node| node.sketch.clone()).collect(), edges.collect())
    }
}

fn value_of<T: Clone + 'static>(values: &Values, index: usize) -> Option<T> {
    values.get(index)?.get()?.downcast_ref().cloned()
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Node<T> {}

impl Inputs for () {
    type Values = ();

    fn nodes(&self) -> Vec<(u64, usize)> {
        Vec::new()
    }

    fn gather(&self, _: &Values) -> Option<()> {
        Some(())
    }
}

impl<T: Clone + Send + Sync + 'static> Inputs for Node<T> {
    type Values = T;

    fn nodes(&self) -> Vec<(u64, usize)> {
        vec![(self.graph, self.index)]
    }

    fn gather(&self, values: &Values) -> Option<T> {
        value_of(values, self.index)
    }
}

/// Nodes of one type: their outputs as a list.
impl<T: Clone + Send + Sync + 'static> Inputs for Vec<Node<T>> {
    type Values = Vec<T>;

    fn nodes(&self) -> Vec<(u64, usize)> {
        self.iter().map(|node| (node.graph, node.index)).collect()
    }

    fn gather(&self, values: &Values) -> Option<Vec<T>> {
        self.iter().map(|node| value_of(values, node.index)).collect()
    }
}

macro_rules! inputs_of_tuple {
    ($($T:ident $n:tt),+) => {
        impl<$($T: Clone + Send + Sync + 'static),+> Inputs for ($(Node<$T>,)+) {
            type Values = ($($T,)+);

            fn nodes(&self) -> Vec<(u64, usize)> {
                vec![$((self.$n.graph, self.$n.index)),+]
            }

            fn gather(&self, values: &Values) -> Option<($($T,)+)> {
                Some(($(value_of(values, self.$n.index)?,)+))
            }
        }
    };
}

inputs_of_tuple!(A 0);
inputs_of_tuple!(A 0, B 1);
inputs_of_tuple!(A 0, B 1, C 2);
inputs_of_tuple!(A 0, B 1, C 2, D 3);
inputs_of_tuple!(A 0, B 1, C 2, D 3, E 4);
inputs_of_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

impl<I, O> Clone for Graph<I, O> {
    fn clone(&self) -> Self {
        Self {
            nodes: Arc::clone(&self.nodes),
            needs: Arc::clone(&self.needs),
            output: self.output,
            types: PhantomData,
        }
    }
}

impl<I> fmt::Debug for GraphBuilder<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.name)).finish()
    }
}

impl<I, O> fmt::Debug for Graph<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.name)).finish()
    }
}

impl<T> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.index).finish()
    }
}
