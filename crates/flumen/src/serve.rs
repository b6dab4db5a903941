//! Servers: a router on an address, and handlers that run a flow per request.
//!
//! [`sse`], [`ndjson`] and [`chunked`] make a handler of a flow: its emitted frames are the response, and when the client
//! leaves, the run is cancelled. [`json`] answers with a flow's output. The flow's input is whatever axum can extract. [`generating`] makes a flow a model service, to be called by RPC.
//!
//! ```no_run
//! use flumen::{Event, Router, flow::{Context, Task, task}, post, serve};
//!
//! # #[tokio::main] async fn main() -> std::io::Result<()> {
//! let shout = task(|cx: Context, text: String| async move {
//!     for word in text.split_whitespace() {
//!         cx.out().send(Event::data(word.to_uppercase())).await?;
//!     }
//!     Ok(())
//! });
//! serve("127.0.0.1:3000", Router::new().route("/shout", post(serve::sse(shout)))).await
//! # }
//! ```

pub use crate::generating::{Generating, generating};

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flumen_flow::{Context, Error, ErrorKind, Streaming, Task};
use flumen_stream::{Cause, End, Event, Frame};
use flumen_wire::{
    listen::{Connection, Gate, Limits, Listener, Shutdown},
    transport::{Chunked, Ndjson, Sse},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Method, StatusCode, Uri, request::Parts};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout},
};

/// Serves a router until SIGTERM or SIGINT, then stops accepting, lets running requests finish, and returns; a second
/// signal ends them. Connections are held to [`Limits::default`].
///
/// # Errors
/// When the address is malformed or cannot be bound.
pub async fn serve(address: &str, router: Router) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(|error| {
        let hint = format!("`{address}` is not an address such as 127.0.0.1:8080: {error}");
        io::Error::new(io::ErrorKind::InvalidInput, hint)
    })?;
    serve_on(Listener::bind(address, false)?, router).await
}

/// Like [`serve`](fn@serve), on a listener that is bound already.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_on(listener: Listener, router: Router) -> io::Result<()> {
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(until_signals(shutdown.clone())?);
    let limits = Arc::new(Limits::default());
    let served = listener.serve(router, limits, Arc::new(Gate::default()), None, shutdown).await;
    signals.abort();
    served
}

/// Drains at the first SIGTERM or SIGINT, aborts at the second.
pub(crate) fn until_signals(shutdown: Shutdown) -> io::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for step in [Shutdown::drain, Shutdown::abort] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            step(&shutdown);
        }
    })
}

/// The request that a flow runs for, in its [`Context`].
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The client's address.
    pub peer: Option<SocketAddr>,
}

/// A context fed from a request: its [`RequestInfo`], the trace of its `traceparent`, and the deadline that a client sets
/// with `x-request-timeout`, in seconds. It is an axum extractor, for handlers of your own.
#[derive(Clone, Debug)]
pub struct RequestContext(pub Context);

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let mut cx = Context::new();
        if let Some(trace) = text("traceparent") {
            cx = cx.with_traceparent(trace);
        }
        if let Some(seconds) = text("x-request-timeout") {
            let span = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let Some(span) = span else {
                return Err((StatusCode::BAD_REQUEST, "x-request-timeout must be a number of seconds"));
            };
            // A limit beyond what the clock can say is none.
            if let Some(deadline) = Instant::now().checked_add(span) {
                cx = cx.with_deadline(deadline);
            }
        }
        cx.put(RequestInfo {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            peer: parts.extensions.get::<Arc<Connection>>().map(|connection| connection.peer()),
        });
        Ok(Self(cx))
    }
}

/// What a handler comes to; see [`sse`].
pub type Responding = BoxFuture<'static, Response>;

/// A handler that answers with the events that the flow emits. A failure before the first event is a status; one after it
/// an event of type `error`.
pub fn sse<T>(flow: T) -> impl Fn(RequestContext, T::Input) -> Responding + Clone + Send + Sync + 'static
where
    T: Task<Input: 'static, Output: Unpin + 'static> + 'static,
{
    handler(flow, |events: First<Event, T::Output>| Sse::new(events).into_response())
}

/// A handler that answers with the payloads of the events that the flow emits, which must be JSON, a line each. A failure
/// after the first becomes a last line `{"error": …}`.
pub fn ndjson<T>(flow: T) -> impl Fn(RequestContext, T::Input) -> Responding + Clone + Send + Sync + 'static
where
    T: Task<Input: 'static, Output: Unpin + 'static> + 'static,
{
    handler(flow, |events: First<Event, T::Output>| {
        Ndjson::events(events.map(|event| event.map_err(|error| end_of(&error))))
    })
}

/// A handler that answers with the bytes that the flow emits, of this content type. A failure after the first cuts the
/// response short.
pub fn chunked<T>(
    content_type: &'static str,
    flow: T,
) -> impl Fn(RequestContext, T::Input) -> Responding + Clone + Send + Sync + 'static
where
    T: Task<Input: 'static, Output: Unpin + 'static> + 'static,
{
    handler(flow, move |pieces: First<Bytes, T::Output>| {
        let pieces = pieces.map(|piece| piece.map_err(|error| io::Error::other(error.to_string())));
        Chunked::new(pieces).content_type(content_type).into_response()
    })
}

/// A handler that answers with the output of the flow as JSON.
pub fn json<T>(flow: T) -> impl Fn(RequestContext, T::Input) -> Responding + Clone + Send + Sync + 'static
where
    T: Task<Input: 'static, Output: Serialize + 'static> + 'static,
{
    let flow = Arc::new(flow);
    move |RequestContext(cx), input| {
        let run = Arc::clone(&flow).start(&cx, input);
        async move { run.await.map_or_else(|error| refusal(&error), |output| Json(output).into_response()) }
            .boxed()
    }
}

/// The frames of a run, the first of which was awaited to see whether there is one.
type First<F, O> = stream::Chain<stream::Iter<std::option::IntoIter<Result<F, Error>>>, Streaming<F, O>>;

/// A response begins after this time even without a frame, so that no proxy gives it up.
const PATIENCE: Duration = Duration::from_secs(15);

fn handler<T, F>(
    flow: T,
    respond: impl Fn(First<F, T::Output>) -> Response + Clone + Send + Sync + 'static,
) -> impl Fn(RequestContext, T::Input) -> Responding + Clone + Send + Sync + 'static
where
    T: Task<Input: 'static, Output: Unpin + 'static> + 'static,
    F: Frame + Send + 'static,
{
    let flow = Arc::new(flow);
    move |RequestContext(cx), input| {
        let mut frames = Arc::clone(&flow).stream::<F>(&cx, input);
        let respond = respond.clone();
        async move {
            let first = match timeout(PATIENCE, Pin::new(&mut frames).next()).await {
                Ok(Some(Err(error))) => return refusal(&error),
                Ok(first) => first,
                Err(_) => None,
            };
            respond(stream::iter(first).chain(frames))
        }
        .boxed()
    }
}

/// A failure before the response has begun.
fn refusal(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Refused | ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    tracing::warn!(%error, "a flow failed before it answered");
    // The message may hold what is not for the client; the kind does not.
    let body =
        serde_json::json!({"error": {"code": error.kind().as_str(), "message": status.canonical_reason()}});
    (status, Json(body)).into_response()
}

fn end_of(error: &Error) -> End {
    End::new(Cause::Internal, error.to_string()).with_code(error.kind().as_str())
}
