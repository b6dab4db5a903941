//! HTTP: requests with redirects and retries, bodies that stream both ways, and the time that every phase took.

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context as Cx, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flumen_flow::{Backoff, Context, Error, ErrorKind, Result, Sketch, Task};
use flumen_stream::{Event, codec::sse::Decoder};
use flumen_wire::client::{self, Body, Client, Protocol, Timings};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use url::Url;

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
        Ok(Response {
            url: url.clone(),
            status: response.status,
            headers: response.headers,
            body: response.body,
        })
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

/// An answer whose body is still to be read: all at once, or as a stream of pieces.
pub struct Response {
    /// Where it came from, after redirects.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Body,
}

impl Response {
    /// The answer, if it says yes.
    ///
    /// # Errors
    /// For statuses other than 2xx; 429, 502, 503 and 504 are retryable.
    pub fn ok(self) -> Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let error = Error::failed(format!("{} answered {}", at(&self.url), self.status));
        Err(if is_passing(self.status) { error.retryable() } else { error })
    }

    /// What the exchange took so far.
    pub fn timings(&self) -> &Timings {
        self.body.timings()
    }

    /// The whole body, up to `most` bytes.
    ///
    /// # Errors
    /// When it is longer, or breaks off.
    pub async fn bytes(mut self, most: usize) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await {
            all.extend_from_slice(&piece?);
            if all.len() > most {
                return Err(Error::failed(format!("{} answered with more than {most} bytes", at(&self.url))));
            }
        }
        Ok(all.freeze())
    }

    /// The whole body as text, up to 16 MiB.
    ///
    /// # Errors
    /// Like [`bytes`](Self::bytes), and when it is not UTF-8.
    pub async fn text(self) -> Result<String> {
        Ok(String::from_utf8(self.bytes(WHOLE).await?.into())?)
    }

    /// The whole body as JSON, up to 16 MiB.
    ///
    /// # Errors
    /// Like [`bytes`](Self::bytes), and when it is not what was expected.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes(WHOLE).await?)?)
    }

    /// The body as server-sent events of up to 1 MiB each.
    pub fn events(self) -> Events {
        Events { response: self, decoder: Decoder::new(1024 * 1024), over: false }
    }
}

const WHOLE: usize = 16 * 1024 * 1024;

/// The pieces of the body as they come. Not reading pauses the server.
impl Stream for Response {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<Bytes>>> {
        let piece = std::task::ready!(self.body.poll_piece(cx));
        Poll::Ready(piece.map(|piece| piece.map_err(|error| failed(&self.url, error))))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("url", &at(&self.url))
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Server-sent events of a response; see [`Response::events`].
#[derive(Debug)]
pub struct Events {
    response: Response,
    decoder: Decoder,
    over: bool,
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<Event>>> {
        let this = self.get_mut();
        while !this.over {
            match this.decoder.next() {
                Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                Some(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {}
            }
            match std::task::ready!(this.response.poll_next_unpin(cx)) {
                Some(Ok(piece)) => this.decoder.push(piece),
                Some(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.over = true,
            }
        }
        Poll::Ready(None)
    }
}
