//! `GET /v1/models` and `GET /v1/models/{id}`.

use http::StatusCode;

use crate::{error::ApiError, frames::quoted, reply::Reply};

/// All models.
pub(crate) fn list(models: &[String]) -> Reply {
    let objects: Vec<String> = models.iter().map(|model| object(model)).collect();
    Reply::json(StatusCode::OK, format!(r#"{{"object":"list","data":[{}]}}"#, objects.join(",")))
}

/// One model; directives in its name make no difference.
pub(crate) fn one(models: &[String], id: &str) -> Result<Reply, ApiError> {
    let base = id.split_once(':').map_or(id, |(base, _)| base);
    if models.iter().any(|model| model == id || model == base) {
        return Ok(Reply::json(StatusCode::OK, object(id)));
    }
    let message = format!("the model `{id}` is not listed here, though it would answer");
    Err(ApiError { param: Some("model"), ..ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message) })
}

fn object(id: &str) -> String {
    // A date that does not change, 2024-01-01, so that lists can be compared.
    format!(r#"{{"id":{},"object":"model","created":1704067200,"owned_by":"flumen-sim"}}"#, quoted(id))
}
