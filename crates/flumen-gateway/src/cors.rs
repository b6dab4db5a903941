//! Which web pages may use the gateway (the Fetch standard's CORS protocol). A page of another origin that is not listed gets
//! nothing, not even an answer that its browser would hide from it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

use crate::{core::Core, error::Failure};

/// What pages may read of an answer besides its body.
const EXPOSED: [HeaderName; 16] = [
    HeaderName::from_static("flumen-stream-id"),
    HeaderName::from_static("flumen-stream-state"),
    HeaderName::from_static("flumen-stream-last"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
    header::LINK,
    header::LOCATION,
    header::RETRY_AFTER,
    header::CONTENT_TYPE,
];

/// Answers preflights and writes the headers that let a listed page read an answer.
pub(crate) fn headers(core: Arc<Core>) -> CorsLayer {
    let for_credentials = Arc::clone(&core);
    let origin =
        move |origin: &HeaderValue, _: &Parts| is_listed(&core, origin) || core.access().lists_origin(origin);
    let credentials = move |origin: &HeaderValue, _: &Parts| {
        let routing = for_credentials.routing();
        routing.config().cors.credentials && is_listed(&for_credentials, origin)
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(origin))
        .allow_credentials(AllowCredentials::predicate(credentials))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(std::time::Duration::from_mins(10))
}

/// Refuses pages that are not listed. Whoever is no page is told nothing of pages.
pub(crate) async fn refuse(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        let mut response = next.run(request).await;
        response.headers_mut().remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        return response;
    };
    let page = is_page(origin, request.headers(), request.uri());
    // A tenant's or a key's own pages are let through to where it is known who asks.
    if page || is_listed(&core, origin) || core.access().lists_origin(origin) {
        return next.run(request).await;
    }
    let message =
        "pages of this origin may not use the gateway; the setting cors.origins lists those that may";
    Failure::rejected(StatusCode::FORBIDDEN, "origin_not_allowed", message).into_response()
}

/// Whether the configuration lists a page for everybody.
pub(crate) fn is_listed(core: &Core, origin: &HeaderValue) -> bool {
    let routing = core.routing();
    let listed = &routing.config().cors.origins;
    listed.iter().any(|listed| listed == "*" || listed.as_bytes() == origin.as_bytes())
}

/// Whether a page is of the gateway itself: it has the host that it asks.
pub(crate) fn is_same(origin: &HeaderValue, parts: &Parts) -> bool {
    is_page(origin, &parts.headers, &parts.uri)
}

fn is_page(origin: &HeaderValue, headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str().as_bytes()));
    let (Some(host), Ok(origin)) = (host, origin.to_str()) else { return false };
    let page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    page.is_some_and(|page| page.as_bytes().eq_ignore_ascii_case(host))
}
