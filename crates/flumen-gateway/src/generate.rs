//! The endpoints that ask a model: chat completions, completions, embeddings.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use flumen_stream::{Cause, Deadlines, End, Watermarks, log_in};
use http::{HeaderMap, StatusCode, header};
use tokio::time::timeout_at;

use crate::{
    core::{Core, Target},
    error::Failure,
    guard,
    observe::Record,
    provider::Call,
    relay::{Relay, Rules, timed_out},
    request::ModelRequest,
    respond,
};

/// One of the endpoints that ask a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    /// The name of the wire format.
    pub dialect: &'static str,
    /// Path below the API's base.
    pub path: &'static str,
    /// Whether answers can be streamed.
    pub streams: bool,
}

/// `POST /v1/chat/completions`
pub(crate) const CHAT: Endpoint =
    Endpoint { dialect: "openai-chat", path: "/chat/completions", streams: true };
/// `POST /v1/completions`
pub(crate) const COMPLETIONS: Endpoint =
    Endpoint { dialect: "openai-completions", path: "/completions", streams: true };
/// `POST /v1/embeddings`
pub(crate) const EMBEDDINGS: Endpoint =
    Endpoint { dialect: "openai-embeddings", path: "/embeddings", streams: false };

/// Headers of the client that go along to the upstream.
const FORWARDED: [&str; 2] = ["traceparent", "tracestate"];

/// Answers a request to an endpoint.
pub(crate) async fn generate(
    State(core): State<Arc<Core>>,
    endpoint: Endpoint,
    request: Request,
) -> Response {
    let Some(record) = request.extensions().get::<Arc<Record>>().cloned() else {
        return Failure::internal("a request without a record").into_response();
    };
    record.facts().dialect = Some(endpoint.dialect);
    // The future is large and lives as long as the upstream thinks: one allocation per request.
    Box::pin(answer(core, endpoint, request, record)).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    core: Arc<Core>,
    endpoint: Endpoint,
    request: Request,
    record: Arc<Record>,
) -> Result<Response, Failure> {
    let routing = core.routing();
    let config = routing.config();
    if core.shutdown().is_draining() {
        return Err(Failure::rejected(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the server is shutting down",
        )
        .retry_after(1));
    }
    guard::content_type(request.headers())?;
    let headers = forwarded(request.headers());
    let body = guard::body(request, config.server.max_body_size, config.timeouts.request_body).await?;
    record.facts().body_in = body.len() as u64;
    let asked = ModelRequest::parse(body)?;
    let target = routing.target(&asked.model).ok_or_else(|| {
        let message =
            format!("the model `{}` is not configured; GET /v1/models lists those that are", asked.model);
        Failure::rejected(StatusCode::NOT_FOUND, "model_not_found", message).param("model")
    })?;
    let stream = asked.stream && endpoint.streams;
    {
        let mut facts = record.facts();
        facts.model = Some(target.model.to_owned());
        facts.upstream = Some(target.upstream_name.to_owned());
        facts.stream = stream;
    }
    let (body, withhold_usage) = asked.for_upstream(target.rename, stream);
    let call = Call { path: endpoint.path, body, stream, headers };
    let deadlines = target.deadlines;
    let patience = if stream { deadlines.first } else { deadlines.total };
    let answer_by = record.started() + patience.unwrap_or(A_DAY).min(deadlines.total.unwrap_or(A_DAY));
    let response = tokio::select! {
        biased;
        sent = timeout_at(answer_by, target.upstream.send(call)) => match sent {
            Ok(sent) => sent?,
            Err(_) => return Err(timed_out(expired(stream, &deadlines)).into()),
        },
        () = core.shutdown().aborted() => {
            return Err(End::new(Cause::Shutdown, "the server is shutting down").into());
        }
    };
    if !response.status.is_success() {
        return Ok(respond::upstream_refused(response, answer_by, &record).await);
    }
    if stream && is_event_stream(&response.headers) {
        if is_encoded(&response.headers) {
            let problem = "upstream: the stream is compressed, though that was not asked for";
            return Err(End::new(Cause::UpstreamError, problem).with_code("upstream_encoding").into());
        }
        let (rules, config) = (rules(&target, config, withhold_usage), &config.stream);
        let marks = marks(config);
        let metrics = record.metrics().route(target.model, target.upstream_name);
        let frames_out = metrics.frames_out.clone();
        let (writer, cursor) = log_in(marks, Arc::clone(&metrics.buffered));
        let relay = Relay::new(response.body, writer, rules, Arc::clone(&record), metrics, core.shutdown());
        // Owned by its log: when the cursor below is dropped, the relay ends at once.
        tokio::spawn(relay.run());
        return respond::streamed(cursor, &response.headers, config.heartbeat, record, frames_out).await;
    }
    let total = record.started() + deadlines.total.unwrap_or(A_DAY);
    let idle = deadlines.idle.unwrap_or(A_DAY);
    respond::whole(response, config.stream.buffer, total, idle, record).await
}

const A_DAY: Duration = Duration::from_hours(24);

fn expired(stream: bool, deadlines: &Deadlines) -> flumen_stream::Expired {
    if stream && deadlines.first <= deadlines.total {
        flumen_stream::Expired::First
    } else {
        flumen_stream::Expired::Total
    }
}

fn rules(target: &Target<'_>, config: &crate::config::Config, withhold_usage: bool) -> Rules {
    Rules {
        deadlines: target.deadlines,
        client_stall: config.timeouts.client_stall,
        max_event: config.stream.max_event,
        withhold_usage,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a buffer of at most 64 MiB"
)]
fn marks(stream: &crate::config::Stream) -> Watermarks {
    let share = |share: f64| (stream.buffer as f64 * share) as usize;
    Watermarks::at(share(stream.high), share(stream.low))
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for (name, value) in headers {
        if FORWARDED.contains(&name.as_str()) {
            forwarded.insert(name, value.clone());
        }
    }
    forwarded
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("text/event-stream"))
}
