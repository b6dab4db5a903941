//! What a run knows of its named tasks while it goes.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{AbortHandle, AbortRegistration, Abortable, BoxFuture},
};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{Error, ErrorKind, Name, Result, RunTree, TaskEvent, TaskEventKind, TaskState};

/// Place of a named task in the tree of its run.
pub(crate) type NodeId = usize;
/// The run itself.
pub(crate) const ROOT: NodeId = 0;

/// A reader that falls behind by more events than this misses the oldest.
const EVENTS: usize = 1024;

/// What all contexts of one run share.
pub(crate) struct RunState {
    pub(crate) token: CancellationToken,
    pub(crate) stop: CancellationToken,
    started: Instant,
    nodes: Mutex<Vec<Node>>,
    events: OnceLock<broadcast::Sender<TaskEvent>>,
}

/// A named task. One entry stands for all its runs in one place of the tree that do not overlap, so the tree of a
/// flow that repeats for ever stays as large as the flow.
struct Node {
    name: Name,
    children: Vec<NodeId>,
    state: TaskState,
    runs: u64,
    /// Since the run's start.
    started: Duration,
    /// All runs that are over, together.
    busy: Duration,
    /// Time spent waiting in executors' queues.
    waited: Duration,
    abort: Option<AbortHandle>,
}

impl Node {
    fn new(name: Name) -> Self {
        Self {
            name,
            children: Vec::new(),
            state: TaskState::Running,
            runs: 0,
            started: Duration::ZERO,
            busy: Duration::ZERO,
            waited: Duration::ZERO,
            abort: None,
        }
    }
}

impl RunState {
    pub(crate) fn new(token: CancellationToken) -> Self {
        Self {
            token,
            stop: CancellationToken::new(),
            started: Instant::now(),
            nodes: Mutex::default(),
            events: OnceLock::new(),
        }
    }

    /// The state of a run within this one. It tells its events to the same readers.
    pub(crate) fn fork(&self, token: CancellationToken) -> Self {
        Self { stop: self.stop.child_token(), events: self.events.clone(), ..Self::new(token) }
    }

    pub(crate) fn observe(&self) -> broadcast::Receiver<TaskEvent> {
        let sender = broadcast::Sender::new(EVENTS);
        let receiver = sender.subscribe();
        match self.events.set(sender) {
            Ok(()) => receiver,
            Err(_) => self.events.get().map_or(receiver, broadcast::Sender::subscribe),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() {
            nodes.push(Node::new(Name::Borrowed("run")));
        }
        nodes
    }

    fn begin(&self, parent: NodeId, name: &Name, abort: AbortHandle) -> NodeId {
        let mut nodes = self.nodes();
        let idle = |&id: &NodeId| nodes[id].state != TaskState::Running && nodes[id].name == *name;
        let known = nodes[parent].children.iter().copied().find(idle);
        let id = known.unwrap_or_else(|| {
            let id = nodes.len();
            nodes.push(Node::new(name.clone()));
            nodes[parent].children.push(id);
            id
        });
        let node = &mut nodes[id];
        node.state = TaskState::Running;
        node.runs += 1;
        node.started = self.started.elapsed();
        node.abort = Some(abort);
        id
    }

    fn finish(&self, id: NodeId, state: TaskState) {
        let now = self.started.elapsed();
        let mut nodes = self.nodes();
        let node = &mut nodes[id];
        node.state = state;
        node.abort = None;
        node.busy += now.saturating_sub(node.started);
    }

    /// The names from the run down to a task.
    fn path(&self, id: NodeId) -> String {
        let nodes = self.nodes();
        path_of(&nodes, id).unwrap_or_default()
    }

    pub(crate) fn tell(&self, node: NodeId, kind: impl FnOnce() -> TaskEventKind) {
        if let Some(events) = self.events.get().filter(|events| events.receiver_count() > 0) {
            // Nobody listens any more: that is for the listener to know.
            let _ =
                events.send(TaskEvent { path: self.path(node), at: self.started.elapsed(), kind: kind() });
        }
    }

    /// Notes that work of a task waited in an executor's queue.
    pub(crate) fn waited(&self, node: NodeId, span: Duration) {
        self.nodes()[node].waited += span;
    }

    /// Cancels the running tasks at a path. Returns how many there were.
    pub(crate) fn cancel_branch(&self, path: &str) -> usize {
        let nodes = self.nodes();
        let running: Vec<AbortHandle> = (0..nodes.len())
            .filter(|&id| nodes[id].abort.is_some() && path_of(&nodes, id).is_some_and(|own| own == path))
            .filter_map(|id| nodes[id].abort.clone())
            .collect();
        drop(nodes);
        running.iter().for_each(AbortHandle::abort);
        running.len()
    }

    pub(crate) fn tree(&self) -> RunTree {
        let nodes = self.nodes();
        let mut tree = tree_of(&nodes, ROOT, self.started.elapsed());
        tree.state = if self.token.is_cancelled() { TaskState::Finished } else { TaskState::Running };
        tree.elapsed = self.started.elapsed();
        tree.runs = 1;
        tree
    }
}

fn path_of(nodes: &[Node], wanted: NodeId) -> Option<String> {
    fn walk(nodes: &[Node], at: NodeId, wanted: NodeId, path: &str) -> Option<String> {
        nodes[at].children.iter().find_map(|&child| {
            let own = if path.is_empty() {
                nodes[child].name.to_string()
            } else {
                format!("{path}/{}", nodes[child].name)
            };
            if child == wanted { Some(own) } else { walk(nodes, child, wanted, &own) }
        })
    }
    walk(nodes, ROOT, wanted, "")
}

fn tree_of(nodes: &[Node], id: NodeId, now: Duration) -> RunTree {
    let node = &nodes[id];
    let running =
        if node.state == TaskState::Running { now.saturating_sub(node.started) } else { Duration::ZERO };
    RunTree {
        name: node.name.to_string(),
        state: node.state,
        runs: node.runs,
        started: node.started,
        elapsed: node.busy + running,
        waited: node.waited,
        children: node.children.iter().map(|&child| tree_of(nodes, child, now)).collect(),
    }
}

/// A named task that runs.
pub(crate) struct Entered {
    run: Arc<RunState>,
    node: NodeId,
    name: Name,
    registration: Option<AbortRegistration>,
    over: bool,
}

impl Entered {
    pub(crate) fn new(run: Arc<RunState>, parent: NodeId, name: &Name) -> Self {
        let (abort, registration) = AbortHandle::new_pair();
        let node = run.begin(parent, name, abort);
        run.tell(node, || TaskEventKind::Started);
        Self { run, node, name: name.clone(), registration: Some(registration), over: false }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Runs the task to its end. A panic and a cancel from outside become errors; every error gets the task's name.
    ///
    /// The future comes in a box: each layer around one that is not holds it twice, as the argument and where it is
    /// polled, and a few names around a large client's future would not fit on the stack.
    pub(crate) async fn watch<O>(mut self, work: BoxFuture<'_, Result<O>>) -> Result<O> {
        let span = tracing::debug_span!("task", name = &*self.name);
        let outcome = match self.registration.take() {
            Some(registration) => Abortable::new(guarded(work), registration)
                .instrument(span)
                .await
                .unwrap_or_else(|_| Err(Error::cancelled())),
            None => guarded(work).await,
        };
        self.over = true;
        match outcome {
            Ok(output) => {
                self.run.finish(self.node, TaskState::Finished);
                self.run.tell(self.node, || TaskEventKind::Finished);
                Ok(output)
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                self.cancelled();
                Err(error.within(&self.name))
            }
            Err(error) => {
                self.run.finish(self.node, TaskState::Failed);
                self.run.tell(self.node, || TaskEventKind::Failed { error: error.to_string() });
                Err(error.within(&self.name))
            }
        }
    }

    fn cancelled(&self) {
        self.run.finish(self.node, TaskState::Cancelled);
        self.run.tell(self.node, || TaskEventKind::Cancelled);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.over {
            self.cancelled();
        }
    }
}

/// Makes an error of a panic.
pub(crate) async fn guarded<O>(work: impl Future<Output = Result<O>>) -> Result<O> {
    // A task that panicked is not run again with what it left half-done: its run fails and drops it.
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|panic: Box<dyn Any + Send>| Err(Error::panicked(&*panic)))
}
