use std::{borrow::Cow, error, fmt, io};

/// Why an exchange with a server failed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// The kind of a client [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host name did not resolve.
    Resolve,
    /// No TCP connection.
    Connect,
    /// No TCP connection in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// The connection ended before a byte of the response came. A kept connection may do that at any time.
    ClosedBeforeResponse,
    /// The connection broke in the middle of the response.
    Broken,
    /// The body ended before its announced end.
    Truncated,
    /// The server broke the protocol, or sent what this client refuses.
    Protocol,
    /// The response head or the trailers are larger than allowed.
    HeadTooLarge,
    /// A certificate or setting of ours is unusable.
    Configuration,
}

impl ErrorKind {
    /// The kind as logs, metrics and error events spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "upstream_resolve",
            Self::Connect => "upstream_connect",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Tls => "upstream_tls",
            Self::TlsTimeout => "upstream_tls_timeout",
            Self::ClosedBeforeResponse => "upstream_closed",
            Self::Broken => "upstream_broken",
            Self::Truncated => "upstream_truncated",
            Self::Protocol => "upstream_protocol",
            Self::HeadTooLarge => "upstream_head_too_large",
            Self::Configuration => "upstream_configuration",
        }
    }
}

impl Error {
    /// An error of a kind, with a sentence that may be shown to a client.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(super) fn with(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn broken(source: io::Error) -> Self {
        Self::new(ErrorKind::Broken, "the connection to the server broke").with(source)
    }

    pub(super) fn protocol(message: &'static str) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a time limit of connecting ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ErrorKind::ConnectTimeout | ErrorKind::TlsTimeout)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
