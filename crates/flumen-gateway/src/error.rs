//! What a client is told when a request fails before the first byte of its answer.

use axum::response::{IntoResponse, Response};
use flumen_stream::{Cause, End};
use flumen_wire::client;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// A refusal or a failure: status, code, and words for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// The cause for logs and metrics.
    pub cause: Cause,
    /// The code for programs.
    pub code: &'static str,
    /// The words for people.
    pub message: String,
    /// The request field at fault.
    pub param: Option<&'static str>,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u32>,
    /// A number that the error object carries besides.
    pub detail: Option<(&'static str, u64)>,
    /// Headers of the answer.
    pub headers: Option<Box<HeaderMap>>,
}

impl Failure {
    /// A request that is refused before any upstream is asked.
    pub(crate) fn rejected(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            cause: Cause::Rejected,
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            detail: None,
            headers: None,
        }
    }

    /// A request that is malformed.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::rejected(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// A fault of this program.
    pub(crate) fn internal(message: &'static str) -> Self {
        End::new(Cause::Internal, message).into()
    }

    /// Names the request field at fault.
    pub(crate) fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// Says when trying again makes sense.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a number to the error object.
    pub(crate) fn detail(mut self, name: &'static str, number: u64) -> Self {
        self.detail = Some((name, number));
        self
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// The same, for a stream that has begun.
    pub(crate) fn end(&self) -> End {
        End::new(self.cause, self.message.clone()).with_code(self.code)
    }

    /// The error object in OpenAI's form.
    pub(crate) fn body(&self) -> Vec<u8> {
        error_body(self.code, &self.message, kind(self.status), self.param, self.detail)
    }
}

/// The error object in OpenAI's form, for a stream that has begun.
pub(crate) fn end_body(end: &End) -> Vec<u8> {
    error_body(end.code, &end.message, kind(status_of(end.cause)), None, None)
}

/// The status of an end that comes before the first byte.
fn status_of(cause: Cause) -> StatusCode {
    match cause {
        Cause::UpstreamError | Cause::UpstreamTruncated => StatusCode::BAD_GATEWAY,
        Cause::FirstTokenTimeout | Cause::IdleTimeout | Cause::TotalTimeout => StatusCode::GATEWAY_TIMEOUT,
        Cause::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
        Cause::Rejected => StatusCode::BAD_REQUEST,
        // nginx's number for a client that closed the request; nobody is left to see it.
        Cause::ClientGone | Cause::ClientStalled | Cause::Stopped => {
            StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        let revoked = end.code == "key_revoked";
        Self {
            status: if revoked { StatusCode::UNAUTHORIZED } else { status_of(end.cause) },
            cause: end.cause,
            code: end.code,
            message: end.message.into_owned(),
            param: None,
            retry_after: (end.cause == Cause::Shutdown).then_some(1),
            detail: None,
            headers: None,
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let mut failure = Self::from(upstream_end(&error));
        if error.is_timeout() {
            failure.status = StatusCode::GATEWAY_TIMEOUT;
        }
        failure
    }
}

/// The end of a stream whose upstream failed.
pub(crate) fn upstream_end(error: &client::Error) -> End {
    let cause = match error.kind() {
        client::ErrorKind::Truncated => Cause::UpstreamTruncated,
        _ => Cause::UpstreamError,
    };
    End::new(cause, format!("upstream: {error}")).with_code(error.kind().as_str())
}

/// OpenAI's error types.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

fn error_body(
    code: &str,
    message: &str,
    kind: &str,
    param: Option<&str>,
    detail: Option<(&'static str, u64)>,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Inner<'a>,
    }
    #[derive(Serialize)]
    struct Inner<'a> {
        message: &'a str,
        #[serde(rename = "type")]
        kind: &'a str,
        param: Option<&'a str>,
        code: &'a str,
        #[serde(flatten)]
        detail: std::collections::BTreeMap<&'static str, u64>,
    }
    let body = Body { error: Inner { message, kind, param, code, detail: detail.into_iter().collect() } };
    serde_json::to_vec(&body).unwrap_or_default()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(header::CONTENT_TYPE, json)], self.body()).into_response();
        for (name, value) in self.headers.as_deref().into_iter().flatten() {
            response.headers_mut().insert(name, value.clone());
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_what_openai_clients_parse() {
        let failure = Failure::bad_request("no \"model\"").param("model");
        let body: serde_json::Value = serde_json::from_slice(&failure.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": {"message": "no \"model\"", "type": "invalid_request_error",
                                         "param": "model", "code": "bad_request"}})
        );
    }

    #[test]
    fn every_cause_has_a_status() {
        for cause in Cause::ALL {
            assert!(Failure::from(End::new(cause, "x")).status.as_u16() >= 400, "{cause}");
        }
        assert_eq!(status_of(Cause::FirstTokenTimeout), 504);
        assert_eq!(status_of(Cause::UpstreamTruncated), 502);
        assert_eq!(status_of(Cause::Shutdown), 503);
    }
}
