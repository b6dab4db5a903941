//! A metered HTTP client for answers that arrive in pieces.
//!
//! A [`Client`] speaks to one endpoint. HTTP/1.1 goes through an own response reader that takes one receive, strips
//! the chunk framing in place and hands the payload on in one piece; HTTP/2 goes through hyper. Not polling a
//! [`Body`] pauses the server: receive windows are small. Dropping a [`Body`] or a pending
//! [`send`](Client::send) closes the connection (HTTP/1.1) or resets the stream (HTTP/2) at once.
//!
//! An HTTP/2 connection carries one exchange at a time. On a shared one, a paused stream would hold the connection's
//! window and starve its siblings, or make the `h2` crate close the connection (RUSTSEC-2026-0258).

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use crate::tls;

mod body;
mod connect;
mod dial;
mod endpoint;
mod error;
pub mod http1;
mod http2;
mod pool;
mod resolve;
mod socket;
mod timings;
mod upload;

pub use body::{Body, Source};
pub use dial::Dialer;
pub use endpoint::{Endpoint, InvalidUrl, Protocol};
pub use error::{Error, ErrorKind};
pub use resolve::Resolver;
pub use socket::Io;
pub use timings::{Remote, Timings};

use connect::Connector;
use pool::{Connection, Pool};

/// What a client does when it connects and reads.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest time for name resolution and TCP connect together.
    pub connect_timeout: Duration,
    /// Longest time for the TLS handshake.
    pub tls_timeout: Duration,
    /// Largest response head (and largest trailer section), in bytes.
    pub max_head: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How many unused connections are kept.
    pub max_idle: usize,
    /// Certificates to trust besides the public ones.
    pub extra_roots: Vec<rustls_pki_types::CertificateDer<'static>>,
    /// What is shown to servers that ask who connects.
    pub identity: Option<tls::Identity>,
    /// Who knows the addresses of names.
    pub resolver: Resolver,
}

impl Default for Options {
    /// 5 s to connect, 5 s for TLS, heads of 64 KiB, 256 idle connections for 55 s each.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            tls_timeout: Duration::from_secs(5),
            max_head: 64 * 1024,
            idle_timeout: Duration::from_secs(55),
            max_idle: 256,
            extra_roots: Vec::new(),
            identity: None,
            resolver: Resolver::system(),
        }
    }
}

/// A request; its body is in memory, or comes beside it ([`Client::send_streaming`]).
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, appended to the endpoint's base path; starts with `/`.
    pub path: String,
    /// Headers besides `host`, `content-length` and `connection`, which the client writes.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; it carries the timings of the exchange.
    pub body: Body,
}

/// A client for one endpoint, with its own pool of connections. Cheap to clone.
///
/// Connections belong to the runtime they were opened on: use one client per runtime.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connector: Connector,
    pool: Arc<Pool>,
    max_head: usize,
}

impl Client {
    /// A client for an endpoint. Opens nothing yet.
    ///
    /// # Errors
    /// When an extra root certificate cannot be used.
    pub fn new(endpoint: Endpoint, options: Options) -> Result<Self, Error> {
        let pool = Arc::new(Pool::new(options.max_idle, options.idle_timeout));
        let max_head = options.max_head;
        let connector = Connector::new(endpoint, options)?;
        Ok(Self { inner: Arc::new(Inner { connector, pool, max_head }) })
    }

    /// Sends a request and waits for the final response head.
    ///
    /// A request that met a kept connection which the server had just closed is sent once more on a new one, if not
    /// a byte of an answer had come. Cancel-safe: dropping the future abandons the exchange.
    ///
    /// # Errors
    /// See [`ErrorKind`]; timeouts other than those of connecting are the caller's.
    pub async fn send(&self, request: &Request) -> Result<Response, Error> {
        let started = Instant::now();
        loop {
            self.follow().await;
            let Some(connection) = self.inner.pool.take() else { break };
            let timings = Timings { reused: true, started, ..Timings::new() };
            match self.exchange(connection, request, None, timings).await {
                Err(error) if error.kind() == ErrorKind::ClosedBeforeResponse => {}
                outcome => return outcome,
            }
        }
        let mut timings = Timings { started, ..Timings::new() };
        let connection = self.inner.connector.connect(&mut timings).await?;
        self.exchange(connection, request, None, timings).await
    }

    /// Sends a request whose body is a stream, and waits for the final response head. The body goes on while the
    /// response is read, so both may be endless; the server's pace sets that of the stream. An `Err` of the stream
    /// breaks the exchange off, so that the server sees an incomplete request. The request's own body is not sent.
    ///
    /// It always takes a new connection: what was sent of a stream cannot be sent again. Cancel-safe like
    /// [`send`](Self::send).
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn send_streaming(
        &self,
        request: &Request,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Response, Error> {
        let mut timings = Timings::new();
        self.follow().await;
        let connection = self.inner.connector.connect(&mut timings).await?;
        self.exchange(connection, request, Some(body.boxed()), timings).await
    }

    /// Leaves connections to addresses that the endpoint no longer has.
    async fn follow(&self) {
        if let Some(addresses) = self.inner.connector.renewed(&self.inner.pool).await {
            self.inner.pool.follow(&addresses);
        }
    }

    async fn exchange(
        &self,
        connection: Connection,
        request: &Request,
        body: Option<BoxStream<'static, io::Result<Bytes>>>,
        timings: Timings,
    ) -> Result<Response, Error> {
        let endpoint = self.inner.connector.endpoint();
        match connection {
            Connection::Http1(io) => {
                http1::exchange(io, endpoint, request, body, timings, &self.inner.pool, self.inner.max_head)
                    .await
            }
            Connection::Http2(sender) => {
                http2::exchange(sender, endpoint, request, body, timings, &self.inner.pool).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
