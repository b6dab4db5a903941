use std::{
    any::{Any, TypeId, type_name},
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flumen_stream::Frame;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Error, ErrorKind, Events, Name, Out, Result, RunHandle,
    observe::{Entered, NodeId, ROOT, RunState},
};

/// What travels with a run by itself: values that its tasks share, the deadline, the cancel token, the tenant, the
/// trace, and the way out for frames. Cheap to clone.
///
/// A context belongs to one run at a time; [`Task::start`](crate::Task::start) gives each run a context of its own that inherits
/// from the one it is given.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    run: Arc<RunState>,
    scope: Arc<Scope>,
    node: NodeId,
    deadline: Option<Instant>,
    tenant: Option<Arc<str>>,
    traceparent: Option<Arc<str>>,
    out: Option<Arc<dyn Any + Send + Sync>>,
}

#[derive(Default)]
struct Scope {
    values: Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
    outer: Option<Arc<Scope>>,
}

impl Scope {
    fn find(&self, wanted: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let found = values.iter().find(|(id, _)| *id == wanted).map(|(_, value)| Arc::clone(value));
        drop(values);
        found.or_else(|| self.outer.as_ref()?.find(wanted))
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A context without values, deadline or reader.
    pub fn new() -> Self {
        let inner = Inner {
            run: Arc::new(RunState::new(CancellationToken::new())),
            scope: Arc::default(),
            node: ROOT,
            deadline: None,
            tenant: None,
            traceparent: None,
            out: None,
        };
        Self { inner: Arc::new(inner) }
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = (*self.inner).clone();
        change(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    /// The same with a deadline, if that is earlier than the one it has.
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        self.with(|inner| inner.deadline = Some(inner.deadline.map_or(deadline, |own| own.min(deadline))))
    }

    /// The same on behalf of a tenant.
    pub fn with_tenant(&self, tenant: impl Into<Arc<str>>) -> Self {
        self.with(|inner| inner.tenant = Some(tenant.into()))
    }

    /// The same within a trace, as the `traceparent` header of W3C Trace Context spells it.
    pub fn with_traceparent(&self, traceparent: impl Into<Arc<str>>) -> Self {
        self.with(|inner| inner.traceparent = Some(traceparent.into()))
    }

    /// The same, cancelled when this token is.
    pub fn with_cancel(&self, token: &CancellationToken) -> Self {
        self.with(|inner| inner.run = Arc::new(inner.run.fork(token.child_token())))
    }

    /// The same with a reader of what happens to named tasks from now on.
    pub fn observed(&self) -> (Self, Events) {
        let state = self.inner.run.fork(self.inner.run.token.child_token());
        let events = state.observe();
        (self.with(|inner| inner.run = Arc::new(state)), events.into())
    }

    /// A context for a run of its own.
    pub(crate) fn for_run(&self) -> Self {
        self.with(|inner| {
            inner.run = Arc::new(inner.run.fork(inner.run.token.child_token()));
            inner.node = ROOT;
        })
        .scoped()
    }

    /// The same with a scope of its own: values put there are not seen outside.
    pub(crate) fn scoped(&self) -> Self {
        self.with(|inner| {
            let outer = Some(Arc::clone(&inner.scope));
            inner.scope = Arc::new(Scope { values: Mutex::default(), outer });
        })
    }

    pub(crate) fn with_out<F: Frame + Send + 'static>(&self, out: Out<F>) -> Self {
        self.with(|inner| inner.out = Some(Arc::new(out)))
    }

    /// Enters a named task.
    pub(crate) fn enter(&self, name: &Name) -> (Self, Entered) {
        let entered = Entered::new(Arc::clone(&self.inner.run), self.inner.node, name);
        (self.with(|inner| inner.node = entered.node()), entered)
    }

    pub(crate) fn state(&self) -> &Arc<RunState> {
        &self.inner.run
    }

    pub(crate) fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Puts a value into the scope. There is one value of each type; the one it replaces is returned.
    pub fn put<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        let mut values = self.inner.scope.values.lock().unwrap_or_else(PoisonError::into_inner);
        let value: Arc<dyn Any + Send + Sync> = Arc::new(value);
        let old = if let Some((_, slot)) = values.iter_mut().find(|(id, _)| *id == TypeId::of::<T>()) {
            Some(std::mem::replace(slot, value))
        } else {
            values.push((TypeId::of::<T>(), value));
            None
        };
        drop(values);
        old?.downcast().ok()
    }

    /// The value of this type in the scope, or in the one around it.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.inner.scope.find(TypeId::of::<T>())?.downcast().ok()
    }

    /// Like [`get`](Self::get), for a value that must be there.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`], with the name of the type.
    pub fn need<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        self.get().ok_or_else(|| {
            Error::new(ErrorKind::Missing, format!("no `{}` was put into the context", type_name::<T>()))
        })
    }

    /// When the run must be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline
    }

    /// How long the run may still take.
    pub fn remaining(&self) -> Option<Duration> {
        self.inner.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// On whose behalf the run goes.
    pub fn tenant(&self) -> Option<&str> {
        self.inner.tenant.as_deref()
    }

    /// The trace that the run belongs to.
    pub fn traceparent(&self) -> Option<&str> {
        self.inner.traceparent.as_deref()
    }

    /// Cancelled when the run is over, whatever its end, unless it was never started (see [`RunHandle::cancel`]).
    /// For work that is not a future of the run: threads, detached tasks.
    pub fn cancel_token(&self) -> CancellationToken {
        self.inner.run.token.clone()
    }

    /// Whether the run was asked to stop at the next good moment: [`RunHandle::stop`].
    pub fn is_stopping(&self) -> bool {
        self.inner.run.stop.is_cancelled()
    }

    /// Waits until the run is asked to stop.
    ///
    /// Cancel-safe.
    pub async fn stopping(&self) {
        self.inner.run.stop.cancelled().await;
    }

    /// Steers and shows the run.
    pub fn handle(&self) -> RunHandle {
        RunHandle::new(Arc::clone(&self.inner.run))
    }

    /// The way out for frames of this type.
    ///
    /// ```
    /// use flumen_flow::{Context, Task, task};
    /// use flumen_stream::Event;
    /// use futures_util::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let count = task(|cx: Context, to: u32| async move {
    ///     for n in 0..to {
    ///         cx.out().send(Event::data(n.to_string())).await?;
    ///     }
    ///     Ok(())
    /// });
    /// let frames: Vec<_> = count.stream::<Event>(&Context::new(), 3).collect().await;
    /// assert_eq!(frames.len(), 3);
    /// # }
    /// ```
    pub fn out<F: Frame + Send + 'static>(&self) -> Out<F> {
        let out = self.inner.out.as_ref().and_then(|out| out.downcast_ref::<Out<F>>());
        out.cloned().unwrap_or_else(Out::nowhere)
    }

    /// Lets a task go on when the run is over, under a name that its failure is logged with. The handle is the caller's
    /// to keep or drop; [`JoinHandle::abort`] ends it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn detach<O, Fut>(&self, name: &'static str, work: Fut) -> JoinHandle<Result<O>>
    where
        O: Send + 'static,
        Fut: Future<Output = Result<O>> + Send + 'static,
    {
        let span = tracing::info_span!("detached", name);
        let watched = async move {
            let outcome = crate::observe::guarded(work).await;
            if let Err(error) = &outcome {
                tracing::warn!(%error, "a detached task failed");
            }
            outcome
        };
        tokio::spawn(watched.instrument(span))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("deadline", &self.inner.deadline)
            .field("tenant", &self.inner.tenant)
            .finish_non_exhaustive()
    }
}
