//! The public surface on one screen.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode, Uri},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};

use flumen_rpc::grpc;

use crate::{
    access::{admit, mint},
    core::Core,
    cors,
    error::Failure,
    front::front,
    generate::{CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, generate},
    health, models,
    observe::observe,
    playground, resume,
};

/// The gateway's routes for one core: HTTP, and gRPC that asks it.
///
/// # Errors
/// When the front of gRPC cannot be set up.
pub(crate) async fn routes(core: &Arc<Core>) -> io::Result<Router> {
    let http = http(Arc::clone(core));
    let limits =
        grpc::Limits { max_message: core.routing().config().server.max_body_size, ..grpc::Limits::default() };
    Ok(front(core, &http, limits).await?.merge(http))
}

fn http(core: Arc<Core>) -> Router {
    let ask =
        |endpoint: Endpoint| post(move |core: State<_>, request: Request| generate(core, endpoint, request));
    let guarded = Router::new()
        .route("/v1/chat/completions", ask(CHAT))
        .route("/v1/completions", ask(COMPLETIONS))
        .route("/v1/embeddings", ask(EMBEDDINGS))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/v1/streams", get(resume::list))
        .route("/v1/streams/{id}", get(resume::read).head(resume::state).delete(resume::stop))
        .route("/v1/streams/{id}/poll", get(resume::poll))
        .route("/v1/socket", get(resume::socket))
        .route("/v1/tokens", post(mint))
        .route("/metrics", get(health::metrics))
        .route_layer(from_fn_with_state(Arc::clone(&core), admit));
    guarded
        .route("/", get(playground::page))
        .route("/playground/{name}", get(playground::asset))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(cors::headers(Arc::clone(&core)))
        .layer(from_fn_with_state(Arc::clone(&core), cors::refuse))
        .layer(from_fn_with_state(Arc::clone(&core), observe))
        .with_state(core)
}

pub(crate) async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is nothing at `{}`", uri.path());
    Failure::rejected(StatusCode::NOT_FOUND, "not_found", message).into_response()
}

pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("`{}` does not take the method {method}", uri.path());
    Failure::rejected(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
}
