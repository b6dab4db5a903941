//! What a request is answered with.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream, stream::BoxStream};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::stats::Ticket;

/// The answer to one request.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The header, without any framing such as a length.
    pub headers: HeaderMap,
    /// The body, generated while it is read.
    pub body: ReplyBody,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Self { status, headers, body }
    }

    /// A reply that is all there.
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", ReplyBody::whole(body.into()))
    }

    pub(crate) fn html(page: &'static str) -> Self {
        Self::new(
            StatusCode::OK,
            "text/html; charset=utf-8",
            ReplyBody::whole(Bytes::from_static(page.as_bytes())),
        )
    }

    /// Counts the request as answered.
    pub(crate) fn completing(self, mut ticket: Ticket) -> Self {
        ticket.complete();
        self
    }
}

/// The body of a [`Reply`], a stream of chunks that do not fall on event boundaries by any promise.
///
/// Dropping it stops generating at once.
pub struct ReplyBody {
    chunks: BoxStream<'static, Result<Bytes, Cut>>,
    size: Option<usize>,
}

impl ReplyBody {
    pub(crate) fn new(chunks: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static) -> Self {
        Self { chunks: chunks.boxed(), size: None }
    }

    /// A body that is all there.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { size: Some(body.len()), ..Self::new(stream::iter([Ok(body)])) }
    }

    /// The length in bytes, if it is known beforehand.
    pub(crate) fn size(&self) -> Option<usize> {
        self.size
    }
}

impl Stream for ReplyBody {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(cx)
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody").field("size", &self.size).finish_non_exhaustive()
    }
}

/// The connection is to be cut here, without a proper end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulator cuts the connection, as it was told to")]
pub struct Cut;
