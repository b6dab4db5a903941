//! `GET /v1/socket`: several streams on one WebSocket, each read as far as its reader has room.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{
        Request, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use flumen_store::{EventId, StreamId};
use flumen_stream::End;
use flumen_wire::listen::Connection;
use futures_util::{
    SinkExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{FuturesUnordered, SplitSink},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    Kept, Numbered, Wish,
    attach::{Found, Place, find, status},
    deliver::{event_of, with_id},
    envelope,
    reading::Reading,
    streams::stop_now,
    wish::{cursor, owner},
};
use crate::{
    core::Core,
    error::Failure,
    generate::{Answer, Asked, CHAT, COMPLETIONS, begin, forwarded},
    observe::facts_of,
};

const PROTOCOL: &str = "flumen.v1";
/// A second subprotocol may carry the key, since pages cannot give a socket headers: this, and the key in base64url.
const KEY_PROTOCOL: &str = "flumen.key.";

/// A message from a client is at most so long, save for the body of a request.
const ENVELOPE: usize = 64 * 1024;
/// So many streams may be open on one socket.
const MOST_STREAMS: usize = 256;

/// `GET /v1/socket`
pub(crate) async fn socket(
    State(core): State<Arc<Core>>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return Failure::rejected(rejection.status(), "websocket_expected", rejection.body_text())
                .into_response();
        }
    };
    let (mut parts, _) = request.into_parts();
    let offered =
        parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<_> =
        offered.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect();
    if !offered.iter().any(|name| name == PROTOCOL) {
        let message = "the socket needs the subprotocol `flumen.v1`";
        return Failure::rejected(StatusCode::BAD_REQUEST, "subprotocol_expected", message).into_response();
    }
    if let Some(key) = offered.iter().find_map(|name| key_of(name)) {
        parts.headers.insert(header::AUTHORIZATION, key);
    }
    let (stall, body) = {
        let routing = core.routing();
        (routing.config().timeouts.client_stall, routing.config().server.max_body_size)
    };
    let connection = parts.extensions.get::<Arc<Connection>>().cloned();
    let headers = parts.headers;
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(body + ENVELOPE)
        .max_frame_size(body + ENVELOPE)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20)
        .on_upgrade(move |socket| Session::new(core, headers, connection, socket, stall).run())
}

fn key_of(name: &str) -> Option<HeaderValue> {
    use base64::Engine;
    let key =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(name.strip_prefix(KEY_PROTOCOL)?).ok()?;
    let mut value = HeaderValue::try_from([b"Bearer ".as_slice(), &key].concat()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Start {
        r#ref: u32,
        path: String,
        body: Box<RawValue>,
        credit: u64,
        idempotency_key: Option<String>,
        #[serde(default)]
        frames: Form,
    },
    Resume {
        r#ref: u32,
        stream: Option<String>,
        after: Option<u64>,
        last_event_id: Option<String>,
        credit: u64,
        #[serde(default)]
        frames: Form,
    },
    Credit {
        r#ref: u32,
        bytes: u64,
    },
    Stop {
        r#ref: u32,
    },
    Leave {
        r#ref: u32,
    },
}

/// How events travel.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Json,
    Verbatim,
}

/// A stream that is being opened: what it is called, and what becomes of it.
type Opening = BoxFuture<'static, (u32, Result<Opened, Failure>)>;

struct Opened {
    stream: StreamId,
    /// Nothing, where everything was seen.
    reading: Option<Reading>,
    credit: u64,
    form: Form,
}

struct Session {
    core: Arc<Core>,
    headers: HeaderMap,
    owner: String,
    connection: Option<Arc<Connection>>,
    socket: WebSocket,
    stall: Duration,
    opening: FuturesUnordered<Opening>,
    /// Streams by their `ref`; those that are being opened hold their place.
    streams: Readings,
}

/// Why a session ends.
enum Over {
    /// The socket is closed.
    Closed,
    /// The client broke the protocol.
    Broken(String),
    /// The server stops.
    Leaving,
}

impl Session {
    fn new(
        core: Arc<Core>,
        headers: HeaderMap,
        connection: Option<Arc<Connection>>,
        socket: WebSocket,
        stall: Duration,
    ) -> Self {
        let owner = owner(&headers);
        let (opening, streams) = (FuturesUnordered::new(), Readings::default());
        Self { core, headers, owner, connection, socket, stall, opening, streams }
    }

    async fn run(self) {
        let heartbeat = self.core.routing().config().stream.heartbeat;
        let Self { core, headers, owner, connection, socket, stall, mut opening, mut streams } = self;
        let (sender, mut received) = socket.split();
        let mut out = Out { sender, stall };
        let client = Client { core, headers, owner, connection };
        let mut beat = interval(heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        let mut heard = Instant::now();
        let over = loop {
            let done = tokio::select! {
                message = received.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => client.hear(message, &mut opening, &mut streams, &mut out).await,
                        _ => Err(Over::Closed),
                    }
                }
                Some((name, opened)) = opening.next() => client.opened(name, opened, &mut streams, &mut out).await,
                Some((name, next)) = streams.next() => client.pass(name, next, &mut streams, &mut out).await,
                _ = beat.tick() => {
                    if heard.elapsed() > heartbeat * 3 {
                        Err(Over::Closed)
                    } else {
                        out.send(Message::Ping(Bytes::new())).await
                    }
                }
                () = client.core.shutdown().aborted() => Err(Over::Leaving),
            };
            if let Err(over) = done {
                break over;
            }
        };
        let farewell = match over {
            Over::Closed => return,
            Over::Broken(reason) => CloseFrame { code: close_code::PROTOCOL, reason: reason.into() },
            Over::Leaving => CloseFrame { code: close_code::AWAY, reason: "the server stops".into() },
        };
        // Whoever is gone does not hear it.
        let _ = out.send(Message::Close(Some(farewell))).await;
    }
}

/// Whom a session serves.
struct Client {
    core: Arc<Core>,
    headers: HeaderMap,
    owner: String,
    connection: Option<Arc<Connection>>,
}

impl Client {
    async fn hear(
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
        let said = serde_json::from_str(&text)
            .map_err(|error| Over::Broken(format!("no message: {error}").chars().take(100).collect()))?;
        match said {
            Said::Credit { r#ref, bytes } => streams.grant(r#ref, bytes),
            Said::Leave { r#ref } => streams.forget(r#ref),
            Said::Stop { r#ref } => {
                if let Some(id) = streams.stream(r#ref)
                    && let Ok(status) = status(self.core.store(), id, &self.owner).await
                {
                    stop_now(&self.core, &status).await;
                }
            }
            Said::Start { r#ref, path, body, credit, idempotency_key, frames } => {
                streams.reserve(r#ref)?;
                let body = Bytes::from(body.get().to_owned());
                let start = Start { path, body, idempotency_key, credit, form: frames };
                let client = self.clone();
                opening.push(Box::pin(async move { (r#ref, client.start(start).await) }));
            }
            Said::Resume { r#ref, stream, after, last_event_id, credit, frames } => {
                streams.reserve(r#ref)?;
                let place = place(stream.as_deref(), after, last_event_id.as_deref());
                let opened = match place {
                    Ok((stream, place)) => self.resume(stream, place, credit, frames).await,
                    Err(failure) => Err(failure),
                };
                return self.opened(r#ref, opened, streams, out).await;
            }
        }
        Ok(())
    }

    async fn resume(
        &self,
        stream: StreamId,
        place: Place,
        credit: u64,
        form: Form,
    ) -> Result<Opened, Failure> {
        self.core.count_resume();
        let found = find(self.core.store(), stream, place, &self.owner).await?;
        Ok(Opened { stream, reading: self.reading(found), credit, form })
    }

    fn reading(&self, found: Found) -> Option<Reading> {
        match found {
            Found::Reader(reader) => {
                Some(Reading::new(*reader, self.core.shutdown(), self.core.store().is_durable()))
            }
            Found::End => None,
        }
    }

    /// Runs a request as if it had come by POST, resumable.
    async fn start(self, start: Start) -> Result<Opened, Failure> {
        let Start { path, body, idempotency_key, credit, form } = start;
        let endpoint = match &*path {
            "/v1/chat/completions" => CHAT,
            "/v1/completions" => COMPLETIONS,
            _ => {
                let message = "the path must be /v1/chat/completions or /v1/completions";
                return Err(Failure::rejected(StatusCode::NOT_FOUND, "not_found", message));
            }
        };
        let mut request = http::Request::post(&path).body(axum::body::Body::empty()).unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        let record = self.core.record(facts_of(&request, self.connection.as_deref()));
        record.facts().dialect = Some(endpoint.dialect);
        let begun = async {
            let mut wish = Wish::of(&HeaderMap::new())?.resuming(idempotency_key.as_deref())?;
            wish.owner.clone_from(&self.owner);
            let asked = Asked { endpoint, wish: &wish, headers: forwarded(&self.headers), body };
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
                let (reader, _) = begun.answer().await.map_err(|response| {
                    let failure = response.extensions().get::<Failure>().cloned();
                    failure.unwrap_or_else(|| upstream_refused(response.status()))
                })?;
                (reader.id(), self.reading(Found::Reader(Box::new(reader))))
            }
            Answer::Stream(Kept::Same(stream)) => {
                let found = find(self.core.store(), stream, Place::After(0), &self.owner).await?;
                (stream, self.reading(found))
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

    async fn opened(
        &self,
        name: u32,
        opened: Result<Opened, Failure>,
        streams: &mut Readings,
        out: &mut Out,
    ) -> Result<(), Over> {
        match opened {
            // It was left before it was there.
            _ if !streams.has(name) => Ok(()),
            Err(failure) => {
                streams.forget(name);
                let status = failure.status.as_u16();
                let body = failure.body();
                // The error's own body, as a POST would have been answered.
                let error: Box<RawValue> = serde_json::from_slice::<HashMap<String, Box<RawValue>>>(&body)
                    .ok()
                    .and_then(|mut body| body.remove("error"))
                    .unwrap_or_default();
                out.text(format!(
                    r#"{{"type":"error","ref":{name},"status":{status},"error":{}}}"#,
                    error.get()
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
    async fn pass(
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
            headers: self.headers.clone(),
            owner: self.owner.clone(),
            connection: self.connection.clone(),
        }
    }
}

struct Start {
    path: String,
    body: Bytes,
    idempotency_key: Option<String>,
    credit: u64,
    form: Form,
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

fn place(stream: Option<&str>, after: Option<u64>, last: Option<&str>) -> Result<(StreamId, Place), Failure> {
    if let Some(last) = last {
        let event: EventId = cursor(last)?;
        return Ok((event.stream, Place::Event(event)));
    }
    let stream = stream.ok_or_else(|| Failure::bad_request("`stream` or `last_event_id` is needed"))?;
    Ok((super::streams::id_of(stream)?, Place::After(after.unwrap_or(0))))
}

/// The sending half. A client that takes nothing for too long has left.
struct Out {
    sender: SplitSink<WebSocket, Message>,
    stall: Duration,
}

impl Out {
    async fn send(&mut self, message: Message) -> Result<(), Over> {
        match timeout(self.stall, self.sender.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over::Closed),
        }
    }

    async fn text(&mut self, text: String) -> Result<(), Over> {
        self.send(Message::Text(text.into())).await
    }

    async fn event(&mut self, name: u32, event: &flumen_stream::Event, id: EventId) -> Result<(), Over> {
        let mut text = format!(r#"{{"type":"event","ref":{name},"#).into_bytes();
        envelope::put(event, Some(id), &mut text);
        text.push(b'}');
        // Envelopes are UTF-8, unless the model's payload is not.
        self.text(
            String::from_utf8(text)
                .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()),
        )
        .await
    }
}

struct Open {
    stream: StreamId,
    reading: Reading,
    /// Bytes that the client has room for. One event may overdraw it.
    credit: u64,
    form: Form,
}

type Next = (StreamId, Form, Option<Result<Numbered, End>>);

/// The streams of a session. A stream without credit is not read.
#[derive(Default)]
struct Readings {
    open: HashMap<u32, Option<Open>>,
    /// Which one is asked first: none may starve the others.
    turn: usize,
}

impl Readings {
    fn reserve(&mut self, name: u32) -> Result<(), Over> {
        if self.open.len() >= MOST_STREAMS {
            return Err(Over::Broken(format!("more than {MOST_STREAMS} streams")));
        }
        match self.open.insert(name, None) {
            None => Ok(()),
            Some(_) => Err(Over::Broken(format!("the ref {name} is in use"))),
        }
    }

    fn put(&mut self, name: u32, open: Open) {
        self.open.insert(name, Some(open));
    }

    fn has(&self, name: u32) -> bool {
        self.open.contains_key(&name)
    }

    fn forget(&mut self, name: u32) {
        self.open.remove(&name);
    }

    fn stream(&self, name: u32) -> Option<StreamId> {
        self.open.get(&name)?.as_ref().map(|open| open.stream)
    }

    fn grant(&mut self, name: u32, bytes: u64) {
        if let Some(Some(open)) = self.open.get_mut(&name) {
            open.credit = open.credit.saturating_add(bytes);
        }
    }
}

impl Stream for Readings {
    type Item = (u32, Next);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.turn = this.turn.wrapping_add(1);
        let count = this.open.len().max(1);
        let first = this.turn % count;
        let names: Vec<u32> = this.open.keys().copied().collect();
        for name in names.iter().cycle().skip(first).take(names.len()) {
            let Some(Some(open)) = this.open.get_mut(name) else { continue };
            if open.credit == 0 {
                continue;
            }
            if let Poll::Ready(next) = Pin::new(&mut open.reading).poll_next(cx) {
                if let Some(Ok(numbered)) = &next {
                    open.credit = open.credit.saturating_sub(numbered.wire.len() as u64);
                }
                return Poll::Ready(Some((*name, (open.stream, open.form, next))));
            }
        }
        Poll::Pending
    }
}
