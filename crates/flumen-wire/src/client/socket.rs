use std::{
    cell::RefCell,
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A connection to a server, plain or under TLS.
#[derive(Debug)]
pub enum Io {
    /// Plain.
    Tcp(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// One receive takes at most this many bytes.
pub(super) const RECEIVE: usize = 16 * 1024;

thread_local! {
    /// Where every receive of this core lands. What it brought is copied out at its exact size, so a connection that
    /// waits holds no buffer and a small event never pins a large one.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE].into_boxed_slice());
}

impl Io {
    /// Receives once, at most 16 KiB, and shows what came; an empty slice is the end of input. Holds no buffer while it waits.
    pub fn poll_receive<R>(
        &mut self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> Poll<io::Result<R>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(self).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok(f(buf.filled_mut())))
        })
    }

    /// The address at the other end.
    pub fn peer(&self) -> Option<IpAddr> {
        let tcp = match self {
            Self::Tcp(io) => io,
            Self::Tls(io) => io.get_ref().0,
        };
        tcp.peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// Whether an unused connection is still usable: the server has neither closed it nor said anything unasked.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.poll_receive(&mut cx, |_| ()).is_pending()
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(&mut **io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(&mut **io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(&mut **io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(&mut **io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(&mut **io).poll_shutdown(cx),
        }
    }
}
