//! The listener: an own accept loop over hyper with a router on top.
//!
//! ```no_run
//! use flumen_wire::listen::{Gate, Limits, Listener, Shutdown};
//!
//! # async fn run() -> std::io::Result<()> {
//! let listener = Listener::bind("127.0.0.1:8080".parse().unwrap(), false)?;
//! let shutdown = Shutdown::new();
//! let router = axum::Router::new();
//! listener.serve(router, Limits::default().into(), Gate::default().into(), None, shutdown).await
//! # }
//! ```

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::future::BoxFuture;
use http::{Request, Version};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

mod begins;
mod connection;
mod gate;
mod shutdown;
mod tracked;

pub use connection::Connection;
pub use gate::{Gate, Pass};
pub use shutdown::{Shutdown, Signal};

use begins::{Begins, begins};
use connection::{Ended, Metered, Watched};
use shutdown::LAST_WORDS;
use tracked::Tracked;

use crate::tls::ServerTls;

/// What one listener allows. Every limit is finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections of one IP address.
    pub connections_per_address: usize,
    /// Largest request head, in bytes; also what HTTP/1.1 buffers per connection on its way out.
    pub header_size: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub http2_streams: u32,
    /// Streams that one HTTP/2 connection may abandon within a minute.
    pub http2_resets: usize,
    /// Bytes that a client may send on one HTTP/2 stream before they are read.
    pub http2_stream_window: u32,
    /// The same for all streams of a connection. Half of it is what the `h2` crate bears of overhead of small frames that are not
    /// read (RUSTSEC-2026-0258).
    pub http2_connection_window: u32,
    /// From connecting, or from the first byte of a later request, to the end of the request head.
    pub request_header: Duration,
    /// How long a connection may stay without a request.
    pub keep_alive: Duration,
    /// How long a peer may refuse to take what waits for it.
    pub stall: Duration,
    /// Longest time for a TLS handshake.
    pub tls_handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 2_000,
            header_size: 16 * 1024,
            http2_streams: 256,
            http2_resets: 100,
            http2_stream_window: 1 << 20,
            http2_connection_window: 1 << 20,
            request_header: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            stall: Duration::from_mins(1),
            tls_handshake: Duration::from_secs(5),
        }
    }
}

/// Bytes that the kernel may hold unsent. Without a bound a client that never reads swallows megabytes before anybody
/// notices.
const NOT_SENT_LOW_WATER: u32 = 16 * 1024;

/// A bound TCP socket.
pub struct Listener {
    socket: std::net::TcpListener,
    other: Option<Other>,
}

/// Serves a connection that does not begin as HTTP does.
pub type Other = Arc<dyn Fn(TcpStream, SocketAddr) -> BoxFuture<'static, ()> + Send + Sync>;

impl Listener {
    /// Binds an address. With `shared`, further listeners may bind the same address to share its connections.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(Self { socket: socket.into(), other: None })
    }

    /// Hands connections whose first byte is 0 to somebody else: no HTTP begins so, and binary protocols that start with a length
    /// do. Without TLS only.
    pub fn besides(self, other: Other) -> Self {
        Self { other: Some(other), ..self }
    }

    /// Binds one address several times, for a listener per core. Unlike the bare socket option this fails when
    /// another process of the same user has the address already.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind_per_core(address: SocketAddr, cores: usize) -> io::Result<Vec<Self>> {
        let probe = Self::bind(address, false)?;
        let address = probe.local_addr()?;
        drop(probe);
        (0..cores).map(|_| Self::bind(address, true)).collect()
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections and serves them until the shutdown's drain is over.
    ///
    /// Handlers find the [`Connection`] in the request's extensions. On drain it stops accepting at once, closes idle
    /// connections, and lets running requests finish; when the shutdown aborts, it waits a moment for the last bytes
    /// and drops what is left.
    ///
    /// # Errors
    /// When the socket cannot be registered with the runtime. Errors of single connections end only these.
    pub async fn serve(
        self,
        router: Router,
        limits: Arc<Limits>,
        gate: Arc<Gate>,
        tls: Option<Arc<ServerTls>>,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(self.socket)?;
        let tls = tls.map(|tls| tls.server_config()).transpose()?.map(TlsAcceptor::from);
        let open = tokio_util::task::TaskTracker::new();
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = shutdown.draining() => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: let some connections end.
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let Some(pass) = gate.admit(peer.ip(), &limits) else { continue };
            set_options(&stream, &limits);
            let (router, limits, tls, shutdown) =
                (router.clone(), Arc::clone(&limits), tls.clone(), shutdown.clone());
            let other = self.other.clone();
            open.spawn(async move {
                let _pass = pass;
                let abort = shutdown.abort_signal();
                let connection = pin!(serve_connection(stream, peer, router, limits, tls, other, shutdown));
                until_over(connection, abort).await;
            });
        }
        drop(listener);
        open.close();
        tokio::select! {
            () = open.wait() => {}
            () = shutdown.over() => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Runs a connection to its end, or until a moment after the abort: whoever serves in a process that goes on leaves nothing behind.
async fn until_over(mut connection: Pin<&mut impl Future<Output = ()>>, mut abort: Signal) {
    let ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => abort.poll(cx).map(|()| false),
    });
    if !ended.await {
        let _ = timeout(LAST_WORDS, connection).await;
    }
}

fn set_options(stream: &TcpStream, limits: &Limits) {
    let socket = SockRef::from(stream);
    let outcome = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER))
        // A peer that vanished without a word is noticed by the kernel, a little after our own clock would.
        .and_then(|()| socket.set_tcp_user_timeout(Some(limits.stall + Duration::from_secs(10))));
    if let Err(error) = outcome {
        tracing::debug!(%error, "cannot set socket options");
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Arc<Limits>,
    tls: Option<TlsAcceptor>,
    other: Option<Other>,
    shutdown: Shutdown,
) {
    // An idle stream keeps its connection's future alive: only the common one may be inline in the task.
    let Some(tls) = tls else {
        let state = Arc::new(Connection::new(peer, &limits));
        return match begins(&stream, &limits, &shutdown).await {
            Some(Begins::Http1) => drive(stream, state, router, limits, shutdown, Version::HTTP_11).await,
            Some(Begins::Http2) => {
                Box::pin(drive(stream, state, router, limits, shutdown, Version::HTTP_2)).await;
            }
            Some(Begins::Other) => match other {
                Some(other) => {
                    // Whoever pauses there for long is neither gone nor stalled.
                    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(None) {
                        tracing::debug!(%error, "cannot set socket options");
                    }
                    other(stream, peer).await;
                }
                // HTTP/1.1 has the words to say that this is none.
                None => drive(stream, state, router, limits, shutdown, Version::HTTP_11).await,
            },
            None => {}
        };
    };
    let handshake = timeout(limits.tls_handshake, Box::pin(tls.accept(stream)));
    match handshake.await {
        Ok(Ok(stream)) => {
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::HTTP_2,
                _ => Version::HTTP_11,
            };
            let state = Arc::new(Connection::new(peer, &limits));
            Box::pin(drive(stream, state, router, limits, shutdown, version)).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

async fn drive<I>(
    io: I,
    state: Arc<Connection>,
    router: Router,
    limits: Arc<Limits>,
    shutdown: Shutdown,
    version: Version,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = state.peer();
    let io = TokioIo::new(Metered::new(io, Arc::clone(&state)));
    let service = service_fn({
        let state = Arc::clone(&state);
        move |mut request: Request<Incoming>| {
            let exchange = state.begin(request.version());
            request.extensions_mut().insert(Arc::clone(&state));
            let response = router.clone().oneshot(request.map(Body::new));
            async move {
                let Ok(response) = response.await;
                Ok::<_, Infallible>(response.map(|body| Tracked::new(body, exchange)))
            }
        }
    });
    let ended = if version == Version::HTTP_2 {
        let connection = http2(&limits).serve_connection(io, service);
        let stop = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
        Box::pin(until_drained(Watched::new(connection, state), &shutdown, stop)).await
    } else {
        let connection = http1(&limits).serve_connection(io, service).with_upgrades();
        let stop = |connection: Pin<&mut http1::UpgradeableConnection<_, _>>| connection.graceful_shutdown();
        until_drained(Watched::new(connection, state), &shutdown, stop).await
    };
    if let Err(reason) = ended {
        tracing::debug!(%peer, %reason, "a connection ended");
    }
}

/// Runs a connection to its end; when the drain begins, only as far as what it is answering.
async fn until_drained<C>(
    connection: Watched<C>,
    shutdown: &Shutdown,
    stop: impl FnOnce(Pin<&mut C>),
) -> Result<(), Ended>
where
    Watched<C>: Future<Output = Result<(), Ended>>,
{
    let (mut connection, mut drain) = (pin!(connection), Some((shutdown.drain_signal(), stop)));
    poll_fn(|cx| {
        if let Some((mut signal, stop)) = drain.take() {
            if signal.poll(cx).is_ready() {
                stop(connection.as_mut().connection());
            } else {
                drain = Some((signal, stop));
            }
        }
        connection.as_mut().poll(cx)
    })
    .await
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Time limits are those of `Watched`, which cover HTTP/2 and the time before the first byte as well.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(limits.header_size.max(8192));
    builder
}

fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_pending_accept_reset_streams(limits.http2_resets)
        .max_local_error_reset_streams(limits.http2_resets)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    builder
}

/// The address that counts for limits: IPv4 in IPv6 clothes is IPv4, and one IPv6 host owns a /64.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        canonical => canonical,
    }
}
