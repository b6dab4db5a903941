use std::{collections::HashMap, sync::Arc};

use axum::extract::ws::Message;
use bytes::{BufMut, Bytes, BytesMut};
use flumen_store::{EventId, StreamId};
use flumen_stream::End;
use flumen_wire::listen::Connection;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::value::RawValue;

use super::{
    Opened, Opening, Over,
    message::{Form, Kind, Said},
    out::Out,
    readings::{MOST_STREAMS, Next, Open, Readings, Reserved},
};
use crate::{
    access::{Identity, identify},
    core::Core,
    dispatch::revoked,
    error::Failure,
    generate::{Answer, Asked, CHAT, COMPLETIONS, begin},
    observe::facts_of,
    resume::{
        Kept, Pacing, Wish,
        attach::{Found, Place, find, status},
        deliver::{event_of, with_id},
        reading::{Paced, Reading},
        streams::{id_of, stop_now},
        wish::cursor,
    },
};

/// Whom a session serves.
pub(super) struct Client {
    pub(super) core: Arc<Core>,
    /// The request that opened the socket.
    pub(super) parts: Arc<Parts>,
    pub(super) identity: Arc<Identity>,
    pub(super) owner: String,
    pub(super) connection: Option<Arc<Connection>>,
}

impl Client {
    pub(super) async fn hear(
        &self,
        message: Message,
        opening: &mut FuturesUnordered<Opening>,
        streams: &mut Readings,
        out: &mut Out,
    ) -> Result<(), Over> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(Over::Closed),
            Message::Binary(_) => return Err(Over::Broken("messages are JSON texts".to_owned())),
        };
        let said: Said = serde_json::from_str(&text)
            .map_err(|error| Over::Broken(format!("no message: {error}").chars().take(100).collect()))?;
        let name = said.r#ref;
        match said.r#type {
            Kind::Credit => streams.grant(name, said.bytes),
            Kind::Leave => streams.forget(name),
            Kind::Stop => {
                if let Some(id) = streams.stream(name)
                    && let Ok(status) = status(self.core.store(), id, &self.owner).await
                {
                    stop_now(&self.core, &status).await;
                }
            }
            Kind::Start => {
                let reserved = streams.reserve(name).map_err(Over::Broken)?;
                if opening.len() >= MOST_STREAMS {
                    // Those that were left before they were there count as well.
                    return Err(Over::Broken("too many streams are being opened".to_owned()));
                }
                let client = self.clone();
                opening.push(Box::pin(async move {
                    let opened = client.start(said, &reserved).await;
                    (name, reserved, opened)
                }));
            }
            Kind::Resume => {
                let reserved = streams.reserve(name).map_err(Over::Broken)?;
                let opened = match place(&said) {
                    Ok((stream, place)) => self.resume(stream, place, &said).await,
                    Err(failure) => Err(failure),
                };
                return self.opened(name, &reserved, opened, streams, out).await;
            }
        }
        Ok(())
    }

    async fn resume(&self, stream: StreamId, place: Place, said: &Said) -> Result<Opened, Failure> {
        self.present().await?;
        self.core.metrics().resumed();
        let found = find(self.core.store(), stream, place, &self.owner).await?;
        Ok(Opened { stream, reading: self.reading(found, None), credit: said.credit, form: said.frames })
    }

    /// Who asks, by the configuration of now: a socket may be older than it.
    async fn present(&self) -> Result<Arc<Identity>, Failure> {
        self.identity.must_last()?;
        let identity = identify(&self.core, &self.parts).await?;
        if identity.owner() != self.identity.owner() {
            return Err(Failure::from(revoked()));
        }
        Ok(identity)
    }

    fn reading(&self, found: Found, pacing: Option<Pacing>) -> Option<Paced> {
        match found {
            Found::Reader(reader, model) => {
                let own = || Pacing::for_reader(&self.core, &self.identity, &model);
                let pacing = pacing.unwrap_or_else(own);
                Some(pacing.hold(Reading::new(*reader, &self.core, self.identity.revoked())))
            }
            Found::End(_) => None,
        }
    }

    /// Runs a request as if it had come by POST, resumable.
    async fn start(self, said: Said, reserved: &Reserved) -> Result<Opened, Failure> {
        let Said { path, body, idempotency_key, credit, frames: form, .. } = said;
        let path = path.unwrap_or_default();
        let body = Bytes::from(body.map(|body| body.get().to_owned()).unwrap_or_default());
        let endpoint = match &*path {
            "/v1/chat/completions" => CHAT,
            "/v1/completions" => COMPLETIONS,
            _ => {
                let message = "the path must be /v1/chat/completions or /v1/completions";
                return Err(Failure::rejected(StatusCode::NOT_FOUND, "not_found", message));
            }
        };
        let mut request = http::Request::post(&path).body(axum::body::Body::empty()).unwrap_or_default();
        *request.headers_mut() = self.parts.headers.clone();
        let record = self.core.record(facts_of(&request, self.connection.as_deref()));
        record.facts().dialect = Some(endpoint.dialect);
        self.identity.note(&mut record.facts());
        let begun = async {
            let identity = self.present().await?;
            let wish = Wish::of(&HeaderMap::new(), self.owner.clone())?.resuming(idempotency_key);
            let asked = Asked {
                endpoint,
                identity: &identity,
                wish: &wish,
                headers: self.parts.headers.clone(),
                body,
                deadline: None,
            };
            begin(&self.core, asked, Arc::clone(&record)).await
        };
        let refused = |failure: Failure| {
            record.ended(failure.cause, Some(failure.code));
            record.facts().status = Some(failure.status);
            failure
        };
        let opened = match begun.await.map_err(refused)? {
            Answer::Stream(Kept::Begun(begun)) => {
                record.facts().status = Some(StatusCode::OK);
                let pacing = begun.pacing;
                // It can be stopped from now on, also while it waits for its turn.
                reserved.is(begun.reader.id());
                let (reader, _) = begun.answer().await.map_err(|response| {
                    let failure = response.extensions().get::<Failure>().cloned();
                    failure.unwrap_or_else(|| upstream_refused(response.status()))
                })?;
                (reader.id(), self.reading(Found::Reader(Box::new(reader), String::new()), Some(pacing)))
            }
            Answer::Stream(Kept::Same(stream)) => {
                let found = find(self.core.store(), stream, Place::After(0), &self.owner).await?;
                (stream, self.reading(found, None))
            }
            Answer::Stream(Kept::NoRoom(_)) => {
                return Err(refused(
                    Failure::rejected(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no_room",
                        "there is no room to keep another stream",
                    )
                    .retry_after(5),
                ));
            }
            Answer::Plain(_) => {
                return Err(refused(Failure::bad_request("a socket carries streams: set `stream` to true")));
            }
        };
        Ok(Opened { stream: opened.0, reading: opened.1, credit, form })
    }

    pub(super) async fn opened(
        &self,
        name: u32,
        reserved: &Reserved,
        opened: Result<Opened, Failure>,
        streams: &mut Readings,
        out: &mut Out,
    ) -> Result<(), Over> {
        match opened {
            // It was left before it was there.
            _ if !streams.awaits(name, reserved) => Ok(()),
            Err(failure) => {
                streams.forget(name);
                let status = failure.status.as_u16();
                let body = failure.body();
                // The error's own body, as a POST would have been answered.
                let error: Box<RawValue> = serde_json::from_slice::<HashMap<String, Box<RawValue>>>(&body)
                    .ok()
                    .and_then(|mut body| body.remove("error"))
                    .unwrap_or_default();
                let wait =
                    failure.retry_after.map_or(String::new(), |wait| format!(r#""retry_after":{wait},"#));
                let error = error.get();
                out.text(format!(
                    r#"{{"type":"error","ref":{name},"status":{status},{wait}"error":{error}}}"#
                ))
                .await
            }
            Ok(opened) => {
                let stream = opened.stream;
                out.text(format!(r#"{{"type":"open","ref":{name},"stream":"{stream}"}}"#)).await?;
                match opened.reading {
                    Some(reading) => {
                        streams.put(name, Open { stream, reading, credit: opened.credit, form: opened.form });
                        Ok(())
                    }
                    None => self.end(name, stream, streams, out).await,
                }
            }
        }
    }

    /// Passes on what a stream brings.
    pub(super) async fn pass(
        &self,
        name: u32,
        (stream, form, next): Next,
        streams: &mut Readings,
        out: &mut Out,
    ) -> Result<(), Over> {
        let numbered = match next {
            None => return self.end(name, stream, streams, out).await,
            Some(Ok(numbered)) => numbered,
            Some(Err(end)) => {
                streams.forget(name);
                let words = serde_json::to_string(&end.message).unwrap_or_default();
                let error = format!(r#"{{"code":"{}","message":{words}}}"#, end.code);
                return out
                    .text(format!(r#"{{"type":"error","ref":{name},"status":500,"error":{error}}}"#))
                    .await;
            }
        };
        let (Some(id), Some(event)) = (numbered.id, event_of(&numbered.wire)) else { return Ok(()) };
        self.core.metrics().resumed_frames(1);
        match form {
            Form::Json => out.event(name, &event, id).await,
            Form::Verbatim => {
                let wire = with_id(&numbered.wire, id, None);
                let mut frame = BytesMut::with_capacity(4 + wire.len());
                frame.put_u32(name);
                frame.put_slice(&wire);
                out.send(Message::Binary(frame.freeze())).await
            }
        }
    }

    async fn end(
        &self,
        name: u32,
        stream: StreamId,
        streams: &mut Readings,
        out: &mut Out,
    ) -> Result<(), Over> {
        streams.forget(name);
        match status(self.core.store(), stream, &self.owner).await {
            // The server stops, and the stream outlives it.
            Ok(status) if status.ending.is_none() => Err(Over::Leaving),
            Ok(status) => {
                out.text(format!(r#"{{"type":"end","ref":{name},"state":"{}"}}"#, status.state().as_str()))
                    .await
            }
            Err(_) => out.text(format!(r#"{{"type":"end","ref":{name},"state":"lost"}}"#)).await,
        }
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            parts: Arc::clone(&self.parts),
            identity: Arc::clone(&self.identity),
            owner: self.owner.clone(),
            connection: self.connection.clone(),
        }
    }
}

fn upstream_refused(status: StatusCode) -> Failure {
    let mut failure = Failure::from(
        End::new(
            flumen_stream::Cause::UpstreamError,
            format!("the upstream refused the request (status {})", status.as_u16()),
        )
        .with_code("upstream_refused"),
    );
    failure.status = status;
    failure
}

fn place(said: &Said) -> Result<(StreamId, Place), Failure> {
    if let Some(last) = &said.last_event_id {
        let event: EventId = cursor(last)?;
        return Ok((event.stream, Place::Event(event)));
    }
    let stream = said.stream.as_deref();
    let stream = stream.ok_or_else(|| Failure::bad_request("`stream` or `last_event_id` is needed"))?;
    Ok((id_of(stream)?, Place::After(said.after.unwrap_or(0))))
}
