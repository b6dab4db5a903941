//! Servers of protocols of your own: any codec, any number of messages in either direction, at any time.
//!
//! ```no_run
//! use flumen::push::{Server, Shutdown};
//! use flumen::wire::boundary::Lines;
//!
//! # async fn run() -> std::io::Result<()> {
//! let server = Server::bind("127.0.0.1:7000").await?;
//! server.serve(Lines::new, |mut peer| async move {
//!     while let Some(line) = peer.next().await? {
//!         for word in line.split(' ') {
//!             peer.push(word.to_owned()).await?; // waits for a slow peer
//!         }
//!     }
//!     Ok(())
//! }, Shutdown::new()).await;
//! # Ok(()) }
//! ```

use std::{fmt, future::Future, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use flumen_flow::Result;
use flumen_wire::tls::ServerTls;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{codec::Decoder, task::TaskTracker};

mod peer;

pub use flumen_wire::listen::Shutdown;
pub use peer::{Peer, PeerError};

use peer::Io;

/// What a server allows each peer. Every limit is finite.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; those that come beyond wait in the kernel's queue.
    pub connections: usize,
    /// How long a peer may say nothing while the handler waits for its next message.
    pub idle: Duration,
    /// How long a message may take from its first byte to its last.
    pub message: Duration,
    /// How long a peer may refuse to take what is pushed.
    pub stall: Duration,
    /// Longest time for a TLS handshake.
    pub tls_handshake: Duration,
    /// How long handlers may go on when the server drains.
    pub drain: Duration,
}

impl Default for Limits {
    /// 10,000 connections; 5 min idle, 10 s for a message, 60 s stalled, 5 s for TLS, 10 s to drain.
    fn default() -> Self {
        Self {
            connections: 10_000,
            idle: Duration::from_mins(5),
            message: Duration::from_secs(10),
            stall: Duration::from_mins(1),
            tls_handshake: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// A server that is bound and not yet serving.
pub struct Server {
    socket: Socket,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Ok(Self::on(Socket::Tcp(TcpListener::bind(address).await?)))
    }

    /// Binds a Unix socket. The file must not exist yet.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn bind_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::on(Socket::Unix(UnixListener::bind(path)?)))
    }

    fn on(socket: Socket) -> Self {
        Self { socket, tls: None, limits: Limits::default() }
    }

    /// Speaks TLS with this certificate.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn tls(mut self, tls: &ServerTls) -> io::Result<Self> {
        let mut config = (*tls.server_config()?).clone();
        // The protocols on offer are those of HTTP: here it is none.
        config.alpn_protocols.clear();
        self.tls = Some(TlsAcceptor::from(Arc::new(config)));
        Ok(self)
    }

    /// Holds peers to these limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The address it is bound to; none for a Unix socket.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Some),
            Socket::Unix(_) => Ok(None),
        }
    }

    /// Accepts peers and runs the handler for each, until the shutdown drains: then it accepts no more, handlers see
    /// [`Peer::draining`], and those that are not done in time are dropped.
    ///
    /// The connection closes when its handler returns. An error of the handler is logged and ends only its connection.
    pub async fn serve<C, H, Fut>(self, codec: impl Fn() -> C, handler: H, shutdown: Shutdown)
    where
        C: Decoder<Item: Send, Error: Send> + Send + 'static,
        H: Fn(Peer<C>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let limits = self.limits;
        let (open, places) = (TaskTracker::new(), Arc::new(Semaphore::new(limits.connections)));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let (io, address) = tokio::select! {
                biased;
                () = shutdown.draining() => break,
                accepted = self.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: let some connections end.
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (codec, handler, shutdown, tls) =
                (codec(), handler.clone(), shutdown.clone(), self.tls.clone());
            open.spawn(async move {
                let _place = place;
                let stop = shutdown.clone();
                let serving = async {
                    let io = handshake(io, tls, limits.tls_handshake).await?;
                    handler(Peer::new(io, codec, address, limits, shutdown)).await
                };
                tokio::select! {
                    ended = serving => if let Err(error) = ended {
                        tracing::debug!(?address, %error, "a peer's handler failed");
                    },
                    () = stop.aborted() => {}
                }
            });
        }
        drop(self.socket);
        open.close();
        tokio::select! {
            () = open.wait() => {}
            () = sleep(limits.drain) => shutdown.abort(),
        }
        open.wait().await;
    }

    async fn accept(&self) -> io::Result<(Box<dyn Io>, Option<SocketAddr>)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Some(address)))
            }
            Socket::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

async fn handshake(io: Box<dyn Io>, tls: Option<TlsAcceptor>, patience: Duration) -> Result<Box<dyn Io>> {
    let Some(tls) = tls else { return Ok(io) };
    Ok(Box::new(timeout(patience, tls.accept(io)).await??))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}
