use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::{
    Endpoint, Error, ErrorKind, Options, Protocol, Timings, http2,
    pool::{Connection, Pool},
    resolve::Known,
    socket::Io,
};
use crate::tls;

/// Opens connections to one endpoint.
#[derive(Debug)]
pub(super) struct Connector {
    endpoint: Endpoint,
    tls: Option<(Arc<rustls::ClientConfig>, rustls_pki_types::ServerName<'static>)>,
    connect_timeout: Duration,
    tls_timeout: Duration,
    names: Arc<Known>,
}

/// Longest time for a name's new addresses while there are connections to the old ones.
const WAIT_WITH_KEPT: Duration = Duration::from_millis(500);
/// Receive buffer asked of the kernel. Small, so that a server whose answer is not read feels it soon.
const RECEIVE_BUFFER: usize = 64 * 1024;

impl Connector {
    pub(super) fn new(endpoint: Endpoint, options: Options) -> Result<Self, Error> {
        let tls = if endpoint.tls {
            let name = rustls_pki_types::ServerName::try_from(endpoint.host.clone()).map_err(|error| {
                Error::new(ErrorKind::Configuration, "the host name cannot be used with TLS").with(error)
            })?;
            let alpn = match endpoint.protocol {
                Protocol::Http1 => "http/1.1",
                Protocol::Http2 => "h2",
            };
            let config =
                tls::client_config(options.extra_roots, options.identity, &[alpn]).map_err(|error| {
                    Error::new(ErrorKind::Configuration, "a certificate or its key is unusable").with(error)
                })?;
            Some((Arc::new(config), name))
        } else {
            None
        };
        let Options { connect_timeout, tls_timeout, resolver, .. } = options;
        let names = Arc::new(Known::new(resolver, &endpoint.host));
        Ok(Self { endpoint, tls, connect_timeout, tls_timeout, names })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// When the time of the endpoint's addresses is over: those that it has now. With connections at hand, the name is not
    /// waited for as long as it may take to connect.
    pub(super) async fn renewed(&self, kept: &Pool) -> Option<Vec<IpAddr>> {
        if !self.names.is_over() {
            return None;
        }
        let wait =
            if kept.is_empty() { self.connect_timeout } else { self.connect_timeout.min(WAIT_WITH_KEPT) };
        self.names.renewed(wait).await
    }

    pub(super) async fn connect(&self, timings: &mut Timings) -> Result<Connection, Error> {
        let io = self.open(None, timings).await?;
        match self.endpoint.protocol {
            Protocol::Http1 => Ok(Connection::Http1(io)),
            Protocol::Http2 => http2::handshake(io).await.map(Connection::Http2),
        }
    }

    /// The addresses that the endpoint has now.
    pub(super) async fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = self.endpoint.host.parse() {
            return Ok(vec![address]);
        }
        if self.names.is_over() {
            self.names.renewed(self.connect_timeout).await;
        }
        let found = timeout(self.connect_timeout, self.names.addresses()).await;
        let unknown = || Error::new(ErrorKind::Resolve, "the server's host name does not resolve");
        found.map_err(|_| unknown())?.map_err(|error| unknown().with(error))
    }

    /// Opens a connection, to this one of the endpoint's addresses or to whichever answers first.
    pub(super) async fn open(&self, to: Option<IpAddr>, timings: &mut Timings) -> Result<Io, Error> {
        let tcp = self.connect_tcp(to, timings).await?;
        Ok(match &self.tls {
            None => Io::Tcp(tcp),
            Some((config, name)) => {
                let started = Instant::now();
                let handshake = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp);
                let stream = timeout(self.tls_timeout, handshake)
                    .await
                    .map_err(|_| Error::new(ErrorKind::TlsTimeout, "the TLS handshake took too long"))?
                    .map_err(|error| Error::new(ErrorKind::Tls, "the TLS handshake failed").with(error))?;
                timings.tls = Some(started.elapsed());
                Io::Tls(Box::new(stream))
            }
        })
    }

    async fn connect_tcp(
        &self,
        to: Option<IpAddr>,
        timings: &mut Timings,
    ) -> Result<tokio::net::TcpStream, Error> {
        let started = Instant::now();
        let resolver = Resolving { names: Arc::clone(&self.names), only: to, took: Arc::default() };
        let mut connector = HttpConnector::new_with_resolver(resolver.clone());
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_recv_buffer_size(Some(RECEIVE_BUFFER));
        connector.set_keepalive(Some(Duration::from_mins(1)));
        let uri = self.endpoint.uri("/").map_err(|error| {
            Error::new(ErrorKind::Configuration, "the endpoint's URL is unusable").with(error)
        })?;
        let connected = timeout(self.connect_timeout, connector.call(uri)).await;
        let dns = *resolver.took.lock().unwrap_or_else(PoisonError::into_inner);
        timings.dns = dns;
        let tcp: TokioIo<_> = connected
            .map_err(|_| Error::new(ErrorKind::ConnectTimeout, "connecting to the server took too long"))?
            .map_err(|error| {
                let named = self.endpoint.host.parse::<IpAddr>().is_err();
                let (kind, message) = if named && dns.is_none() {
                    (ErrorKind::Resolve, "the server's host name does not resolve")
                } else {
                    (ErrorKind::Connect, "no connection to the server")
                };
                Error::new(kind, message).with(error)
            })?;
        timings.connect = Some(started.elapsed().saturating_sub(dns.unwrap_or_default()));
        Ok(tcp.into_inner())
    }
}

/// The addresses of the endpoint, and what they took.
#[derive(Clone)]
struct Resolving {
    names: Arc<Known>,
    /// The one that is wanted, if it matters.
    only: Option<IpAddr>,
    took: Arc<Mutex<Option<Duration>>>,
}

impl Service<Name> for Resolving {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _name: Name) -> Self::Future {
        let (names, took) = (Arc::clone(&self.names), Arc::clone(&self.took));
        if let Some(only) = self.only {
            return Box::pin(async move { Ok(vec![SocketAddr::new(only, 0)].into_iter()) });
        }
        Box::pin(async move {
            let started = Instant::now();
            let found: Vec<_> =
                names.addresses().await?.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            *took.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.elapsed());
            Ok(found.into_iter())
        })
    }
}
