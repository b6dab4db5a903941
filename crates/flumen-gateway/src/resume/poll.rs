use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use flumen_store::{Reader, StreamId};
use http::{HeaderValue, header};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{
    Owner, Pacing,
    attach::{Found, Place, find, refusal, status},
    deliver::{event_of, nothing_more},
    envelope,
    streams::{Parsed, id_of, name, query},
    wish::cursor,
};
use crate::{access::Who, core::Core, error::Failure};

/// Where somebody wants to go on, and how long they wait.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    after: Option<u64>,
    last_event_id: Option<String>,
    wait: Option<String>,
}

const WAIT: Duration = Duration::from_secs(25);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// One answer has about so many bytes.
const MOST: usize = 64 * 1024;

/// `GET /v1/streams/{id}/poll`: what is there, or, after a wait, nothing.
pub(crate) async fn poll(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    asked: Parsed<Asked>,
    Owner(owner): Owner,
    Who(identity): Who,
) -> Result<Response, Failure> {
    let asked = query(asked)?;
    let wait = match asked.wait.as_deref().map(humantime::parse_duration) {
        None => WAIT,
        Some(Ok(wait)) if wait <= LONGEST_WAIT => wait,
        Some(_) => return Err(Failure::bad_request("`wait` must be a time from 0s to 60s, such as 25s")),
    };
    let id = id_of(&id)?;
    let (place, after) = match asked.last_event_id.as_deref().map(cursor).transpose()? {
        Some(event) => (Place::Event(event), event.at.seq),
        None => (Place::After(asked.after.unwrap_or(0)), asked.after.unwrap_or(0)),
    };
    let found = find(core.store(), id, place, &owner).await?;
    core.metrics().resumed();
    let pacing;
    let mut reader = match found {
        Found::Reader(reader, model) => {
            pacing = Pacing::for_reader(&core, &identity, &model);
            reader
        }
        Found::End(id) => {
            let mut response = nothing_more();
            name(&mut response, id);
            return Ok(response);
        }
    };
    let mut answer = Answer::new(id, after);
    tokio::select! {
        taken = timeout(wait, answer.fill(&mut reader)) => if let Ok(taken) = taken { taken? },
        () = core.shutdown().draining() => {}
    }
    // What came at once is told when its time is over, so that polling is no faster than a stream.
    let span = pacing.span(answer.last - after, answer.body.len()).min(LONGEST_WAIT);
    tokio::select! {
        () = sleep(span) => {}
        () = core.shutdown().draining() => {}
    }
    identity.must_last()?;
    core.metrics().resumed_frames(answer.last - after);
    let state = status(core.store(), id, &owner).await?.state();
    Ok(answer.respond(state.as_str()))
}

struct Answer {
    id: StreamId,
    last: u64,
    body: Vec<u8>,
}

impl Answer {
    fn new(id: StreamId, after: u64) -> Self {
        Self { id, last: after, body: Vec::new() }
    }

    /// Waits for the first event and takes what is there with it.
    async fn fill(&mut self, reader: &mut Reader) -> Result<(), Failure> {
        let mut next = reader.next().await;
        while let Some(item) = next {
            let item = item.map_err(|refused| refusal(&refused))?;
            self.last = item.at.seq;
            if let Some(event) = event_of(&item.frame) {
                self.body.extend_from_slice(if self.body.is_empty() { b"{" } else { b",{" });
                envelope::put(&event, Some(reader.event_id(&item)), &mut self.body);
                self.body.push(b'}');
            }
            if self.body.len() >= MOST {
                break;
            }
            next = match futures_util::FutureExt::now_or_never(reader.next()) {
                Some(next) => next,
                None => break,
            };
        }
        Ok(())
    }

    fn respond(self, state: &str) -> Response {
        let Self { id, last, body: events } = self;
        let mut body = format!(r#"{{"stream":"{id}","state":"{state}","events":["#).into_bytes();
        body.extend_from_slice(&events);
        body.extend_from_slice(format!(r#"],"last":{last}}}"#).as_bytes());
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (headers, body).into_response();
        name(&mut response, id);
        response
    }
}
