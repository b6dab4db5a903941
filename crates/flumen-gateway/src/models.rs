//! The list of models.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{access::Who, core::Core, error::Failure};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

fn model<'a>(id: &'a str, upstream: &'a str) -> Model<'a> {
    Model { id, object: "model", created: 0, owned_by: upstream }
}

/// `GET /v1/models`: the models that are configured by name and that the caller may use. Patterns have no names to list.
pub(crate) async fn list(State(core): State<Arc<Core>>, Who(identity): Who) -> Response {
    let routing = core.routing();
    let named =
        routing.config().models.iter().filter(|(name, _)| !name.ends_with('*') && identity.may_use(name));
    let data = named.map(|(name, route)| model(name, &route.pool)).collect();
    json(&List { object: "list", data })
}

/// `GET /v1/models/{id}`: one model, also one that only a pattern knows. Names may contain slashes.
pub(crate) async fn get(
    State(core): State<Arc<Core>>,
    Who(identity): Who,
    Path(id): Path<String>,
) -> Response {
    let routing = core.routing();
    if let Err(failure) = identity.must_have(&id) {
        return failure.into_response();
    }
    let Some((_, route)) = routing.config().route(&id) else {
        let message = format!("the model `{id}` is not configured");
        let failure = Failure::rejected(StatusCode::NOT_FOUND, "model_not_found", message);
        return failure.param("model").into_response();
    };
    json(&model(&id, &route.pool))
}

fn json(value: &impl Serialize) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], serde_json::to_vec(value).unwrap_or_default()).into_response()
}
