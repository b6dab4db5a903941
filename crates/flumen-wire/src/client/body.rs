use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};

use super::{Error, Remote, Timings, http1, http2};

/// The body of a response, read in pieces.
///
/// Not reading pauses the server; dropping it before its end abandons the exchange at once.
pub struct Body {
    from: From,
    timings: Timings,
    /// What was read and put back.
    unread: Option<Bytes>,
}

enum From {
    Http1(Box<http1::Incoming>),
    Http2(Box<http2::Incoming>),
    Source(Box<dyn Source>),
}

/// Where a body comes from, if not from HTTP.
pub trait Source: Send {
    /// The next piece; `None` is the proper end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>>;

    /// The reader is so far behind that it stops reading, or has caught up and goes on.
    fn pause(&mut self, _paused: bool) {}

    /// What the exchange took at the other end, once it has told.
    fn remote(&self) -> Option<Remote> {
        None
    }

    /// The reader wants no more, for this reason. The source is dropped next.
    fn leave(&mut self, _cause: &'static str) {}
}

/// A stream that does not care who reads it.
struct Pieces(BoxStream<'static, Result<Bytes, Error>>);

impl Source for Pieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl Body {
    pub(super) fn http1(incoming: http1::Incoming, timings: Timings) -> Self {
        Self { from: From::Http1(Box::new(incoming)), timings, unread: None }
    }

    pub(super) fn http2(incoming: http2::Incoming, timings: Timings) -> Self {
        Self { from: From::Http2(Box::new(incoming)), timings, unread: None }
    }

    /// A body that comes from within this process, as if it came from a server.
    pub fn local(stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        let mut timings = Timings::new();
        timings.header = Some(std::time::Duration::ZERO);
        Self::of(Pieces(stream.boxed()), timings)
    }

    /// A body that comes from elsewhere, for example over RPC.
    pub fn of(source: impl Source + 'static, timings: Timings) -> Self {
        Self { from: From::Source(Box::new(source)), timings, unread: None }
    }

    /// Tells where the body comes from that it is not read for now, or again. Over HTTP, not reading says it.
    pub fn pause(&mut self, paused: bool) {
        if let From::Source(source) = &mut self.from {
            source.pause(paused);
        }
    }

    /// Gives the rest up, for this reason. Over HTTP nobody hears the reason.
    pub fn leave(mut self, cause: &'static str) {
        if let From::Source(source) = &mut self.from {
            source.leave(cause);
        }
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
        let piece = ready!(match &mut self.from {
            From::Http1(incoming) => incoming.poll_piece(cx),
            From::Http2(incoming) => incoming.poll_piece(cx),
            From::Source(source) => source.poll_piece(cx),
        });
        if let Some(Ok(bytes)) = &piece {
            self.timings.count_body(bytes.len());
        }
        if let From::Source(source) = &self.from {
            self.timings.remote = source.remote();
        }
        Poll::Ready(piece)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("timings", &self.timings).finish_non_exhaustive()
    }
}
