//! The layer before every route that is not for everybody.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};

use super::{Identity, credential::presented};
use crate::{core::Core, cors, error::Failure, observe::Record};

/// Finds out who asks, and lets through whoever may.
pub(crate) async fn admit(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match identify(&core, &parts).await {
        Ok(identity) => {
            if let Some(record) = parts.extensions.get::<Arc<Record>>() {
                identity.note(&mut record.facts());
            }
            parts.extensions.insert(identity);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(failure) => {
            core.metrics().turned_away(failure.code);
            failure.into_response()
        }
    }
}

/// Finds out who asks.
///
/// # Errors
/// 400, 401, 403 or 503.
pub(crate) async fn identify(core: &Core, parts: &Parts) -> Result<Arc<Identity>, Failure> {
    let access = core.access();
    if !access.is_required() {
        return Ok(Identity::anonymous());
    }
    let identity = match presented(&parts.headers, &parts.uri)? {
        Some(credential) => access.identify(&credential).await?,
        None => {
            return Err(refused("a key is needed: send it as `Authorization: Bearer KEY`"));
        }
    };
    if let Some(origin) = parts.headers.get(header::ORIGIN) {
        let allowed = match &identity.origins {
            Some(origins) => origins.iter().any(|own| own == "*" || own.as_bytes() == origin.as_bytes()),
            None => cors::is_same(origin, parts) || cors::is_listed(core, origin),
        };
        if !allowed {
            let message = "pages of this origin may not use this key";
            return Err(Failure::rejected(StatusCode::FORBIDDEN, "origin_not_allowed", message));
        }
    }
    Ok(identity)
}

/// 401, in the words of OpenAI's API.
pub(super) fn refused(message: impl Into<String>) -> Failure {
    Failure::rejected(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}
