use std::{fmt, str::FromStr};

use http::Uri;

/// The HTTP version spoken to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, the cheap path.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

/// Where a server is: scheme, host, port and base path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// What goes into the `host` header.
    pub(super) authority: String,
    base: String,
    pub(super) protocol: Protocol,
}

/// A URL that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(&'static str);

impl Endpoint {
    /// Chooses the HTTP version; HTTP/1.1 unless said otherwise.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same server without the base path.
    pub fn root(mut self) -> Self {
        self.base.clear();
        self
    }

    /// Its path, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The request target for a path that starts with `/`.
    pub(super) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The URL of a path that starts with `/`.
    ///
    /// # Errors
    /// When the path cannot stand in one.
    pub fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        let scheme = if self.tls { "https" } else { "http" };
        Uri::builder().scheme(scheme).authority(&*self.authority).path_and_query(self.target(path)).build()
    }
}

impl FromStr for Endpoint {
    type Err = InvalidUrl;

    /// Reads a URL such as `https://api.example.com/v1`.
    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        if url.contains('#') {
            return Err(InvalidUrl("a base URL has no fragment"));
        }
        let uri: Uri = url.parse().map_err(|_| InvalidUrl("not a valid URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(InvalidUrl("the URL must start with http:// or https://")),
        };
        let authority = uri.authority().ok_or(InvalidUrl("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl("the URL must not carry a user name or password"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(InvalidUrl("the URL has no host"));
        }
        if uri.query().is_some() {
            return Err(InvalidUrl("a base URL has no query"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            base: uri.path().trim_end_matches('/').to_owned(),
            protocol: Protocol::default(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let end: Endpoint = "https://api.example.com/v1/".parse().unwrap();
        assert_eq!((end.tls, &*end.host, end.port), (true, "api.example.com", 443));
        assert_eq!(end.target("/chat/completions"), "/v1/chat/completions");
        let end: Endpoint = "http://[::1]:8000".parse().unwrap();
        assert_eq!((&*end.host, end.port, &*end.target("/x")), ("::1", 8000, "/x"));
        assert_eq!(end.to_string(), "http://[::1]:8000");
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "x",
            "ftp://h/",
            "http://",
            "http://u:p@h/",
            "http://h/?q=1",
            "http://h/#f",
            "/path",
            "http://:80",
        ] {
            assert!(url.parse::<Endpoint>().is_err(), "{url}");
        }
    }
}
