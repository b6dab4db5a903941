use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;

use super::streaming;

/// A stream of bytes as they are, in HTTP's own chunks.
///
/// An item `Err` cuts the response short, so that the client sees it is incomplete.
///
/// ```
/// use flumen_wire::transport::Chunked;
/// use futures_util::stream;
///
/// async fn handler() -> Chunked<impl futures_util::Stream<Item = std::io::Result<&'static str>>> {
///     Chunked::new(stream::iter(["any ", "bytes"]).map(Ok)).content_type("text/plain; charset=utf-8")
/// }
/// # use futures_util::StreamExt;
/// ```
#[derive(Debug)]
pub struct Chunked<S> {
    stream: S,
    content_type: &'static str,
}

impl<S> Chunked<S> {
    /// A response of this stream, as `application/octet-stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, content_type: "application/octet-stream" }
    }

    /// Says what the bytes are.
    pub fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }
}

impl<S, T, E> IntoResponse for Chunked<S>
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    T: Into<Bytes> + 'static,
    E: Error + Send + Sync + 'static,
{
    fn into_response(self) -> Response {
        streaming(self.content_type, Pieces { stream: self.stream.map_ok(Into::into), done: false })
    }
}

pin_project! {
    /// A body that stays ended once it has ended: some layers poll again.
    struct Pieces<S> {
        #[pin]
        stream: S,
        done: bool,
    }
}

impl<S, E> HttpBody for Pieces<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let this = self.project();
        if *this.done {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(this.stream.poll_next(cx));
        *this.done = !matches!(item, Some(Ok(_)));
        Poll::Ready(item.map(|item| item.map(Frame::data)))
    }
}
