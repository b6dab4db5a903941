//! What monitors ask.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use crate::{
    access::{Proof, Who},
    core::Core,
    error::Failure,
};

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: new requests are welcome; 503 while draining.
pub(crate) async fn readyz(State(core): State<Arc<Core>>) -> Response {
    if core.shutdown().is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

/// `GET /metrics`: for Prometheus, in the OpenMetrics text format.
pub(crate) async fn metrics(State(core): State<Arc<Core>>, Who(identity): Who) -> Response {
    // They tell of all tenants: nothing for pages and their visitors.
    if !matches!(identity.proof, Proof::Nothing | Proof::Key) {
        let message = "metrics are for keys, not for tokens";
        return Failure::rejected(StatusCode::FORBIDDEN, "key_needed", message).into_response();
    }
    scraped(&core)
}

/// All metrics, as they are scraped.
pub(crate) fn scraped(core: &Core) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], core.scrape()).into_response()
}
