use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Version;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::Limits;

/// What is known of one connection. Handlers find an `Arc` of it in the request's extensions.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    opened: Instant,
    request_header: Duration,
    keep_alive: Duration,
    stall: Duration,
    max_resets: usize,
    http2: AtomicBool,
    /// Requests that are being answered.
    active: AtomicU32,
    /// A request head is being received, or the first is waited for.
    in_head: AtomicBool,
    /// When `active` or `in_head` last changed, in milliseconds after `opened`.
    since: AtomicU64,
    /// When the peer stopped taking bytes, in milliseconds after `opened`, plus one; 0 while it takes them.
    blocked: AtomicU64,
    stalled: AtomicBool,
    resets: AtomicUsize,
    resets_since: AtomicU64,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, limits: &Limits) -> Self {
        Self {
            peer,
            opened: Instant::now(),
            request_header: limits.request_header,
            keep_alive: limits.keep_alive,
            stall: limits.stall,
            max_resets: limits.http2_resets,
            http2: AtomicBool::new(false),
            active: AtomicU32::new(0),
            in_head: AtomicBool::new(true),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            resets: AtomicUsize::new(0),
            resets_since: AtomicU64::new(0),
        }
    }

    /// The address of the client.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the connection was cut because the client had taken nothing for too long.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Exchange {
        self.http2.store(version == Version::HTTP_2, Relaxed);
        self.active.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
        Exchange { connection: Arc::clone(self), complete: false }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn received(&self) {
        if self.active.load(Relaxed) == 0 && !self.http2.load(Relaxed) && !self.in_head.swap(true, Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
    }

    fn blocked(&self) {
        if self.blocked.load(Relaxed) == 0 {
            self.blocked.store(self.now() + 1, Relaxed);
        }
    }

    /// What the connection is waited for, and until when.
    fn deadline(&self) -> Option<(Instant, Ended)> {
        let at = |since: u64, span: Duration| self.opened + Duration::from_millis(since) + span;
        let blocked = self.blocked.load(Relaxed);
        if blocked > 0 {
            return Some((at(blocked - 1, self.stall), Ended::Stalled));
        }
        if self.active.load(Relaxed) > 0 {
            return None;
        }
        let since = self.since.load(Relaxed);
        Some(if self.in_head.load(Relaxed) {
            (at(since, self.request_header), Ended::SlowHeader)
        } else {
            (at(since, self.keep_alive), Ended::Idle)
        })
    }

    fn count_reset(&self) {
        let now = self.now();
        if now.saturating_sub(self.resets_since.load(Relaxed)) > 60_000 {
            self.resets_since.store(now, Relaxed);
            self.resets.store(0, Relaxed);
        }
        self.resets.fetch_add(1, Relaxed);
    }
}

/// One request and its response.
pub(super) struct Exchange {
    connection: Arc<Connection>,
    complete: bool,
}

impl Exchange {
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let connection = &self.connection;
        if !self.complete {
            connection.count_reset();
        }
        if connection.active.fetch_sub(1, Relaxed) == 1 {
            connection.since.store(connection.now(), Relaxed);
        }
    }
}

/// Why the server ended a connection, or what ended it.
#[derive(Debug)]
pub(super) enum Ended {
    SlowHeader,
    Idle,
    Stalled,
    TooManyResets,
    Error(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlowHeader => f.write_str("no whole request head in time"),
            Self::Idle => f.write_str("no request in time"),
            Self::Stalled => f.write_str("the client took nothing for too long"),
            Self::TooManyResets => f.write_str("the client abandoned too many streams"),
            Self::Error(error) => error.fmt(f),
        }
    }
}

pin_project! {
    /// A connection under its time limits. All that moves a limit happens within the connection's own task, so the
    /// limits are looked at after each poll and nothing has to be woken for them.
    pub(super) struct Watched<C> {
        #[pin]
        connection: C,
        state: Arc<Connection>,
        timer: Pin<Box<Sleep>>,
    }
}

impl<C> Watched<C> {
    pub(super) fn new(connection: C, state: Arc<Connection>) -> Self {
        let timer = Box::pin(sleep_until(state.opened + state.request_header));
        Self { connection, state, timer }
    }

    pub(super) fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C, E> Future for Watched<C>
where
    C: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<(), Ended>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(ended) = this.connection.poll(cx) {
            return Poll::Ready(ended.map_err(|error| Ended::Error(error.into())));
        }
        let resets = this.state.resets.load(Relaxed);
        if this.state.http2.load(Relaxed) && resets > this.state.max_resets {
            return Poll::Ready(Err(Ended::TooManyResets));
        }
        loop {
            let Some((deadline, reason)) = this.state.deadline() else { return Poll::Pending };
            if deadline < this.timer.deadline() || this.timer.is_elapsed() {
                this.timer.as_mut().reset(deadline);
            }
            std::task::ready!(this.timer.as_mut().poll(cx));
            if deadline <= Instant::now() {
                this.state.stalled.store(matches!(reason, Ended::Stalled), Relaxed);
                return Poll::Ready(Err(reason));
            }
        }
    }
}

/// Copying so few bytes together costs less than the kernel's work on a list of slices.
const GATHERED: usize = 1024;

/// The slices in one, if they are small.
fn gather<'a>(slices: &[io::IoSlice<'_>], into: &'a mut [u8; GATHERED]) -> Option<&'a [u8]> {
    let mut length = 0;
    for slice in slices {
        into.get_mut(length..length + slice.len())?.copy_from_slice(slice);
        length += slice.len();
    }
    Some(&into[..length])
}

/// A socket that tells its connection when bytes come and when the peer takes none.
pub(super) struct Metered<I> {
    io: I,
    state: Arc<Connection>,
}

impl<I> Metered<I> {
    pub(super) fn new(io: I, state: Arc<Connection>) -> Self {
        Self { io, state }
    }

    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &outcome {
            Poll::Pending => self.state.blocked(),
            Poll::Ready(_) => self.state.blocked.store(0, Relaxed),
        }
        outcome
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.state.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = [0; GATHERED];
        let io = Pin::new(&mut self.io);
        let outcome = match gather(bufs, &mut gathered) {
            Some(bytes) => io.poll_write(cx, bytes),
            None => io.poll_write_vectored(cx, bufs),
        };
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
