use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flumen_store::StreamId;
use flumen_stream::{Cause, Meter};
use flumen_wire::listen::Connection;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::record::{Facts, Record};
use crate::{core::Core, error::Failure};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer of every route: opens the request's [`Record`], names the request, counts its bytes, and tells
/// the record how the response ended.
pub(crate) async fn observe(State(core): State<Arc<Core>>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let record = core.record(facts_of(&request, connection.as_deref()));
    request.extensions_mut().insert(Arc::clone(&record));
    let mut response = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Failure::internal("the server failed on this request").into_response());
    if let Some(failure) = response.extensions().get::<Failure>() {
        record.ended(failure.cause, Some(failure.code));
    }
    let mut facts = record.facts();
    if let Ok(id) = HeaderValue::from_str(&facts.request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    for (name, value) in
        std::mem::take(&mut facts.headers).drain().filter_map(|(name, value)| Some((name?, value)))
    {
        response.headers_mut().insert(name, value);
    }
    facts.status = Some(response.status());
    facts.header_out = head_size("HTTP/1.1 200 ", response.status().as_str(), response.headers());
    drop(facts);
    response.map(|body| Body::new(Observed { body, record, connection, sent: 0, ended: false }))
}

/// A path that may stand in a log: whoever knows the whole id of a stream may ask for it.
fn loggable(path: &str) -> String {
    let segment = |segment: &str| match segment.parse::<StreamId>() {
        Ok(id) => format!("{}…", id.short()),
        Err(_) => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

pub(crate) fn facts_of(request: &Request, connection: Option<&Connection>) -> Facts {
    let path = request.uri().path();
    Facts {
        time: SystemTime::now(),
        request_id: request_id(request.headers()),
        peer: connection.map(|connection| connection.peer().to_string()).unwrap_or_default(),
        method: request.method().clone(),
        path: loggable(path),
        status: None,
        dialect: None,
        model: None,
        upstream: None,
        tried: Vec::new(),
        seams: 0,
        queued: None,
        tenant: None,
        key: None,
        stream: false,
        stream_id: None,
        outlives: false,
        cause: None,
        code: None,
        headers: HeaderMap::new(),
        header_in: head_size(request.method().as_str(), path, request.headers()),
        body_in: 0,
        header_out: 0,
        body_out: 0,
        timings: None,
        first_token: None,
        meter: Meter::default(),
        usage: None,
        paused: Duration::ZERO,
    }
}

/// The client's own id, if it is one that may stand in a log, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            id.to_owned()
        }
        _ => format!("{:032x}", fastrand::u128(..)),
    }
}

fn head_size(first: &str, second: &str, headers: &HeaderMap) -> u64 {
    let lines: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (first.len() + second.len() + " HTTP/1.1\r\n\r\n".len() + lines) as u64
}

/// A response body that knows whether it was delivered.
struct Observed {
    body: Body,
    record: Arc<Record>,
    connection: Option<Arc<Connection>>,
    /// Bytes so far.
    sent: u64,
    ended: bool,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.sent += data.len() as u64;
        }
        if frame.is_none() || this.body.is_end_stream() {
            this.ended = true;
        }
        if matches!(frame, Some(Err(_))) {
            this.ended = true;
            this.record.ended(Cause::UpstreamError, None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let stalled = self.connection.as_ref().is_some_and(|connection| connection.is_stalled());
        let cause = match (self.ended || self.body.is_end_stream(), stalled) {
            (true, _) => Cause::Complete,
            (false, true) => Cause::ClientStalled,
            (false, false) if std::thread::panicking() => Cause::Internal,
            (false, false) => Cause::ClientGone,
        };
        let outlives = {
            let mut facts = self.record.facts();
            facts.body_out = self.sent;
            facts.outlives
        };
        if !outlives {
            self.record.ended(cause, None);
        }
    }
}
