//! Refusals and failures in OpenAI's form.

use http::{HeaderValue, StatusCode, header};

use crate::{frames::quoted, reply::Reply};

/// A request that gets an error instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) param: Option<&'static str>,
    pub(crate) code: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: Some(code) }
    }

    /// A request that is malformed, with the field at fault.
    pub(crate) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message) }
    }

    /// A request that lacks a field it must have.
    pub(crate) fn missing(param: &'static str) -> Self {
        let message = format!("the request has no `{param}`");
        Self { code: Some("missing_required_parameter"), ..Self::invalid(param, message) }
    }

    /// The failure that `fault=status` and `fault=error` ask for.
    pub(crate) fn fault(status: StatusCode) -> Self {
        Self::new(status, "sim_fault", format!("this {} was asked for in the model's name", status.as_u16()))
    }

    /// The error object.
    pub(crate) fn body(&self) -> String {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let optional = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quoted);
        let (message, param, code) = (quoted(&self.message), optional(self.param), optional(self.code));
        format!(r#"{{"error":{{"message":{message},"type":"{kind}","param":{param},"code":{code}}}}}"#)
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let mut reply = Self::json(error.status, error.body());
        if matches!(error.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            reply.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}
