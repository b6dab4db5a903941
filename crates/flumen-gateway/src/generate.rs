//! The endpoints that ask a model: chat completions, completions, embeddings.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flumen_store::{EventId, Position, StreamId};
use flumen_stream::{Cause, Cursor, End, Watermarks, log_in};
use flumen_wire::transport::Coding;
use futures_util::{FutureExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, timeout};

use crate::{
    access::Identity,
    burst::Burst,
    config::Stream,
    core::Core,
    dispatch::{Answering, Dispatch, Rules, is_stream},
    error::Failure,
    front::WaitsUntil,
    guard,
    observe::{REQUEST_ID, Record},
    provider::Call,
    request::{Edits, ModelRequest},
    respond,
    resume::{Delivery, Kept, Origin, Owner, Pacing, Transport, Wish, accepted, attach, keep, reply},
    sink::Sink,
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
    guard::content_type(request.headers())?;
    let identity = Identity::of(request.extensions())?;
    let wish = Wish::of(request.headers(), Owner::of(&identity, request.headers()).0)?;
    let delivery = Delivery {
        transport: Transport::of(request.headers(), named_transport(request.uri()))?,
        heartbeat: config.stream.heartbeat,
        skip: 0,
        coding: Coding::accepted(request.headers(), &config.stream.compression),
        pacing: Pacing::default(),
    };
    let headers = request.headers().clone();
    let deadline = request.extensions().get().map(|WaitsUntil(deadline)| *deadline);
    let body = guard::body(request, config.server.max_body_size, config.timeouts.request_body).await?;
    if let Some(last) = wish.last(config.resume.enabled)? {
        // The stream was begun before: the body is not run again.
        record.facts().stream_id = Some(last.stream.short());
        let found = attach(core.store(), last, &wish.owner).await?;
        return Ok(reply(&core, &identity, found, delivery));
    }
    let asked = Asked { endpoint, identity: &identity, wish: &wish, headers, body, deadline };
    match begin(&core, asked, record).await? {
        Answer::Stream(Kept::Begun(begun)) if wish.detached => {
            accepted(&core, begun.reader.id(), &wish.owner).await
        }
        Answer::Stream(Kept::Begun(begun)) => {
            let delivery = Delivery { pacing: begun.pacing, ..delivery };
            Ok(begun.respond(&core, delivery).await)
        }
        Answer::Stream(Kept::Same(stream)) if wish.detached => accepted(&core, stream, &wish.owner).await,
        Answer::Stream(Kept::Same(stream)) => same(&core, &identity, stream, &wish, delivery).await,
        Answer::Stream(Kept::NoRoom(dispatch)) | Answer::Plain(dispatch) => {
            let delivery = Delivery { pacing: dispatch.pacing, ..delivery };
            plain(&core, dispatch, delivery).await
        }
    }
}

/// A request that has passed the guards.
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: Endpoint,
    /// Who asks.
    pub(crate) identity: &'a Arc<Identity>,
    pub(crate) wish: &'a Wish,
    /// Those of the client.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When the client stops waiting, if it has said so.
    pub(crate) deadline: Option<Instant>,
}

/// What becomes of a request.
pub(crate) enum Answer {
    /// A stream that is kept.
    Stream(Kept),
    /// An answer that lives as long as its client reads.
    Plain(Box<Dispatch>),
}

/// Finds out where a request goes, and begins the stream if it is to be kept.
///
/// # Errors
/// 400, 404, 422 or 503, before any upstream is asked.
pub(crate) async fn begin(
    core: &Arc<Core>,
    Asked { endpoint, identity, wish, headers, body, deadline }: Asked<'_>,
    record: Arc<Record>,
) -> Result<Answer, Failure> {
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
    record.facts().body_in = body.len() as u64;
    let asked = ModelRequest::parse(body.clone())?;
    identity.must_have(&asked.model)?;
    let target = routing.target(&asked.model).ok_or_else(|| {
        let message =
            format!("the model `{}` is not configured; GET /v1/models lists those that are", asked.model);
        Failure::rejected(StatusCode::NOT_FOUND, "model_not_found", message).param("model")
    })?;
    let stream = asked.stream && endpoint.streams;
    {
        let mut facts = record.facts();
        facts.model = Some(target.model.to_owned());
        facts.stream = stream;
    }
    let of_one = core.limiter().of_one_answer(identity, target.limits);
    let held = core.limiter().admit(identity, target.model, target.limits, asked.prompt_tokens(), 0)?;
    record.facts().headers = held.headers();
    let most = of_one.max_tokens.filter(|_| endpoint.streams);
    let (edited, withhold_usage) =
        asked.for_upstream(Edits { model: target.rename, ask_usage: stream, most });
    let mut passed = forwarded(&headers);
    if let Ok(id) = HeaderValue::from_str(&record.facts().request_id) {
        passed.insert(REQUEST_ID, id);
    }
    let dispatch = Box::new(Dispatch {
        pool: Arc::clone(target.pool),
        model: target.model.to_owned(),
        key: target.pool.key(&headers, asked.prompt()),
        asked: flumen_admit::Asked {
            tenant: Arc::clone(&identity.tenant.name),
            weight: identity.weight,
            priority: identity.priority,
            input: asked.prompt_tokens(),
        },
        held,
        revoked: identity.revoked(),
        pacing: Pacing::of(&of_one),
        call: Call { path: endpoint.path, body: edited, stream, headers: passed, deadline, due: None },
        rules: Rules {
            client_stall: config.timeouts.client_stall,
            max_event: config.stream.max_event,
            withhold_usage,
        },
        live: core.roll().enter(&record, target.pool.name()),
        record,
        shutdown: core.shutdown().clone(),
        routing: Arc::clone(&routing),
    });
    if !stream || !wish.resumable(target.resume) {
        return Ok(Answer::Plain(dispatch));
    }
    let origin = Origin {
        wish,
        dialect: endpoint.dialect,
        model: target.model,
        path: endpoint.path,
        body: &body,
        resume: &config.resume,
        marks: marks(&config.stream),
    };
    keep(core, origin, dispatch).await.map(Answer::Stream)
}

/// The same request again, under its idempotency key: its stream from the start.
async fn same(
    core: &Core,
    identity: &Identity,
    stream: StreamId,
    wish: &Wish,
    delivery: Delivery,
) -> Result<Response, Failure> {
    let start = EventId { stream, at: Position { epoch: 0, seq: 0 } };
    let found = attach(core.store(), start, &wish.owner).await?;
    Ok(reply(core, identity, found, delivery))
}

async fn plain(core: &Core, dispatch: Box<Dispatch>, delivery: Delivery) -> Result<Response, Failure> {
    let routing = core.routing();
    let config = &routing.config().stream;
    let (stream, announce) = (dispatch.call.stream, dispatch.pool.config().queue.announce);
    if stream && let Some(patience) = announce {
        return announced(dispatch, config, delivery, patience).await;
    }
    let answering = dispatch.send().await?;
    begun(answering, stream, config, delivery).await
}

/// The response to an answer that came before its client had to be told anything.
async fn begun(
    answering: Answering,
    stream: bool,
    config: &Stream,
    delivery: Delivery,
) -> Result<Response, Failure> {
    let record = Arc::clone(answering.journey.record());
    if !answering.response.status.is_success() {
        let by = answering.answer_by();
        return Ok(respond::upstream_refused(answering.response, by, &record).await);
    }
    if stream && answering.is_stream()? {
        let (cursor, headers, frames_out) = relayed(answering, config);
        return respond::streamed(cursor, &headers, delivery, record, frames_out).await;
    }
    respond::whole(answering.response, config.buffer, answering.journey).await
}

/// Starts the relay of an answer that has begun. It is owned by its log: when the cursor is dropped, it ends at once.
fn relayed(answering: Answering, config: &Stream) -> (Cursor<Burst>, HeaderMap, Counter) {
    let metrics = answering.journey.metrics();
    let (writer, cursor) = log_in(marks(config), Arc::clone(&metrics.buffered));
    let (headers, frames_out) = (answering.response.headers.clone(), metrics.frames_out.clone());
    let mut relay = Box::pin(answering.relay(Sink::Passing(writer), metrics).run());
    // What came with the head is relayed here and now: a task of its own would have to wait for all that are ready, twice.
    if relay.as_mut().now_or_never().is_none() {
        tokio::spawn(relay);
    }
    (cursor, headers, frames_out)
}

/// A stream whose client is told of the queue: when its turn does not come soon, the response begins with comments.
async fn announced(
    dispatch: Box<Dispatch>,
    config: &Stream,
    delivery: Delivery,
    patience: Duration,
) -> Result<Response, Failure> {
    let (record, place) = (Arc::clone(&dispatch.record), Arc::clone(dispatch.live.entry()));
    let mut sending = Box::pin(dispatch.send());
    if let Ok(answering) = timeout(patience, &mut sending).await {
        return begun(answering?, true, config, delivery).await;
    }
    let config = config.clone();
    let events = stream::once(async move {
        let answering = sending.await.map_err(|failure| failure.end())?;
        let refused = !answering.response.status.is_success() || !is_stream(&answering.response.headers)?;
        if refused {
            let end = End::new(Cause::UpstreamError, "the upstream did not begin a stream");
            return Err(end.with_code("upstream_refused"));
        }
        let (cursor, _, frames_out) = relayed(answering, &config);
        Ok(cursor.inspect_ok(move |burst| {
            frames_out.inc_by(u64::from(burst.events));
        }))
    })
    .try_flatten();
    Ok(respond::queued(events, place, delivery, record))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a buffer of at most 64 MiB"
)]
fn marks(stream: &Stream) -> Watermarks {
    let share = |share: f64| (stream.buffer as f64 * share) as usize;
    Watermarks::at(share(stream.high), share(stream.low))
}

/// What a request's query says of the transport.
fn named_transport(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("transport="))
}

/// The headers of a request that go along.
pub(crate) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for (name, value) in headers {
        if FORWARDED.contains(&name.as_str()) {
            forwarded.insert(name, value.clone());
        }
    }
    forwarded
}
