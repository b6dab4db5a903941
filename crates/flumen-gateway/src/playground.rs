//! The page at `/`: plain files that are part of the binary.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::{core::Core, routes::unknown_path};

struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            content: include_str!(concat!("../playground/", $name)),
        }
    };
}

const PAGE: &str = "index.html";

const ASSETS: [Asset; 12] = [
    asset!("index.html", "text/html; charset=utf-8"),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("app.js", "text/javascript; charset=utf-8"),
    asset!("chat.js", "text/javascript; charset=utf-8"),
    asset!("flumen.js", "text/javascript; charset=utf-8"),
    asset!("gaps.js", "text/javascript; charset=utf-8"),
    asset!("key.js", "text/javascript; charset=utf-8"),
    asset!("markdown.js", "text/javascript; charset=utf-8"),
    asset!("refusal.js", "text/javascript; charset=utf-8"),
    asset!("sse.js", "text/javascript; charset=utf-8"),
    asset!("transports.js", "text/javascript; charset=utf-8"),
];

/// Nothing but the page's own files may run or be loaded, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Changes whenever one of the files does.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for asset in &ASSETS {
        asset.content.hash(&mut hasher);
    }
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()))
        .unwrap_or(HeaderValue::from_static("\"0\""))
});

/// `GET /`: the playground.
pub(crate) async fn page(core: State<Arc<Core>>, uri: Uri, headers: HeaderMap) -> Response {
    serve(&core, PAGE, uri, &headers).await
}

/// `GET /playground/{name}`: what the page is made of.
pub(crate) async fn asset(
    core: State<Arc<Core>>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    serve(&core, &name, uri, &headers).await
}

async fn serve(core: &Core, name: &str, uri: Uri, headers: &HeaderMap) -> Response {
    let on = core.routing().config().server.playground;
    let Some(asset) = ASSETS.iter().find(|asset| on && asset.name == name) else {
        return unknown_path(uri).await;
    };
    let own = [
        (header::ETAG, TAG.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == *TAG) {
        return (StatusCode::NOT_MODIFIED, own).into_response();
    }
    (own, [(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type))], asset.content)
        .into_response()
}
