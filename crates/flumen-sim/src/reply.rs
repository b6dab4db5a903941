use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream, stream::BoxStream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// An answer of the simulator.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, produced while it is read.
    pub body: ReplyBody,
}

/// A body as a stream of pieces. Dropping it stops the generation at once.
pub struct ReplyBody(BoxStream<'static, Result<Bytes, Cut>>);

/// The connection is to be cut without a proper end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulator cuts the connection here")]
pub struct Cut;

impl Stream for ReplyBody {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyBody")
    }
}

impl Reply {
    pub(crate) fn stream(pieces: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static) -> Self {
        Self::new(StatusCode::OK, "text/event-stream", pieces)
    }

    pub(crate) fn json(value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        Self::new(StatusCode::OK, "application/json", stream::iter([Ok(body)]))
    }

    pub(crate) fn cut() -> Self {
        Self::new(
            StatusCode::OK,
            "application/json",
            stream::iter([Ok(Bytes::from_static(b"{\"id\":")), Err(Cut)]),
        )
    }

    /// An error in OpenAI's form.
    pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
        let error = error_json(code, message, kind);
        let mut reply = Self { status, ..Self::json(&error) };
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            reply.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }

    fn new(
        status: StatusCode,
        content_type: &'static str,
        pieces: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: ReplyBody(pieces.boxed()) }
    }
}

pub(crate) fn error_json(code: &str, message: &str, kind: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}
