//! Response heads.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::framing::Framing;
use crate::client::Error;

/// A response head with its consequences for the body and the connection.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
}

const MAX_HEADERS: usize = 128;

/// The length of the head in `received`, if its blank line has come. The search starts at `from`.
pub fn end(received: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(&received[from..], b"\r\n\r\n").map(|at| from + at + 4)
}

impl Head {
    /// Reads one whole head, blank line included.
    ///
    /// # Errors
    /// A protocol error when the head is malformed, or when it leaves the length of the body in doubt.
    pub fn parse(head: &[u8], request: &Method) -> Result<Self, Error> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut lines);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            _ => return Err(Error::protocol("the response head is malformed")),
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Error::protocol("the response status is malformed"))?;
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for line in parsed.headers.iter() {
            let name = HeaderName::from_bytes(line.name.as_bytes());
            let value = HeaderValue::from_bytes(line.value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Error::protocol("a response header is malformed"));
            };
            headers.append(name, value);
        }
        let http10 = parsed.version == Some(0);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::protocol("the server switched protocols unasked"));
        }
        let framing = framing(status, &headers, request, http10)?;
        let keep_alive = keep_alive(&headers, http10) && !matches!(framing, Framing::UntilClose);
        Ok(Self { status, headers, framing, keep_alive })
    }
}

/// RFC 9112, section 6.3, without the leniency.
fn framing(
    status: StatusCode,
    headers: &HeaderMap,
    request: &Method,
    http10: bool,
) -> Result<Framing, Error> {
    let length = headers.get_all(header::CONTENT_LENGTH);
    let coding = headers.get_all(header::TRANSFER_ENCODING);
    let bodiless = request == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut codings = coding.iter();
    if let Some(first) = codings.next() {
        if length.iter().next().is_some() {
            return Err(Error::protocol("the response has both Content-Length and Transfer-Encoding"));
        }
        if http10 || codings.next().is_some() || !first.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Error::protocol("the response uses a transfer coding other than chunked"));
        }
        return Ok(if bodiless { Framing::length(0) } else { Framing::chunked() });
    }
    let mut lengths = length.iter();
    if let Some(first) = lengths.next() {
        let digits =
            str::from_utf8(first.as_bytes()).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        let (Some(length), None) = (length, lengths.next()) else {
            return Err(Error::protocol("the response's Content-Length is malformed"));
        };
        return Ok(Framing::length(if bodiless { 0 } else { length }));
    }
    Ok(if bodiless { Framing::length(0) } else { Framing::UntilClose })
}

fn keep_alive(headers: &HeaderMap, http10: bool) -> bool {
    let said = |token: &str| {
        headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(token))
    };
    if http10 { said("keep-alive") } else { !said("close") }
}
