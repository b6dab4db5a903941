//! HTTP through to another server: bodies stream both ways at the same time, upgrades (WebSocket, for example) and
//! `CONNECT` become two-way relays, and whoever is slow sets the pace.
//!
//! ```no_run
//! use flumen::{Router, proxy::Proxy, serve};
//!
//! # async fn run() -> std::io::Result<()> {
//! let proxy = Proxy::to("127.0.0.1:8000");
//! serve("127.0.0.1:3000", Router::new().fallback(move |request| proxy.clone().handle(request))).await
//! # }
//! ```

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use flumen_wire::relay::{Moved, relay};
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::{client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Passes requests on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where requests go; `None`: where they say.
    target: Option<String>,
    requests: AtomicU64,
    bytes_up: Arc<AtomicU64>,
    bytes_down: Arc<AtomicU64>,
}

/// What went through a [`Proxy`] so far: bodies and upgraded connections, without heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Requests.
    pub requests: u64,
    /// Bytes from clients to servers.
    pub bytes_up: u64,
    /// Bytes from servers to clients.
    pub bytes_down: u64,
}

/// Longest time to connect to the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Proxy {
    /// Passes every request on to one server, given as `host:port`.
    pub fn to(target: impl Into<String>) -> Self {
        Self::new(Some(target.into()))
    }

    /// Passes requests on to where they say: a forward proxy, as in `curl -x`, `CONNECT` included. Anybody who reaches it can
    /// reach through it.
    pub fn forward() -> Self {
        Self::new(None)
    }

    fn new(target: Option<String>) -> Self {
        let inner = Inner {
            target,
            requests: AtomicU64::new(0),
            bytes_up: Arc::default(),
            bytes_down: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What went through so far.
    pub fn passed(&self) -> Passed {
        Passed {
            requests: self.inner.requests.load(Relaxed),
            bytes_up: self.inner.bytes_up.load(Relaxed),
            bytes_down: self.inner.bytes_down.load(Relaxed),
        }
    }

    /// Answers a request with what the server answers, or with 502 and a reason.
    pub async fn handle(self, request: Request) -> Response {
        self.inner.requests.fetch_add(1, Relaxed);
        let passed = if request.method() == Method::CONNECT && self.inner.target.is_none() {
            self.tunnel(request).await
        } else {
            self.pass(request).await
        };
        passed.unwrap_or_else(|error| {
            tracing::debug!(%error, "a request was not passed on");
            (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response()
        })
    }

    async fn pass(&self, mut request: Request) -> Result<Response, ProxyError> {
        let target = match (&self.inner.target, request.uri().authority()) {
            (Some(target), _) => target.clone(),
            (None, Some(authority)) => {
                format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80))
            }
            (None, None) => return Err(ProxyError::NoTarget),
        };
        let upgrade_to = asked_upgrade(request.headers());
        let client_side = upgrade_to.as_ref().map(|_| upgrade::on(&mut request));
        let request = outgoing(request, &target, upgrade_to.as_ref(), &self.inner.bytes_up)?;
        let server = connect(&target).await?;
        let (mut send, connection) = http1::Builder::new().handshake::<_, Body>(TokioIo::new(server)).await?;
        // Ends with its exchange: both halves go when the response body is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a proxied connection ended");
            }
        });
        let mut response = send.send_request(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client_side) = client_side
        {
            let server_side = upgrade::on(&mut response);
            self.relay_when_upgraded(client_side, server_side);
            return Ok(response.map(|_| Body::empty()));
        }
        let counted = Arc::clone(&self.inner.bytes_down);
        let mut response = response.map(|body| {
            let pieces = body.into_data_stream().inspect_ok(move |piece| {
                counted.fetch_add(piece.len() as u64, Relaxed);
            });
            Body::from_stream(pieces)
        });
        strip(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }

    /// Opens a connection and relays what comes after the head.
    async fn tunnel(&self, mut request: Request) -> Result<Response, ProxyError> {
        let target = request.uri().authority().ok_or(ProxyError::NoTarget)?.to_string();
        let server = connect(&target).await?;
        let client_side = upgrade::on(&mut request);
        let proxy = self.clone();
        tokio::spawn(async move {
            match client_side.await {
                Ok(client) => proxy.count(relay(TokioIo::new(client), server).await),
                Err(error) => tracing::debug!(%error, "a tunnel was not opened"),
            }
        });
        Ok(StatusCode::OK.into_response())
    }

    fn relay_when_upgraded(&self, client: upgrade::OnUpgrade, server: upgrade::OnUpgrade) {
        let proxy = self.clone();
        tokio::spawn(async move {
            match tokio::try_join!(client, server) {
                Ok((client, server)) => proxy.count(relay(TokioIo::new(client), TokioIo::new(server)).await),
                Err(error) => tracing::debug!(%error, "an upgrade failed"),
            }
        });
    }

    fn count(&self, relayed: Result<Moved, flumen_wire::relay::RelayError>) {
        let moved = relayed.unwrap_or_else(|error| {
            tracing::debug!(%error, "a relay ended early");
            error.moved
        });
        self.inner.bytes_up.fetch_add(moved.forth, Relaxed);
        self.inner.bytes_down.fetch_add(moved.back, Relaxed);
    }
}

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("the request does not say where it is to go: a proxy needs the whole URL")]
    NoTarget,
    #[error("no connection to {target}: {source}")]
    Connect { target: String, source: io::Error },
    #[error("the server broke off: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the request cannot be passed on: {0}")]
    Request(#[from] http::Error),
}

async fn connect(target: &str) -> Result<TcpStream, ProxyError> {
    let failed = |source| ProxyError::Connect { target: target.to_owned(), source };
    let connected = timeout(PATIENCE, TcpStream::connect(target)).await;
    let stream = connected.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

fn asked_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(header::CONNECTION)?.to_str().ok()?;
    let asked = connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Removes what belongs to one connection: the usual headers, and those that `connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

fn outgoing(
    request: Request,
    target: &str,
    upgrade_to: Option<&HeaderValue>,
    counter: &Arc<AtomicU64>,
) -> Result<http::Request<Body>, ProxyError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(http::Error::from)?;
    parts.version = Version::HTTP_11;
    strip(&mut parts.headers);
    if let Some(protocol) = upgrade_to {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol.clone());
    }
    if !parts.headers.contains_key(header::HOST) {
        parts.headers.insert(header::HOST, HeaderValue::from_str(target).map_err(http::Error::from)?);
    }
    if http_body::Body::is_end_stream(&body) {
        return Ok(http::Request::from_parts(parts, Body::empty()));
    }
    let counter = Arc::clone(counter);
    let pieces = body.into_data_stream().inspect_ok(move |piece| {
        counter.fetch_add(piece.len() as u64, Relaxed);
    });
    Ok(http::Request::from_parts(parts, Body::from_stream(pieces)))
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} bytes up, {} bytes down", self.requests, self.bytes_up, self.bytes_down)
    }
}
