use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Chain};
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::{Error, ErrorKind, socket::Io};

/// A request on its way out, over HTTP/1.1.
pub(super) struct Upload {
    /// What goes next.
    out: Chain<Bytes, Bytes>,
    /// Where more comes from, in chunks (RFC 9112, section 7.1).
    more: Option<BoxStream<'static, io::Result<Bytes>>>,
}

impl Upload {
    pub(super) fn whole(head: Bytes, body: Bytes) -> Self {
        Self { out: head.chain(body), more: None }
    }

    pub(super) fn streaming(head: Bytes, body: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self { out: head.chain(Bytes::new()), more: Some(body) }
    }

    /// Sends all of it. When the server no longer takes it this is done as well: it may have answered before it closed its
    /// receiving side, and the answer tells.
    pub(super) fn poll_send(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match ready!(poll_write_all(io, cx, &mut self.out)) {
                Ok(()) => {}
                Err(_) => return Poll::Ready(Ok(())),
            }
            let Some(body) = &mut self.more else { return Poll::Ready(Ok(())) };
            match ready!(body.as_mut().poll_next(cx)) {
                // An empty chunk would be the last one.
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    let mut framed = BytesMut::with_capacity(piece.len() + 12);
                    framed.put_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    framed.put(piece);
                    self.out = framed.freeze().chain(Bytes::from_static(b"\r\n"));
                }
                Some(Err(error)) => {
                    let broken = Error::new(ErrorKind::Broken, "the request's body broke off");
                    return Poll::Ready(Err(broken.with(error)));
                }
                None => {
                    self.more = None;
                    self.out = Bytes::from_static(b"0\r\n\r\n").chain(Bytes::new());
                }
            }
        }
    }
}

fn poll_write_all(io: &mut Io, cx: &mut Context<'_>, message: &mut impl Buf) -> Poll<io::Result<()>> {
    while message.has_remaining() {
        let mut slices = [IoSlice::new(&[]); 2];
        let used = message.chunks_vectored(&mut slices);
        let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..used]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        message.advance(written);
    }
    Pin::new(io).poll_flush(cx)
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("left", &self.out.remaining()).finish_non_exhaustive()
    }
}
