//! `POST /v1/tokens`: a key asks for a token that it may give to a page.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{Identity, Proof, TokenWish, permission::covers};
use crate::{config::is_origin, core::Core, error::Failure, guard};

/// What a page gets when nothing is said.
const USUAL: Duration = Duration::from_mins(5);
const LARGEST: usize = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    lives: Option<String>,
    models: Option<Vec<String>>,
    origin: Option<String>,
}

/// `POST /v1/tokens`
pub(crate) async fn mint(State(core): State<Arc<Core>>, request: Request) -> Result<Response, Failure> {
    let identity = Identity::of(request.extensions())?;
    if identity.proof != Proof::Key {
        let message = "tokens are given to keys; a token cannot ask for another";
        return Err(Failure::rejected(StatusCode::FORBIDDEN, "key_needed", message));
    }
    let roster = core.access().roster();
    let signer = roster.signer.as_ref().ok_or_else(|| {
        let message = "this gateway signs no tokens; its operator can set [auth.tokens]";
        Failure::rejected(StatusCode::NOT_FOUND, "no_tokens", message)
    })?;
    let typed = guard::content_type(request.headers());
    let body = guard::body(request, LARGEST, core.routing().config().timeouts.request_body).await?;
    let asked = if body.is_empty() {
        Asked::default()
    } else {
        typed?;
        serde_json::from_slice(&body).map_err(|error| Failure::bad_request(format!("the body: {error}")))?
    };
    let wish = wish(asked, &identity, signer.longest)?;
    let id = identity.key.as_deref().unwrap_or_default();
    let key = roster.digest(id).map(|hash| (id, hash));
    if key.is_none() {
        return Err(super::gatekeeper::refused("this key was taken away"));
    }
    let (token, expires) = signer
        .sign(&wish, key, identity.expires)
        .map_err(|problem| Failure::bad_request(problem).param("lives"))?;
    let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(json!({"token": token, "expires": expires}))).into_response())
}

/// What is asked for, never more than the key may itself.
fn wish(asked: Asked, identity: &Identity, longest: Duration) -> Result<TokenWish, Failure> {
    let lives = match asked.lives.as_deref().map(humantime::parse_duration) {
        None => USUAL.min(longest),
        Some(Ok(lives)) if !lives.is_zero() => lives,
        Some(_) => {
            return Err(
                Failure::bad_request("the field `lives` must be a duration such as \"5m\"").param("lives")
            );
        }
    };
    if let Some(models) = &asked.models {
        let wider = identity.models.iter().any(|own| !covers(own, models));
        if wider {
            let message = "the token would be for models that the key may not use";
            return Err(
                Failure::rejected(StatusCode::FORBIDDEN, "model_not_allowed", message).param("models")
            );
        }
    }
    if let Some(origin) = &asked.origin {
        if !is_origin(origin) {
            let message = "the field `origin` must be scheme and host, such as \"https://chat.example.com\"";
            return Err(Failure::bad_request(message).param("origin"));
        }
        let own = identity.origins.as_deref();
        if own.is_some_and(|own| !own.iter().any(|own| own == "*" || own == origin)) {
            let message = "the token would be for a page that may not use the key";
            return Err(
                Failure::rejected(StatusCode::FORBIDDEN, "origin_not_allowed", message).param("origin")
            );
        }
    }
    Ok(TokenWish {
        tenant: identity.tenant.name.to_string(),
        lives,
        models: asked.models,
        origin: asked.origin,
    })
}
