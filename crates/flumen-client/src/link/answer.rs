//! Requests as they are sent, and what their answers mean before a byte of the body is read.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flumen_wire::client::{Body, Request, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;

use super::{Class, Fault, Plan};
use crate::{Error, ErrorKind, call::is_stream_id};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const FLUMEN_RESUME: HeaderName = HeaderName::from_static("flumen-resume");
const FLUMEN_STREAM_ID: HeaderName = HeaderName::from_static("flumen-stream-id");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How much of an error's body is read, and for how long.
const ERROR_BODY: usize = 64 * 1024;
const ERROR_PATIENCE: Duration = Duration::from_secs(5);

impl Plan {
    /// The path of the gateway's own endpoints.
    pub(super) fn api_root(&self) -> &str {
        self.shared.api_root(&self.ask.target)
    }

    /// The request that begins the stream, or goes on with it.
    pub(super) fn request(&self, accept: &'static str) -> Request {
        let mut request = match &self.position.stream {
            Some(stream) => self.resume(stream),
            None => self.begin(),
        };
        request.headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(id) = &self.position.last_id
            && let Ok(value) = HeaderValue::from_bytes(id.as_str().as_bytes())
        {
            request.headers.insert(LAST_EVENT_ID, value);
        }
        request
    }

    /// The caller's own request.
    fn begin(&self) -> Request {
        let ask = &self.ask;
        let mut headers = ask.settings.headers.clone();
        if ask.method == Method::POST {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        } else {
            headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        }
        if let Some(key) = ask.key.as_ref().and_then(|key| HeaderValue::from_str(key).ok()) {
            headers.insert(IDEMPOTENCY_KEY, key);
            headers.insert(FLUMEN_RESUME, HeaderValue::from_static("1"));
        }
        Request { method: ask.method.clone(), path: ask.target.clone(), headers, body: ask.body.clone() }
    }

    fn resume(&self, stream: &str) -> Request {
        let mut path = format!("{}/streams/{stream}", self.api_root());
        if self.position.last_id.is_none()
            && let Some(seq) = self.position.last_seq.filter(|&seq| seq > 0)
        {
            path.push_str(&format!("?starting_after={seq}"));
        }
        self.beside(Method::GET, path)
    }

    /// A request to another of the gateway's endpoints, with the caller's credentials.
    pub(super) fn beside(&self, method: Method, path: String) -> Request {
        let mut headers = self.ask.settings.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        Request { method, path, headers, body: Bytes::new() }
    }

    /// Asks for the stream without its answer.
    pub(super) fn begin_apart(&self) -> Request {
        let mut request = self.request("text/event-stream");
        request.headers.insert(PREFER, HeaderValue::from_static("respond-async"));
        request
    }
}

pub(super) async fn stop(plan: &Plan) -> Result<(), Fault> {
    let stream = plan.position.stream.as_deref().unwrap_or_default();
    let request = plan.beside(Method::DELETE, format!("{}/streams/{stream}", plan.api_root()));
    let mut response = plan.shared.wire.send(&request).await?;
    if !response.status.is_success() {
        return Err(refusal(response).await);
    }
    // Read to its end, so that the connection can be used again.
    _ = timeout(ERROR_PATIENCE, read_up_to(&mut response.body, ERROR_BODY)).await;
    Ok(())
}

/// The stream that an answer belongs to.
pub(super) fn stream_of(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(FLUMEN_STREAM_ID)?.to_str().ok()?;
    is_stream_id(id).then(|| id.into())
}

/// Whether the content type is one of these.
pub(super) fn is_of(headers: &HeaderMap, types: &[&str]) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    types.iter().any(|wanted| essence.eq_ignore_ascii_case(wanted))
}

/// An answer with a good status that is not what was asked for.
pub(super) fn wrong_type(headers: &HeaderMap) -> Fault {
    let given = headers.get(header::CONTENT_TYPE).map_or("nothing", |value| value.to_str().unwrap_or("?"));
    let message = format!("the answer is no stream of events, but `{given}`");
    Fault::new(Class::Final, Error::new(ErrorKind::ContentType, message))
}

/// An answer that is an error.
pub(super) async fn refusal(response: Response) -> Fault {
    let Response { status, headers, mut body } = response;
    // What cannot be read of an error is left out: the status says enough.
    let words = timeout(ERROR_PATIENCE, read_up_to(&mut body, ERROR_BODY)).await;
    refused(status, &headers, &words.unwrap_or_default())
}

pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
    let class = if matches!(status.as_u16(), 429 | 502..=504) { Class::Unsent } else { Class::Final };
    Fault { error: Error::status_answer(status, body), class, after: retry_after(headers) }
}

async fn read_up_to(body: &mut Body, most: usize) -> Vec<u8> {
    let mut words = Vec::new();
    while let Some(Ok(piece)) = body.piece().await {
        words.extend_from_slice(&piece);
        if words.len() >= most {
            break;
        }
    }
    words
}

/// Reads a whole body that must not be larger than this.
pub(super) async fn read_whole(body: &mut Body, most: usize) -> Result<Vec<u8>, Fault> {
    let mut whole = Vec::new();
    while let Some(piece) = body.piece().await {
        whole.extend_from_slice(&piece?);
        if whole.len() > most {
            return Err(Fault::too_long(most));
        }
    }
    Ok(whole)
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |value: &str| retry_after(&headers(header::RETRY_AFTER, value));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert!(after("Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_hours(1));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn content_types_are_compared_without_their_parameters() {
        let is = |value: &str| is_of(&headers(header::CONTENT_TYPE, value), &["text/event-stream"]);
        assert!(is("text/event-stream"));
        assert!(is("Text/Event-Stream ; charset=utf-8"));
        assert!(!is("text/event-streams"));
        assert!(!is_of(&HeaderMap::new(), &["text/event-stream"]));
    }

    #[test]
    fn only_ids_that_fit_into_a_path_are_taken() {
        let id = |value: &str| stream_of(&headers(FLUMEN_STREAM_ID, value));
        assert_eq!(id("5f0c").as_deref(), Some("5f0c"));
        assert_eq!(id("../x"), None);
        assert_eq!(id(""), None);
    }
}
