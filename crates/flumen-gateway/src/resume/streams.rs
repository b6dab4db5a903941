//! `/v1/streams`: what is kept, its state, and its end.

use std::{sync::Arc, time::UNIX_EPOCH};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use flumen_store::{Reader, Status, StreamId};
use flumen_wire::transport::Coding;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Delivery, Owner, Pacing, Transport,
    attach::{Found, Place, find, not_found, status},
    deliver::nothing_more,
    reading::Reading,
    wish::cursor,
};
use crate::{
    access::{Identity, Who},
    core::Core,
    error::Failure,
};

pub(crate) const STREAM_ID: HeaderName = HeaderName::from_static("flumen-stream-id");

/// Where somebody wants to go on, and how.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    last_event_id: Option<String>,
    starting_after: Option<u64>,
    skip: Option<u64>,
    transport: Option<String>,
    format: Option<String>,
}

impl Asked {
    fn place(&self, headers: &HeaderMap) -> Result<Place, Failure> {
        let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        match header.or(self.last_event_id.as_deref()).filter(|id| !id.is_empty()) {
            Some(id) => Ok(Place::Event(cursor(id)?)),
            None => Ok(Place::After(self.starting_after.unwrap_or(0))),
        }
    }
}

/// A query, if it could be understood.
pub(super) type Parsed<T> = Result<Query<T>, QueryRejection>;

pub(super) fn query<T>(parsed: Parsed<T>) -> Result<T, Failure> {
    parsed.map(|Query(asked)| asked).map_err(|rejection| Failure::bad_request(rejection.body_text()))
}

pub(super) fn id_of(text: &str) -> Result<StreamId, Failure> {
    text.parse().map_err(|_| not_found())
}

/// `GET /v1/streams/{id}`: reads the stream, or tells its state.
pub(crate) async fn read(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    asked: Parsed<Asked>,
    Owner(owner): Owner,
    Who(identity): Who,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let asked = query(asked)?;
    let id = id_of(&id)?;
    let transport = Transport::of(&headers, asked.transport.as_deref().or(asked.format.as_deref()))?;
    if transport == Transport::Json {
        return state_of(&core, id, &owner).await;
    }
    let place = asked.place(&headers)?;
    let found = find(core.store(), id, place, &owner).await?;
    let delivery = delivery(&core, &headers, transport, asked.skip.unwrap_or(0));
    Ok(reply(&core, &identity, found, delivery))
}

/// How a response to these headers is written.
pub(super) fn delivery(core: &Core, headers: &HeaderMap, transport: Transport, skip: u64) -> Delivery {
    let routing = core.routing();
    let config = &routing.config().stream;
    let coding = Coding::accepted(headers, &config.compression);
    let pacing = Pacing::default();
    Delivery { transport, heartbeat: config.heartbeat, skip, coding, pacing }
}

/// The response of a reader that came back.
pub(crate) fn reply(core: &Core, identity: &Identity, found: Found, delivery: Delivery) -> Response {
    let frames = core.metrics().resumed();
    let (id, mut response) = match found {
        Found::End(id) => (id, nothing_more()),
        Found::Reader(reader, model) => {
            let id = reader.id();
            let delivery = Delivery { pacing: Pacing::for_reader(core, identity, &model), ..delivery };
            let reading = Reading::new(*reader, core, identity.revoked());
            (
                id,
                delivery.respond(reading.inspect(move |_| {
                    frames.inc();
                })),
            )
        }
    };
    name(&mut response, id);
    response
}

/// Says which stream a response is of.
pub(crate) fn name(response: &mut Response, id: StreamId) {
    let link = format!("</v1/streams/{id}>; rel=\"resume\"");
    let headers = response.headers_mut();
    for (name, text) in [(STREAM_ID, id.to_string()), (header::LINK, link)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

/// `HEAD /v1/streams/{id}`: the state, in headers.
pub(crate) async fn state(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Owner(owner): Owner,
) -> Result<Response, Failure> {
    state_of(&core, id_of(&id)?, &owner).await
}

async fn state_of(core: &Core, id: StreamId, owner: &str) -> Result<Response, Failure> {
    let status = status(core.store(), id, owner).await?;
    let mut response = Json(json(core, &status)).into_response();
    let state = HeaderValue::from_static(status.state().as_str());
    response.headers_mut().insert(HeaderName::from_static("flumen-stream-state"), state);
    response.headers_mut().insert(HeaderName::from_static("flumen-stream-last"), status.last.into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    name(&mut response, id);
    Ok(response)
}

pub(super) fn json(core: &Core, status: &Status) -> Value {
    let created = status.about.created.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": status.id.to_string(),
        "object": "stream",
        "state": status.state().as_str(),
        "cause": status.ending.and_then(|ending| ending.cause).map(flumen_stream::Cause::as_str),
        "created": created.as_secs(),
        "dialect": status.about.dialect,
        "model": status.about.model,
        "epoch": status.epoch,
        "first": status.first,
        "last": status.last,
        "bytes": status.bytes,
        "readers": core.store().attendance(status.id).map_or(0, |attendance| attendance.readers()),
    })
}

/// `GET /v1/streams`: the streams of whoever asks.
pub(crate) async fn list(State(core): State<Arc<Core>>, Owner(owner): Owner) -> Result<Response, Failure> {
    let list = core.store().list(Some(&owner)).await;
    let list = list.map_err(|refused| super::attach::refusal(&refused))?;
    let data: Vec<_> = list.iter().map(|status| json(&core, status)).collect();
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(json!({"object": "list", "data": data}))).into_response())
}

/// `DELETE /v1/streams/{id}`: stops the generation.
pub(crate) async fn stop(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Owner(owner): Owner,
) -> Result<Response, Failure> {
    let id = id_of(&id)?;
    let status = status(core.store(), id, &owner).await?;
    if status.ending.is_none() {
        stop_now(&core, &status).await;
    }
    state_of(&core, id, &owner).await
}

/// Asks the writer to stop and waits a moment until it has, so that the answer tells the end.
pub(super) async fn stop_now(core: &Core, status: &Status) {
    let Some(attendance) = core.store().attendance(status.id) else { return };
    attendance.stop();
    let ended = async {
        // Whoever reads to the end has seen it.
        let Ok(mut reader) = Reader::attach(core.store(), status.id, status.last) else { return };
        while reader.next().await.is_some() {}
    };
    // A store that is slow to record it must not hold up whoever asked.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), ended).await;
}

/// The answer to a request for a stream without its answer.
pub(crate) async fn accepted(core: &Core, id: StreamId, owner: &str) -> Result<Response, Failure> {
    let mut response = state_of(core, id, owner).await?;
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(location) = HeaderValue::try_from(format!("/v1/streams/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
    Ok(response)
}
