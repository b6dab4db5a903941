//! Reading a stream over each transport, up to its end or up to a cut.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::support::soon;

/// What every transport tells of an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) data: String,
}

impl Event {
    fn new(id: &str, data: String) -> Self {
        let seq = id.rsplit('-').next().unwrap().parse().unwrap();
        Self { id: id.to_owned(), seq, data }
    }

    fn of_envelope(envelope: &Value) -> Self {
        let data = match &envelope["data"] {
            Value::String(text) => text.clone(),
            // Envelopes carry JSON as it is; parsing it has lost that, and brings it into the form of `data`.
            json => json.to_string(),
        };
        let event = Self::new(envelope["id"].as_str().unwrap(), data);
        assert_eq!(envelope["seq"], event.seq);
        event
    }

    /// The event's text, as the transport for text has it.
    pub(crate) fn text(&self) -> Option<String> {
        let json: Value = serde_json::from_str(&self.data).ok()?;
        json["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    }
}

/// Where to go on.
pub(crate) enum Place {
    Begin,
    After(u64, String),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    Sse,
    Ndjson,
    Poll,
    Socket,
}

pub(crate) const TRANSPORTS: [Transport; 4] =
    [Transport::Sse, Transport::Ndjson, Transport::Poll, Transport::Socket];

impl Transport {
    /// Reads after a place, to the end or up to about so many bytes; then the connection is cut.
    pub(crate) async fn read(
        self,
        address: SocketAddr,
        stream: &str,
        place: &Place,
        cut: Option<usize>,
    ) -> Vec<Event> {
        let last = match place {
            Place::Begin => String::new(),
            Place::After(_, id) => format!("last-event-id: {id}\r\n"),
        };
        match self {
            Self::Sse => {
                let body = get(address, &format!("/v1/streams/{stream}"), &last, cut).await;
                let (events, rest) = events_of(&body);
                assert!(cut.is_some() || rest.is_empty(), "nothing is left over at the end");
                events
            }
            Self::Ndjson => {
                let body = get(address, &format!("/v1/streams/{stream}?transport=ndjson"), &last, cut).await;
                let lines = body.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
                lines.map(|line| Event::of_envelope(&serde_json::from_slice(line).unwrap())).collect()
            }
            Self::Poll => polls(address, stream, place, cut).await,
            Self::Socket => socket(address, stream, place, cut).await,
        }
    }
}

/// The text alone, without its first bytes.
pub(crate) async fn text(address: SocketAddr, stream: &str, skip: usize, cut: Option<usize>) -> Vec<u8> {
    get(address, &format!("/v1/streams/{stream}?transport=text&skip={skip}"), "", cut).await
}

/// The whole events in a body, and what is left after them.
pub(crate) fn events_of(body: &[u8]) -> (Vec<Event>, &[u8]) {
    let (mut events, mut rest) = (Vec::new(), body);
    while let Some(end) = rest.windows(2).position(|part| part == b"\n\n") {
        let wire = std::str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 2..];
        let field = |name: &str| wire.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        // In the form that an envelope has when it was parsed and written again.
        let data = field("data: ");
        let data = serde_json::from_str::<Value>(data).map_or(data.to_owned(), |json| json.to_string());
        events.push(Event::new(field("id: "), data));
    }
    (events, rest)
}

async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let stream = soon(socket.connect(address)).await.unwrap();
    // Cuts are hard, and leave no port behind.
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    stream
}

/// The body of a response, chunks joined, up to its end or up to so many bytes. Nothing, where there is nothing more.
async fn get(address: SocketAddr, path: &str, headers: &str, cut: Option<usize>) -> Vec<u8> {
    let mut socket = connect(address).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let head = loop {
        if let Some(at) = received.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(
            soon(socket.read_buf(&mut received)).await.unwrap() > 0,
            "{path}: {}",
            String::from_utf8_lossy(&received)
        );
    };
    let status = std::str::from_utf8(&received[9..12]).unwrap();
    match status {
        "204" => return Vec::new(),
        "200" => {}
        _ => panic!("{path}: {}", String::from_utf8_lossy(&received)),
    }
    received.drain(..head);
    let mut body = Vec::new();
    loop {
        let ended = unchunk(&mut received, &mut body);
        if cut.is_some_and(|cut| body.len() >= cut) {
            body.truncate(cut.unwrap());
            return body;
        }
        if ended {
            return body;
        }
        assert!(soon(socket.read_buf(&mut received)).await.unwrap() > 0, "{path} broke off");
    }
}

/// Moves whole chunks to the body; whether the last one came.
fn unchunk(received: &mut Vec<u8>, body: &mut Vec<u8>) -> bool {
    let mut at = 0;
    let ended = loop {
        let Some(line) = received[at..].windows(2).position(|part| part == b"\r\n") else { break false };
        let size = usize::from_str_radix(std::str::from_utf8(&received[at..at + line]).unwrap(), 16).unwrap();
        let begin = at + line + 2;
        if received.len() < begin + size + 2 {
            break false;
        }
        body.extend_from_slice(&received[begin..begin + size]);
        at = begin + size + 2;
        if size == 0 {
            break true;
        }
    };
    received.drain(..at);
    ended
}

async fn polls(address: SocketAddr, stream: &str, place: &Place, cut: Option<usize>) -> Vec<Event> {
    let mut after = match place {
        Place::Begin => 0,
        Place::After(seq, _) => *seq,
    };
    let mut events = Vec::new();
    loop {
        let path = format!("/v1/streams/{stream}/poll?after={after}&wait=10s");
        let mut client = crate::support::Client::connect(address).await;
        socket2::SockRef::from(&client.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        client.request("GET", &path, &[], "").await;
        let answer = client.answer().await;
        if answer.status == 204 {
            return events;
        }
        let page = answer.json();
        events.extend(page["events"].as_array().unwrap().iter().map(Event::of_envelope));
        after = page["last"].as_u64().unwrap();
        if cut.is_some_and(|cut| answer.body.len() >= cut) || cut.is_some() && events.len() > 20 {
            return events;
        }
    }
}

async fn socket(address: SocketAddr, stream: &str, place: &Place, cut: Option<usize>) -> Vec<Event> {
    let mut request = format!("ws://{address}/v1/socket").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("flumen.v1"));
    let (mut socket, _) = soon(client_async(request, connect(address).await)).await.unwrap();
    let message = match place {
        Place::Begin => json!({"type": "resume", "ref": 1, "stream": stream, "credit": 1500}),
        Place::After(_, id) => json!({"type": "resume", "ref": 1, "last_event_id": id, "credit": 1500}),
    };
    socket.send(Message::text(message.to_string())).await.unwrap();
    let (mut events, mut bytes) = (Vec::new(), 0);
    loop {
        let Message::Text(text) = soon(socket.next()).await.unwrap().unwrap() else { continue };
        let heard: Value = serde_json::from_str(&text).unwrap();
        match heard["type"].as_str().unwrap() {
            "open" => {}
            "event" => {
                events.push(Event::of_envelope(&heard));
                let credit = json!({"type": "credit", "ref": 1, "bytes": 400});
                bytes += text.len();
                if cut.is_some_and(|cut| bytes >= cut) {
                    return events;
                }
                socket.send(Message::text(credit.to_string())).await.unwrap();
            }
            "end" => return events,
            other => panic!("{other}: {text}"),
        }
    }
}
