//! A WebSocket of the subprotocol `flumen.v1`, with one stream on it.

use std::{
    collections::VecDeque,
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use flumen_stream::{Event, codec::sse::Decoder};
use flumen_wire::client::Timings;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request, header};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message,
        error::ProtocolError,
        handshake::client::generate_key,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    Class, Fault, Item, Link, Opened, Plan,
    answer::refused,
    dial::{Io, dial},
    envelope::models_bytes,
    poll::not_this_way,
    socket_frame::{REF, Say, Told, first, read},
};
use crate::{Error, ErrorKind};

/// What the server may send that was not taken.
const WINDOW: usize = 64 * 1024;
/// Credit is given when this much was taken, so that not every event costs a frame.
const TOP_UP: usize = WINDOW / 2;
/// What a message may hold besides the event.
const FRAME: usize = 1024;
const PROTOCOL: &str = "flumen.v1";
/// The longest time the server may take to agree to a WebSocket.
const UPGRADE: Duration = Duration::from_secs(10);

pub(crate) struct SocketLink {
    socket: WebSocketStream<Box<dyn Io>>,
    decoder: Decoder,
    max_event: usize,
    ready: VecDeque<(Event, Option<u64>)>,
    /// Taken, and not yet given back as credit.
    owed: usize,
    unflushed: bool,
    timings: Timings,
}

pub(super) async fn open(plan: Plan) -> Result<Opened, Fault> {
    if plan.position.stream.is_none() && plan.ask.method != Method::POST {
        let message = "a WebSocket begins with a POST or reads a stream that is known";
        return Err(not_this_way(&plan, message));
    }
    let hello = first(&plan, WINDOW)?;
    let mut timings = Timings::new();
    let io = dial(&plan.shared, &mut timings).await?;
    let max_event = plan.ask.settings.max_event;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(hello.len() + 16 * 1024)
        .max_message_size(Some(6 * max_event + FRAME))
        .max_frame_size(Some(6 * max_event + FRAME));
    let upgrade = client_async_with_config(upgrade(&plan)?, io, Some(config));
    let (mut socket, response) = match timeout(UPGRADE, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => return Err(no_socket(&plan, error)),
        Err(_) => {
            let error = Error::new(ErrorKind::Connect, "the server takes too long to open a WebSocket");
            return Err(Fault::new(Class::Unsent, error));
        }
    };
    drop(response);
    timings.header = Some(timings.started.elapsed());
    timings.body_bytes_out = hello.len() as u64;
    socket.send(Message::text(hello)).await.map_err(broke)?;
    Ok(Opened::Link(Link::Socket(Box::new(SocketLink {
        socket,
        decoder: Decoder::new(max_event),
        max_event,
        ready: VecDeque::new(),
        owed: 0,
        unflushed: false,
        timings,
    }))))
}

fn upgrade(plan: &Plan) -> Result<Request<()>, Fault> {
    let origin = &plan.shared.origin;
    let scheme = if origin.tls.is_some() { "wss" } else { "ws" };
    let mut request = Request::builder()
        .uri(format!("{scheme}://{}{}/socket", origin.authority, plan.api_root()))
        .body(())
        .map_err(|error| Fault::new(Class::Final, Error::new(ErrorKind::Configuration, error.to_string())))?;
    let headers = request.headers_mut();
    for (name, value) in &plan.ask.settings.headers {
        if name != header::CONTENT_TYPE {
            headers.insert(name.clone(), value.clone());
        }
    }
    let ours = [
        (header::HOST, origin.authority.clone()),
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_VERSION, "13".to_owned()),
        (header::SEC_WEBSOCKET_KEY, generate_key()),
        (header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL.to_owned()),
    ];
    for (name, value) in ours {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Ok(request)
}

/// Why there is no WebSocket. A server that has none may have another transport.
fn no_socket(plan: &Plan, error: WsError) -> Fault {
    let mut fault = match error {
        WsError::Http(answer) => {
            let (head, body) = answer.into_parts();
            let fault = refused(head.status, &head.headers, &body.unwrap_or_default());
            // Who is not let in here is not let in elsewhere.
            if matches!(head.status.as_u16(), 401 | 403) {
                return fault;
            }
            fault
        }
        WsError::Io(_) | WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            Fault { class: Class::Unsent, ..broke(error) }
        }
        error => Fault::new(
            Class::Final,
            Error::new(ErrorKind::Protocol, format!("no WebSocket: {error}")).with(error),
        ),
    };
    if plan.others {
        fault.class = Class::Unsent;
    }
    fault
}

fn broke(error: WsError) -> Fault {
    let error = Error::new(ErrorKind::Broken, "the connection to the server broke").with(error);
    Fault::new(Class::Broke, error)
}

fn closed(frame: Option<&CloseFrame>) -> Fault {
    match frame {
        Some(frame) if frame.code == CloseCode::Protocol => {
            Fault::protocol(format!("the server closed the WebSocket: {}", frame.reason))
        }
        Some(frame) if !frame.reason.is_empty() => {
            Fault::broke(format!("the server closed the WebSocket: {}", frame.reason))
        }
        _ => Fault::broke("the server closed the WebSocket"),
    }
}

impl SocketLink {
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some((event, seq)) = self.ready.pop_front() {
            // What is handed on here is taken.
            self.owed += models_bytes(&event);
            self.poll_credit(cx);
            return Poll::Ready(Item::Event(event, seq));
        }
        self.poll_credit(cx);
        let message = match ready!(self.socket.poll_next_unpin(cx)) {
            Some(Ok(message)) => message,
            Some(Err(WsError::Capacity(_))) => {
                return Poll::Ready(Item::Fault(Fault::too_long(self.max_event)));
            }
            Some(Err(error)) => return Poll::Ready(Item::Fault(broke(error))),
            None => return Poll::Ready(Item::Fault(closed(None))),
        };
        self.count(message.len());
        Poll::Ready(match message {
            Message::Text(text) => self.told(&text),
            Message::Binary(bytes) => self.verbatim(bytes),
            Message::Close(frame) => Item::Fault(closed(frame.as_ref())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Item::Life,
        })
    }

    fn told(&mut self, text: &str) -> Item {
        match read(text) {
            Ok(Told::Open(stream)) => Item::Stream(stream.into()),
            Ok(Told::Event(event, _)) if event.wire().len() > self.max_event + FRAME => {
                Item::Fault(Fault::too_long(self.max_event))
            }
            Ok(Told::Event(event, seq)) => {
                self.ready.push_back((event, seq));
                Item::Life
            }
            Ok(Told::Done) => Item::Finished,
            Ok(Told::Elsewhere) => Item::BodyEnd,
            Ok(Told::Nothing) => Item::Life,
            Err(fault) => Item::Fault(fault),
        }
    }

    /// The number of the stream, and an event as it stands in an event stream.
    fn verbatim(&mut self, mut bytes: Bytes) -> Item {
        if bytes.len() < 4 {
            return Item::Fault(Fault::protocol("a binary frame is too short"));
        }
        if *bytes.split_to(4) != REF.to_be_bytes() {
            return Item::Life;
        }
        self.decoder.push(bytes);
        while let Some(event) = self.decoder.next() {
            match event {
                Ok(event) => self.ready.push_back((event, None)),
                Err(error) => return Item::Fault(Fault::too_long(error.limit)),
            }
        }
        if let Some(event) = self.decoder.finish() {
            self.ready.push_back((event, None));
        } else if self.decoder.pending() > 0 {
            return Item::Fault(Fault::protocol("a frame holds less than a whole event"));
        }
        Item::Life
    }

    /// Gives back as credit what was taken. Whether writing works shows when reading.
    fn poll_credit(&mut self, cx: &mut Context<'_>) {
        if self.owed >= TOP_UP && matches!(self.socket.poll_ready_unpin(cx), Poll::Ready(Ok(()))) {
            let credit = Say::Credit { r#ref: REF, bytes: self.owed }.text();
            self.unflushed |= self.socket.start_send_unpin(Message::text(credit)).is_ok();
            self.owed = 0;
        }
        if self.unflushed {
            self.unflushed = self.socket.poll_flush_unpin(cx).is_pending();
        }
    }

    fn count(&mut self, bytes: usize) {
        let elapsed = Instant::now() - self.timings.started;
        let first = *self.timings.first_byte.get_or_insert(elapsed);
        self.timings.transfer = Some(elapsed.saturating_sub(first));
        self.timings.body_bytes_in += bytes as u64;
    }

    pub(super) fn timings(&self) -> &Timings {
        &self.timings
    }
}

impl fmt::Debug for SocketLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketLink")
            .field("owed", &self.owed)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}
