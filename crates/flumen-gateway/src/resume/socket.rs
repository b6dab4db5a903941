//! `GET /v1/socket`: several streams on one WebSocket, each read as far as its reader has room.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        Request, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::{IntoResponse, Response},
};
use flumen_store::StreamId;
use flumen_wire::listen::Connection;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use http::{HeaderValue, StatusCode, header, request::Parts};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Owner, reading::Paced};
use crate::{access::Identity, core::Core, error::Failure};

mod client;
mod message;
mod out;
mod readings;

use client::Client;
use message::Form;
use out::Out;
use readings::{Readings, Reserved};

const PROTOCOL: &str = "flumen.v1";
/// A second subprotocol may carry the key, since pages cannot give a socket headers: this, and the key in base64url.
pub(crate) const KEY_PROTOCOL: &str = "flumen.key.";

/// A message from a client is at most so long, save for the body of a request.
const ENVELOPE: usize = 64 * 1024;

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
    let identity = match Identity::of(&parts.extensions) {
        Ok(identity) => identity,
        Err(failure) => return failure.into_response(),
    };
    let parts = Arc::new(parts);
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(body + ENVELOPE)
        .max_frame_size(body + ENVELOPE)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20)
        .on_upgrade(move |socket| Session::new(core, parts, identity, connection, socket, stall).run())
}

fn key_of(name: &str) -> Option<HeaderValue> {
    use base64::Engine;
    let key =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(name.strip_prefix(KEY_PROTOCOL)?).ok()?;
    let mut value = HeaderValue::try_from([b"Bearer ".as_slice(), &key].concat()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A stream that is being opened: what it is called, and what becomes of it.
type Opening = BoxFuture<'static, (u32, Reserved, Result<Opened, Failure>)>;

struct Opened {
    stream: StreamId,
    /// Nothing, where everything was seen.
    reading: Option<Paced>,
    credit: u64,
    form: Form,
}

struct Session {
    core: Arc<Core>,
    parts: Arc<Parts>,
    identity: Arc<Identity>,
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
    /// The key was taken away.
    Revoked,
}

impl Session {
    fn new(
        core: Arc<Core>,
        parts: Arc<Parts>,
        identity: Arc<Identity>,
        connection: Option<Arc<Connection>>,
        socket: WebSocket,
        stall: Duration,
    ) -> Self {
        let Owner(owner) = Owner::of(&identity, &parts.headers);
        let (opening, streams) = (FuturesUnordered::new(), Readings::default());
        Self { core, parts, identity, owner, connection, socket, stall, opening, streams }
    }

    async fn run(self) {
        let heartbeat = self.core.routing().config().stream.heartbeat;
        let Self { core, parts, identity, owner, connection, socket, stall, mut opening, mut streams } = self;
        let (sender, mut received) = socket.split();
        let mut out = Out { sender, stall };
        let revoked = identity.revoked();
        let client = Client { core, parts, identity, owner, connection };
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
                Some((name, reserved, opened)) = opening.next() => {
                    client.opened(name, &reserved, opened, &mut streams, &mut out).await
                }
                Some((name, next)) = streams.next() => client.pass(name, next, &mut streams, &mut out).await,
                _ = beat.tick() => {
                    if heard.elapsed() > heartbeat * 2 {
                        Err(Over::Closed)
                    } else {
                        out.beat().await
                    }
                }
                () = revoked.cancelled() => Err(Over::Revoked),
                () = client.core.shutdown().aborted() => Err(Over::Leaving),
            };
            if let Err(over) = done {
                break over;
            }
        };
        let farewell = match over {
            Over::Closed => return,
            Over::Broken(reason) => CloseFrame { code: close_code::PROTOCOL, reason: reason.into() },
            Over::Revoked => CloseFrame {
                code: close_code::POLICY,
                reason: "the key was taken away or has expired".into(),
            },
            Over::Leaving => CloseFrame { code: close_code::AWAY, reason: "the server stops".into() },
        };
        // Whoever is gone does not hear it.
        let _ = out.send(Message::Close(Some(farewell))).await;
    }
}
