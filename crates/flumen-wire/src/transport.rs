//! How a stream becomes a response.
//!
//! [`Sse`], [`Ndjson`] and [`Chunked`] turn any [`Stream`] into an axum response with the headers that keep proxies
//! from buffering it. Frames that are ready together leave together; a frame that is ready alone leaves at once.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderValue, header};
use http_body::{Body as HttpBody, Frame};
use pin_project_lite::pin_project;

mod chunked;
mod compress;
mod ndjson;
mod sse;

pub use chunked::Chunked;
pub use compress::{Coding, compressed};
pub use ndjson::Ndjson;
pub use sse::{IntoEvents, Sse};

/// One write takes about this many bytes of what is ready.
const BATCH: usize = 16 * 1024;

pin_project! {
    /// A response body that joins the frames which are ready together.
    pub struct Batched<S> {
        #[pin]
        frames: S,
        done: bool,
    }
}

impl<S> Batched<S> {
    /// A body of these frames.
    pub fn new(frames: S) -> Self {
        Self { frames, done: false }
    }
}

impl<S> fmt::Debug for Batched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("done", &self.done).finish_non_exhaustive()
    }
}

/// Frames of one write. A single frame goes on as it is; only from the second on are they copied together.
#[derive(Default)]
struct Batch {
    one: Bytes,
    more: BytesMut,
}

impl Batch {
    fn len(&self) -> usize {
        self.one.len() + self.more.len()
    }

    fn push(&mut self, frame: Bytes) {
        if self.len() == 0 {
            self.one = frame;
            return;
        }
        if self.more.is_empty() {
            self.more.reserve(BATCH.max(self.one.len() + frame.len()));
            self.more.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.more.extend_from_slice(&frame);
    }

    fn into_bytes(self) -> Bytes {
        if self.more.is_empty() { self.one } else { self.more.freeze() }
    }
}

impl<S: Stream<Item = Bytes>> HttpBody for Batched<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut this = self.project();
        let mut batch = Batch::default();
        while !*this.done && batch.len() < BATCH {
            match this.frames.as_mut().poll_next(cx) {
                Poll::Ready(Some(frame)) => batch.push(frame),
                Poll::Ready(None) => *this.done = true,
                Poll::Pending if batch.len() == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((batch.len() > 0).then(|| Ok(Frame::data(batch.into_bytes()))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

/// A streaming response of this content type, which no proxy may buffer or change.
pub fn streaming<B>(content_type: &'static str, body: B) -> Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (http::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::new(body)).into_response()
}

#[cfg(test)]
mod tests;
