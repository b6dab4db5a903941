//! What a server serves: handlers by service and method, for every protocol that carries them.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{Call, Cancellation, Encoding, Inbound, Metadata, Outbound, Status};

/// A streaming call from the side that answers it.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked for, and what came with it.
    pub call: Call,
    /// What messages are written in.
    pub encoding: Encoding,
    /// Messages from the caller; ends when the caller half-closes.
    pub requests: Inbound,
    /// Messages to the caller.
    pub answers: Outbound,
    /// What the server knows of the connection.
    pub extensions: http::Extensions,
    /// Tells that the caller is gone, or the deadline over.
    pub cancellation: Cancellation,
}

/// What a handler comes to: the trailer of a good end, or the status of another.
pub type Handling = BoxFuture<'static, Result<Metadata, Status>>;

pub(crate) type Handler = Arc<dyn Fn(Incoming) -> Handling + Send + Sync>;

/// Handlers by service and method. Cheap to clone.
///
/// A handler is dropped when its caller cancels or the deadline passes. `answers` need not be closed: the handler's end is the
/// answer's end.
#[derive(Clone, Default)]
pub struct Services {
    methods: Arc<BTreeMap<(String, String), Handler>>,
}

impl Services {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method, of whatever streaming mode: a handler reads as many requests and sends as many answers as the mode has.
    pub fn method<F, Fut>(mut self, service: &str, method: &str, handler: F) -> Self
    where
        F: Fn(Incoming) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Metadata, Status>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |incoming| Box::pin(handler(incoming)));
        Arc::make_mut(&mut self.methods).insert((service.to_owned(), method.to_owned()), handler);
        self
    }

    /// The handler of a method. A package before the service's name that the handler was not registered with is ignored, since
    /// Kitex's clients send the name of a Go package there.
    pub(crate) fn find(&self, service: &str, method: &str) -> Option<&Handler> {
        let exact = |service: &str| self.methods.get(&(service.to_owned(), method.to_owned()));
        exact(service).or_else(|| exact(service.rsplit_once('.')?.1))
    }

    /// The handler of a method that only one service has. Callers of Thrift need not name the service.
    pub(crate) fn find_method(&self, method: &str) -> Option<&Handler> {
        let mut found = self.methods.iter().filter(|((_, name), _)| name == method);
        let (_, handler) = found.next()?;
        found.next().is_none().then_some(handler)
    }

    /// Whether there is a service of this name, with or without a package.
    pub(crate) fn has(&self, service: &str) -> bool {
        let bare = service.rsplit_once('.').map_or(service, |(_, bare)| bare);
        self.methods.keys().any(|(name, _)| name == service || name == bare)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.methods.keys()).finish()
    }
}
