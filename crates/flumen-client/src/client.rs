use std::{sync::Arc, time::Duration};

use flumen_wire::{
    client::{self as wire, Endpoint, Options, Protocol},
    tls,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio_rustls::rustls::ClientConfig;

use crate::{Call, End, Error, ErrorKind, Reconnect, Transport};

/// Asks one server for streams of events. Cheap to clone.
///
/// Its connections belong to the runtime they were opened on: use one client per runtime.
///
/// ```
/// use flumen_client::Client;
///
/// let client = Client::new("https://llm.example.com/v1").unwrap();
/// let call = client.post("/chat/completions", r#"{"model":"m","messages":[],"stream":true}"#);
/// let _answer = call.header("authorization", "Bearer k").stream();
/// assert!(Client::new("ftp://example.com").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    settings: Settings,
}

/// What a client does unless a call says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) headers: HeaderMap,
    pub(crate) transports: Vec<Transport>,
    pub(crate) rotate: bool,
    pub(crate) reconnect: Reconnect,
    pub(crate) end: End,
    pub(crate) idle: Option<Duration>,
    pub(crate) resume: bool,
    pub(crate) repost: bool,
    pub(crate) max_event: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            transports: vec![Transport::Sse],
            rotate: false,
            reconnect: Reconnect::default(),
            end: End::Auto,
            idle: Some(Duration::from_mins(2)),
            resume: true,
            repost: false,
            max_event: 1024 * 1024,
        }
    }
}

/// What all streams of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) wire: wire::Client,
    pub(crate) origin: Origin,
    pub(crate) connect_timeout: Duration,
    pub(crate) tls_timeout: Duration,
    /// Path of the base URL without a slash at its end.
    base: String,
    query: Option<String>,
}

/// Where the server is, for connections that are no HTTP exchange.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: String,
}

impl Client {
    /// A client for a base URL, with the defaults of [`Builder`]. Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL is not one of `http` or `https`.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Starts a client with settings of its own.
    pub fn builder(url: &str) -> Builder {
        Builder {
            url: url.to_owned(),
            options: Options::default(),
            protocol: Protocol::default(),
            settings: Settings::default(),
            invalid: None,
        }
    }

    /// A GET, as `EventSource` makes it. An empty path is the URL of the client itself.
    pub fn get(&self, path: &str) -> Call {
        Call::new(self, Method::GET, self.shared.target(path), bytes::Bytes::new())
    }

    /// A POST of a JSON document.
    pub fn post(&self, path: &str, json: impl Into<bytes::Bytes>) -> Call {
        Call::new(self, Method::POST, self.shared.target(path), json.into())
    }

    /// Reads a stream that a gateway keeps, from its start or from where the call says
    /// ([`Call::last_event_id`], [`Call::starting_after`]).
    ///
    /// ```
    /// # let client = flumen_client::Client::new("http://localhost:8080").unwrap();
    /// let rest = client.resume("5f0c9a").last_event_id("5f0c9a.1-12").stream();
    /// assert_eq!(rest.stream_id(), Some("5f0c9a"));
    /// ```
    pub fn resume(&self, stream: &str) -> Call {
        Call::resume(self, stream)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Shared {
    /// The request target for a path below the base URL.
    fn target(&self, path: &str) -> String {
        let base = &self.base;
        match path.as_bytes().first() {
            None => {
                let base = if base.is_empty() { "/" } else { base };
                self.query.as_ref().map_or_else(|| base.to_owned(), |query| format!("{base}?{query}"))
            }
            Some(b'?') if base.is_empty() => format!("/{path}"),
            Some(b'/' | b'?') => format!("{base}{path}"),
            Some(_) => format!("{base}/{path}"),
        }
    }

    /// Where a gateway has its own endpoints: beside the one that was asked, up to `/v1`.
    pub(crate) fn api_root<'a>(&'a self, target: &'a str) -> &'a str {
        let within = |path: &'a str| {
            let path = path.split('?').next().unwrap_or_default();
            let at = path.find("/v1/").or_else(|| path.ends_with("/v1").then(|| path.len() - 3))?;
            Some(&path[..at + 3])
        };
        within(target).or_else(|| within(&self.base)).unwrap_or("/v1")
    }
}

/// Puts a [`Client`] together. What concerns streams can be said again for each [`Call`].
///
/// ```
/// use std::time::Duration;
/// use flumen_client::{Client, End, Reconnect, Transport};
///
/// let client = Client::builder("http://localhost:8080")
///     .header("authorization", "Bearer k")
///     .transports([Transport::WebSocket, Transport::Sse])
///     .reconnect(Reconnect { attempts: 3, ..Reconnect::default() })
///     .end(End::mark("[DONE]"))
///     .idle(Some(Duration::from_secs(40)))
///     .build()
///     .unwrap();
/// # let _ = client;
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    url: String,
    options: Options,
    protocol: Protocol,
    settings: Settings,
    invalid: Option<String>,
}

impl Builder {
    /// How connections are made: timeouts, certificates to trust, how many unused ones are kept.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The HTTP version; HTTP/1.1 unless said otherwise. A `WebSocket` is always opened with HTTP/1.1.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// A header of every request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match header(name, value) {
            Ok((name, value)) => _ = self.settings.headers.insert(name, value),
            Err(problem) => self.invalid = Some(problem),
        }
        self
    }

    /// See [`Call::transports`].
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.settings.transports = transports.into_iter().collect();
        self
    }

    /// See [`Call::rotate`].
    pub fn rotate(mut self, rotate: bool) -> Self {
        self.settings.rotate = rotate;
        self
    }

    /// See [`Call::reconnect`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.settings.reconnect = reconnect;
        self
    }

    /// See [`Call::end`].
    pub fn end(mut self, end: End) -> Self {
        self.settings.end = end;
        self
    }

    /// See [`Call::idle`].
    pub fn idle(mut self, idle: Option<Duration>) -> Self {
        self.settings.idle = idle;
        self
    }

    /// See [`Call::resumable`].
    pub fn resumable(mut self, resume: bool) -> Self {
        self.settings.resume = resume;
        self
    }

    /// See [`Call::repost`].
    pub fn repost(mut self, repost: bool) -> Self {
        self.settings.repost = repost;
        self
    }

    /// See [`Call::max_event`].
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.settings.max_event = bytes;
        self
    }

    /// Makes the client. Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL, a header or a certificate cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let Self { url, options, protocol, settings, invalid } = self;
        let unusable = |message: String| Error::new(ErrorKind::Configuration, message);
        if let Some(problem) = invalid {
            return Err(unusable(problem));
        }
        let uri: Uri = url.parse().map_err(|_| unusable("not a valid URL".to_owned()))?;
        let parts = (uri.scheme_str(), uri.authority());
        let (Some(scheme), Some(authority)) = parts else {
            return Err(unusable("the URL must start with http:// or https://".to_owned()));
        };
        let endpoint: Endpoint =
            format!("{scheme}://{authority}").parse().map_err(|error| unusable(format!("{error}")))?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let secure = scheme == "https";
        let tls = secure.then(|| tls::client_config(options.extra_roots.clone(), None, &["http/1.1"]));
        let tls = tls.transpose().map_err(|error| {
            Error::new(ErrorKind::Configuration, "a root certificate is unusable").with(error)
        })?;
        let origin = Origin {
            tls: tls.map(Arc::new),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.to_string(),
        };
        let (connect_timeout, tls_timeout) = (options.connect_timeout, options.tls_timeout);
        let wire = wire::Client::new(endpoint.protocol(protocol), options)
            .map_err(|error| Error::new(ErrorKind::Configuration, error.to_string()).with(error))?;
        let base = uri.path().trim_end_matches('/').to_owned();
        let query = uri.query().map(str::to_owned);
        let shared = Shared { wire, origin, connect_timeout, tls_timeout, base, query };
        Ok(Client { shared: Arc::new(shared), settings })
    }
}

/// A header that may be set from outside.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let unusable = || format!("the header `{}` is unusable", name.escape_debug());
    let header: HeaderName = name.parse().map_err(|_| unusable())?;
    let mut value: HeaderValue = value.parse().map_err(|_| unusable())?;
    let ours = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "accept"];
    if ours.contains(&header.as_str()) || header.as_str().starts_with("sec-websocket") {
        return Err(format!("the header `{header}` is written by the client"));
    }
    value.set_sensitive(["authorization", "x-api-key", "cookie"].contains(&header.as_str()));
    Ok((header, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_below_the_base() {
        let target = |url: &str, path: &str| Client::new(url).unwrap().shared.target(path);
        assert_eq!(target("http://h", ""), "/");
        assert_eq!(target("http://h/events?a=1", ""), "/events?a=1");
        assert_eq!(target("http://h/v1/", "/chat"), "/v1/chat");
        assert_eq!(target("http://h/v1", "chat?x=1"), "/v1/chat?x=1");
        assert_eq!(target("http://h/v1?a=1", "?b=2"), "/v1?b=2");
        assert_eq!(target("http://h", "?b=2"), "/?b=2");
    }

    #[test]
    fn the_gateway_is_found_beside_the_endpoint() {
        let root = |url: &str, target: &str| Client::new(url).unwrap().shared.api_root(target).to_owned();
        assert_eq!(root("http://h", "/v1/chat/completions"), "/v1");
        assert_eq!(root("http://h", "/gw/v1/messages?x=/v1/y"), "/gw/v1");
        assert_eq!(root("http://h/gw/v1", "/own"), "/gw/v1");
        assert_eq!(root("http://h", "/own?to=/v1/"), "/v1");
    }

    #[test]
    fn what_is_unusable_is_refused() {
        for url in ["", "x", "/path", "ftp://h/", "http://u:p@h/", "http://"] {
            assert_eq!(Client::new(url).unwrap_err().kind(), ErrorKind::Configuration, "{url}");
        }
        for (name, value) in [("a b", "x"), ("x", "a\nb"), ("Host", "h"), ("sec-websocket-key", "k")] {
            assert!(Client::builder("http://h").header(name, value).build().is_err(), "{name}");
        }
    }
}
