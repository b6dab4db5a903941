//! What an operator asks and tells a running gateway, on a listener of its own. `docs/admin.md` is the contract.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::{
    config::{Level, Secret},
    core::Core,
    error::Failure,
    gateway::Control,
    health::scraped,
};

mod show;

use show::{overview, pools, streams, tenants};

/// Puts what the configuration says now in force; returns what needs a restart, or what is wrong.
pub type Reload = dyn Fn(&Control) -> Result<Vec<&'static str>, String> + Send + Sync;

/// What the process around a gateway does for its operator.
pub struct Hooks {
    /// Reads the configuration again.
    pub reload: Box<Reload>,
    /// Says more or less on standard error from now on.
    pub level: Box<dyn Fn(Level) -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

/// What the admin's handlers share.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) core: Arc<Core>,
    pub(crate) control: Control,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) token: Option<Secret>,
    pub(crate) started: SystemTime,
}

/// The admin's routes.
pub(crate) fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/admin/overview", get(overview))
        .route("/admin/streams", get(streams))
        .route("/admin/streams/{id}", get(show::stream).delete(stop))
        .route("/admin/tenants", get(tenants))
        .route("/admin/pools", get(pools))
        .route("/admin/upstreams/{name}/{verb}", post(steer))
        .route("/admin/config", get(config))
        .route("/admin/log", put(log))
        .route("/admin/reload", post(reload))
        .route("/metrics", get(scrape))
        .fallback(crate::routes::unknown_path)
        .method_not_allowed_fallback(crate::routes::wrong_method)
        .layer(from_fn_with_state(admin.clone(), guard))
        .with_state(admin)
}

/// Operators are no web pages, and know the token.
async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let message = "web pages may not use the admin API";
        return Failure::rejected(StatusCode::FORBIDDEN, "origin_not_allowed", message).into_response();
    }
    if admin.token.is_none() && !is_local(&request) {
        // A name that a page's owner points at this machine would be the same origin to its browser.
        let message = "without a token the admin API is for this machine: ask it by localhost or 127.0.0.1";
        return Failure::rejected(StatusCode::FORBIDDEN, "host_not_allowed", message).into_response();
    }
    if admin.token.as_ref().is_some_and(|token| !presents(request.headers(), token)) {
        let message = "the admin API needs its token: Authorization: Bearer …";
        return Failure::rejected(StatusCode::UNAUTHORIZED, "invalid_admin_token", message).into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// Whether a request names this machine by itself.
fn is_local(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host =
        host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn presents(headers: &HeaderMap, token: &Secret) -> bool {
    let presented = headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let bare = presented.and_then(|presented| presented.strip_prefix(b"Bearer ")).unwrap_or_default();
    bare.ct_eq(token.expose().as_bytes()).into()
}

/// `DELETE /admin/streams/{id}`
async fn stop(State(admin): State<Admin>, Path(id): Path<u64>) -> Result<StatusCode, Failure> {
    show::entry(&admin, id)?.stop();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /admin/upstreams/{name}/{verb}`
async fn steer(
    State(admin): State<Admin>,
    Path((name, verb)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let pools = admin.core.pools();
    let Some(member) = pools.member(&name) else {
        let message = format!("there is no upstream `{name}`");
        return Err(Failure::rejected(StatusCode::NOT_FOUND, "upstream_not_found", message));
    };
    match &*verb {
        "drain" => member.drain(true),
        "undrain" => member.drain(false),
        "open" => member.hold(true),
        "close" => member.hold(false),
        _ => {
            let message = "an upstream can be told to drain, undrain, open or close";
            return Err(Failure::rejected(StatusCode::NOT_FOUND, "not_found", message));
        }
    }
    tracing::info!(upstream = name, "the operator told the upstream to {verb}");
    pools.count_places();
    Ok(Json(json!(member.standing())))
}

/// `GET /admin/config`
async fn config(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.control.shown())
}

#[derive(Deserialize)]
struct Wanted {
    level: String,
}

/// `PUT /admin/log`
async fn log(State(admin): State<Admin>, body: axum::body::Bytes) -> Result<Json<Value>, Failure> {
    let expected = || Failure::bad_request("the body must be {\"level\": \"error|warn|info|debug|trace\"}");
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| expected())?;
    let level = Level::named(&wanted.level).ok_or_else(expected)?;
    (admin.hooks.level)(level).map_err(|problem| {
        Failure::rejected(
            StatusCode::CONFLICT,
            "log_level",
            format!("the level cannot be changed: {problem}"),
        )
    })?;
    Ok(Json(json!({"level": level.as_str()})))
}

/// `POST /admin/reload`
async fn reload(State(admin): State<Admin>) -> Result<Json<Value>, Failure> {
    let (hooks, control) = (Arc::clone(&admin.hooks), admin.control.clone());
    // Files are read, so not on the core's own thread.
    let outcome = tokio::task::spawn_blocking(move || (hooks.reload)(&control)).await;
    match outcome {
        Ok(Ok(fixed)) => Ok(Json(json!({"needs_restart": fixed}))),
        Ok(Err(problem)) => {
            Err(Failure::rejected(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", problem))
        }
        Err(_) => Err(Failure::internal("the configuration cannot be read again")),
    }
}

/// `GET /metrics`
async fn scrape(State(admin): State<Admin>) -> Response {
    scraped(&admin.core)
}

fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
