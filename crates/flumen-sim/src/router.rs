//! The simulator behind HTTP.

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};

use crate::{Reply, Simulator, error::ApiError};

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 16 << 20;

impl Simulator {
    /// The simulator as a service: the API under `/v1` and without it, directives in the header
    /// `flumen-sim` too, and what it does as a page at `GET /sim` and as JSON at `/sim/stats` and `/sim/aborts`. Bodies of requests may have up to 16 MiB.
    pub fn router(self) -> Router {
        Router::new().fallback(serve).layer(DefaultBodyLimit::max(LARGEST_BODY)).with_state(self)
    }
}

async fn serve(
    State(simulator): State<Simulator>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    match body {
        Ok(body) => {
            let directives =
                headers.get("flumen-sim").and_then(|value| value.to_str().ok()).unwrap_or_default();
            simulator.handle(&method, uri.path(), directives, body).await
        }
        Err(rejection) => ApiError::new(rejection.status(), "invalid_body", rejection.body_text()).into(),
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(size) = self.body.size() {
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
        }
        *response.body_mut() = Body::from_stream(self.body);
        response
    }
}
