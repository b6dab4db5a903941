//! What a request must get past before anything is done for it.

use std::time::Duration;

use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::error::Failure;

/// Bodies must say that they are JSON. A browser sends such a request across origins only after asking, so that a
/// page on the web cannot spend a gateway that listens on the visitor's own machine.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mime = given.and_then(|value| value.split(';').next()).map(str::trim);
    match mime {
        Some(mime) if mime.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Failure::rejected(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the request needs the header `Content-Type: application/json`",
        )),
    }
}

/// Reads the body within its limits of size and time.
pub(crate) async fn body(request: Request, limit: usize, within: Duration) -> Result<Bytes, Failure> {
    let too_large = || {
        Failure::rejected(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the request body is larger than the {limit} bytes allowed"),
        )
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let read = async {
        let mut body = request.into_body();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Failure::bad_request("the request body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    timeout(within, read).await.unwrap_or_else(|_| {
        Err(Failure::rejected(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "the request body did not come in time",
        ))
    })
}
