use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};

use super::{Error, Timings, http1, http2};

/// The body of a response, read in pieces.
///
/// Not reading pauses the server; dropping it before its end abandons the exchange at once.
pub struct Body {
    source: Source,
    timings: Timings,
    /// What was read and put back.
    unread: Option<Bytes>,
}

enum Source {
    Http1(Box<http1::Incoming>),
    Http2(Box<http2::Incoming>),
    Local(BoxStream<'static, Result<Bytes, Error>>),
}

impl Body {
    pub(super) fn http1(incoming: http1::Incoming, timings: Timings) -> Self {
        Self { source: Source::Http1(Box::new(incoming)), timings, unread: None }
    }

    pub(super) fn http2(incoming: http2::Incoming, timings: Timings) -> Self {
        Self { source: Source::Http2(Box::new(incoming)), timings, unread: None }
    }

    /// A body that comes from within this process, as if it came from a server.
    pub fn local(stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        let mut timings = Timings::new();
        timings.header = Some(std::time::Duration::ZERO);
        Self { source: Source::Local(stream.boxed()), timings, unread: None }
    }

    /// What the exchange took so far.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// For a source inside this process, which has no socket to measure.
    pub fn timings_mut(&mut self) -> &mut Timings {
        &mut self.timings
    }

    /// The next piece: everything that one receive brought, without its framing. `None` is the body's proper end.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// Once; nothing more comes after it.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Puts back what was read, so that it is read again. Only what was put back last is kept.
    pub fn put_back(&mut self, piece: Bytes) {
        self.unread = Some(piece);
    }

    /// The poll form of [`piece`](Self::piece).
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(piece) = self.unread.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let piece = ready!(match &mut self.source {
            Source::Http1(incoming) => incoming.poll_piece(cx),
            Source::Http2(incoming) => incoming.poll_piece(cx),
            Source::Local(stream) => Pin::new(stream).poll_next(cx),
        });
        if let Some(Ok(bytes)) = &piece {
            self.timings.count_body(bytes.len());
        }
        Poll::Ready(piece)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("timings", &self.timings).finish_non_exhaustive()
    }
}
