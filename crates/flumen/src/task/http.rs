//! HTTP: requests with redirects and retries, bodies that stream both ways, and the time that every phase took.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flumen_flow::{Backoff, Context, Error, ErrorKind, Result, Sketch, Task};
use flumen_wire::client::{self, Client, Protocol};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::{sleep, timeout};
use url::Url;

mod response;

pub use response::{Events, Response};

/// How requests are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// How connections are made and kept.
    pub connect: client::Options,
    /// HTTP/1.1 unless said otherwise.
    pub protocol: Protocol,
    /// How many redirects are followed; 10 unless said otherwise.
    pub redirects: usize,
    /// What is tried again: requests that got no answer, if their method is idempotent or nothing was sent, and
    /// answers 429, 502, 503 and 504. Not at all unless said otherwise.
    pub retry: Backoff,
    /// How long the head of an answer may take, redirects and retries each; 30 s unless said otherwise.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: client::Options::default(),
            protocol: Protocol::Http1,
            redirects: 10,
            retry: Backoff::attempts(1),
            timeout: Duration::from_secs(30),
        }
    }
}

/// An HTTP client for any server, with a pool of connections for each. Cheap to clone.
///
/// Connections belong to the runtime they were opened on: use one client per runtime.
///
/// It is a [`Task`] from [`Request`] to [`Response`].
#[derive(Clone, Debug)]
pub struct Http {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    /// By scheme and authority.
    clients: Mutex<HashMap<String, Client>>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Http {
    /// A client. Opens nothing yet.
    pub fn new(options: Options) -> Self {
        Self { inner: Arc::new(Inner { options, clients: Mutex::default() }) }
    }

    /// Asks for a URL.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn get(&self, url: &str) -> Result<Response> {
        self.send(Request::new(Method::GET, url)).await
    }

    /// Sends a request and waits for the head of the answer; its body is read from the [`Response`].
    ///
    /// Cancel-safe: dropping the future abandons the exchange.
    ///
    /// # Errors
    /// When there is no answer, or no usable one; [`Error::source_as`] has the [`client::Error`]. An answer that says no is
    /// an answer: see [`Response::ok`].
    pub async fn send(&self, request: Request) -> Result<Response> {
        let mut url = parse(&request.url)?;
        let mut request = request;
        for _ in 0..=self.inner.options.redirects {
            let response = self.send_with_retry(&url, &request).await?;
            let Some(next) = redirect(&response, &url)? else { return Ok(response) };
            if next.origin() != url.origin() {
                // What was meant for one host is not told to another.
                for secret in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                    request.headers.remove(secret);
                }
            }
            let rewritten = response.status == StatusCode::SEE_OTHER
                || (request.method == Method::POST
                    && matches!(response.status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND));
            if rewritten && request.method != Method::HEAD {
                request.method = Method::GET;
                request.body = Bytes::new();
                request.headers.remove(header::CONTENT_TYPE);
            }
            url = next;
        }
        Err(Error::failed(format!("more than {} redirects, the last to {url}", self.inner.options.redirects)))
    }

    /// Sends a request whose body is a stream; it goes on while the answer is read. Neither redirected nor retried, since
    /// what was sent is gone.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn send_streaming(
        &self,
        request: Request,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Response> {
        let url = parse(&request.url)?;
        let (client, message) = (self.client(&url)?, message(&url, &request));
        let sent = timeout(self.inner.options.timeout, client.send_streaming(&message, body)).await;
        self.answer(sent, &url)
    }

    async fn send_with_retry(&self, url: &Url, request: &Request) -> Result<Response> {
        let mut attempt = 1;
        loop {
            let outcome = self.send_once(url, request).await;
            let (again, after) = match &outcome {
                Ok(response) => (is_passing(response.status), retry_after(&response.headers)),
                Err(error) => (error.is_retryable() && may_repeat(error, &request.method), None),
            };
            let pause = if again { self.inner.options.retry.pause(attempt) } else { None };
            let Some(pause) = pause else { return outcome };
            sleep(after.map_or(pause, |after| after.max(pause))).await;
            attempt += 1;
        }
    }

    async fn send_once(&self, url: &Url, request: &Request) -> Result<Response> {
        let (client, message) = (self.client(url)?, message(url, request));
        let sent = timeout(self.inner.options.timeout, client.send(&message)).await;
        self.answer(sent, url)
    }

    fn answer(
        &self,
        sent: Result<Result<client::Response, client::Error>, tokio::time::error::Elapsed>,
        url: &Url,
    ) -> Result<Response> {
        let late = |_| {
            let message = format!("{} did not answer within {:?}", at(url), self.inner.options.timeout);
            Error::new(ErrorKind::TimedOut, message).retryable()
        };
        let response = sent.map_err(late)?.map_err(|error| failed(url, error))?;
        Ok(Response::new(url.clone(), response))
    }

    fn client(&self, url: &Url) -> Result<Client> {
        let origin = url.origin().ascii_serialization();
        let mut clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&origin) {
            return Ok(client.clone());
        }
        let endpoint: client::Endpoint = origin.parse()?;
        let client =
            Client::new(endpoint.protocol(self.inner.options.protocol), self.inner.options.connect.clone())?;
        clients.insert(origin, client.clone());
        Ok(client)
    }
}

impl Task for Http {
    type Input = Request;
    type Output = Response;

    async fn run(&self, cx: &Context, mut request: Request) -> Result<Response> {
        if let Some(trace) = cx.traceparent().and_then(|trace| HeaderValue::from_str(trace).ok()) {
            request.headers.entry("traceparent").or_insert(trace);
        }
        self.send(request).await
    }

    fn sketch(&self) -> Sketch {
        Sketch::task("http")
    }
}

fn parse(url: &str) -> Result<Url> {
    let url = Url::parse(url).map_err(|error| Error::failed(format!("`{url}` is not a URL: {error}")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        return Ok(url);
    }
    Err(Error::failed(format!("`{url}` is not a URL of HTTP")))
}

/// Without what may be secret.
fn at(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn message(url: &Url, request: &Request) -> client::Request {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    client::Request {
        method: request.method.clone(),
        path: format!("{}{query}", url.path()),
        headers: request.headers.clone(),
        body: request.body.clone(),
    }
}

fn failed(url: &Url, error: client::Error) -> Error {
    use client::ErrorKind as Kind;
    let passing = matches!(
        error.kind(),
        Kind::Resolve
            | Kind::Connect
            | Kind::ConnectTimeout
            | Kind::TlsTimeout
            | Kind::ClosedBeforeResponse
            | Kind::Broken
    );
    let failed = Error::failed(format!("{}: {error}", at(url))).with_source(error);
    if passing { failed.retryable() } else { failed }
}

/// Whether a request that failed may be sent again: it has not reached the server, or may do so twice.
fn may_repeat(error: &Error, method: &Method) -> bool {
    use client::ErrorKind as Kind;
    let unsent = error.source_as::<client::Error>().is_some_and(|error| {
        matches!(error.kind(), Kind::Resolve | Kind::Connect | Kind::ConnectTimeout | Kind::TlsTimeout)
    });
    unsent || method.is_idempotent()
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    // A server may not stop us for longer than this.
    Some(Duration::from_secs(seconds).min(Duration::from_mins(1)))
}

fn redirect(response: &Response, url: &Url) -> Result<Option<Url>> {
    if !matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers.get(header::LOCATION) else { return Ok(None) };
    let next = location.to_str().ok().and_then(|location| url.join(location).ok());
    let next = next.ok_or_else(|| Error::failed(format!("{} redirects to what is no URL", at(url))))?;
    parse(next.as_str()).map(Some)
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// The headers; `host`, `content-length` and `connection` are written by the client.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// The same with a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same with a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same with a JSON body.
    ///
    /// # Errors
    /// When the value cannot be serialised.
    pub fn json(self, value: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body))
    }
}
