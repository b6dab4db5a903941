use std::error;

use http::StatusCode;
use serde::Deserialize;

/// Why a stream of events ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    status: Option<u16>,
    code: Option<String>,
    seq: Option<u64>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, URL, header or certificate of ours is unusable.
    Configuration,
    /// No connection to the server, and all attempts are used up.
    Connect,
    /// The connection broke, and going on is not possible or all attempts are used up.
    Broken,
    /// Nothing came for longer than the idle timeout, and going on is not possible or all attempts are used up.
    Idle,
    /// 429, 502, 503 or 504, and all attempts are used up.
    Unavailable,
    /// 400 or 422: the request, or the id it goes on from, makes no sense to the server.
    Refused,
    /// 401 or 403.
    Unauthorized,
    /// 404: no such stream, or none of ours.
    NotFound,
    /// 409: the server never sent what we say we saw, or it has a conflict of its own.
    Conflict,
    /// 410: what would come next is no longer kept.
    Gone,
    /// Any other status.
    Status,
    /// The answer is of another content type than the transport's.
    ContentType,
    /// An event is missing between two that came.
    Gap,
    /// An event is longer than allowed.
    TooLong,
    /// The server broke the protocol.
    Protocol,
    /// A payload is not what [`json`](crate::EventStream::json) was asked for. The stream goes on after it.
    Json,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, code: None, seq: None, source: None }
    }

    pub(crate) fn with(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says more.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}: {more}", self.message);
        self
    }

    /// An answer that is no stream, with the beginning of its body.
    pub(crate) fn status_answer(status: StatusCode, body: &[u8]) -> Self {
        let said = Said::read(body);
        let words = said.message.unwrap_or_default();
        let message = if words.is_empty() {
            format!("the server answered {status}")
        } else {
            format!("the server answered {status}: {words}")
        };
        let kind = match status.as_u16() {
            429 | 502..=504 => ErrorKind::Unavailable,
            400 | 422 => ErrorKind::Refused,
            401 | 403 => ErrorKind::Unauthorized,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            410 => ErrorKind::Gone,
            _ => ErrorKind::Status,
        };
        Self { status: Some(status.as_u16()), code: said.code, seq: said.seq, ..Self::new(kind, message) }
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The status the server answered with, if it did.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The `code` of the server's error, such as `cursor_too_old`.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The seq the server's error names: the first that is kept (410), or the last that was sent (409).
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

/// What the body of an error says.
#[derive(Default)]
struct Said {
    code: Option<String>,
    message: Option<String>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    error: Inner,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Inner {
    Object {
        #[serde(default)]
        code: Option<serde_json::Value>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        first: Option<u64>,
        #[serde(default)]
        last: Option<u64>,
    },
    Text(String),
}

impl Said {
    /// Understands `{"error":{"code":…,"message":…}}` and `{"error":"…"}`; anything else is taken as it is.
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Body { error: Inner::Object { code, message, first, last } }) => {
                let code = code.and_then(|code| match code {
                    serde_json::Value::String(text) => Some(text),
                    serde_json::Value::Number(number) => Some(number.to_string()),
                    _ => None,
                });
                Self { code, message: message.map(|text| in_one_line(&text)), seq: first.or(last) }
            }
            Ok(Body { error: Inner::Text(text) }) => {
                Self { message: Some(in_one_line(&text)), ..Self::default() }
            }
            Err(_) => Self { message: Some(in_one_line(&String::from_utf8_lossy(body))), ..Self::default() },
        }
    }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_are_read() {
        let answer = |status, body: &str| Error::status_answer(status, body.as_bytes());
        let gone = answer(
            StatusCode::GONE,
            r#"{"error":{"code":"cursor_too_old","message":"no longer\nkept","first":7}}"#,
        );
        assert_eq!((gone.kind(), gone.status(), gone.seq()), (ErrorKind::Gone, Some(410), Some(7)));
        assert_eq!(gone.code(), Some("cursor_too_old"));
        assert_eq!(gone.to_string(), "the server answered 410 Gone: no longer kept");
        let text = answer(StatusCode::FORBIDDEN, r#"{"error":"go away"}"#);
        assert_eq!(text.to_string(), "the server answered 403 Forbidden: go away");
        let html = answer(StatusCode::BAD_GATEWAY, "<h1>bad</h1>");
        assert_eq!((html.kind(), html.code()), (ErrorKind::Unavailable, None));
        assert_eq!(answer(StatusCode::IM_A_TEAPOT, "").to_string(), "the server answered 418 I'm a teapot");
        let number = answer(StatusCode::BAD_REQUEST, r#"{"error":{"code":17,"message":null}}"#);
        assert_eq!((number.kind(), number.code()), (ErrorKind::Refused, Some("17")));
    }
}
