//! A gateway of two hundred lines: one stream of known events, all transports, and connections that break on demand.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{
        Path, Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) const STREAM: &str = "5f0c9a";

pub(crate) struct Inner {
    pub(crate) payloads: Vec<String>,
    /// After how many events each connection breaks; the last one does not.
    pub(crate) cuts: VecDeque<usize>,
    /// Keys under which the request was run.
    pub(crate) runs: HashSet<String>,
    /// What each connection was, and after which event it went on.
    pub(crate) seen: Vec<(&'static str, u64)>,
    /// Credit that came on sockets after the first, in order.
    pub(crate) credits: Vec<u64>,
    /// Bytes of the model's events that were sent on sockets.
    pub(crate) sent: u64,
}

pub(crate) type Shared = Arc<Mutex<Inner>>;

pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) state: Shared,
}

#[derive(Deserialize)]
struct Asked {
    after: Option<u64>,
    starting_after: Option<u64>,
}

impl Gateway {
    pub(crate) async fn start(payloads: Vec<String>, cuts: impl IntoIterator<Item = usize>) -> Self {
        let state = Arc::new(Mutex::new(Inner {
            payloads,
            cuts: cuts.into_iter().collect(),
            runs: HashSet::new(),
            seen: Vec::new(),
            credits: Vec::new(),
            sent: 0,
        }));
        let router = Router::new()
            .route("/v1/chat/completions", post(begin))
            .route("/v1/streams/{id}", get(resume))
            .route("/v1/streams/{id}/poll", get(poll))
            .route("/v1/socket", get(socket))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }
}

fn id(seq: u64) -> String {
    format!("{STREAM}.1-{seq}")
}

fn after(headers: &HeaderMap) -> u64 {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
    last.map_or(0, |last| last.strip_prefix(&id(0)[..id(0).len() - 1]).unwrap().parse().unwrap())
}

/// The events after `after` up to the next cut, and whether that is all.
fn take(state: &Shared, kind: &'static str, after: u64) -> (Vec<(u64, String)>, bool) {
    let mut inner = state.lock().unwrap();
    inner.seen.push((kind, after));
    let cut = inner.cuts.pop_front();
    let rest = inner.payloads.iter().cloned().zip(1..).map(|(payload, seq)| (seq, payload));
    let rest: Vec<_> = rest.skip(usize::try_from(after).unwrap()).take(cut.unwrap_or(usize::MAX)).collect();
    (rest, cut.is_none())
}

fn data(payload: &str) -> Value {
    serde_json::from_str(payload).unwrap_or_else(|_| payload.into())
}

fn envelope(seq: u64, payload: &str) -> Value {
    json!({"id": id(seq), "seq": seq, "data": data(payload)})
}

fn event(payload: &str) -> String {
    format!("data: {payload}\n")
}

fn answer(state: &Shared, headers: &HeaderMap, after: u64) -> Response {
    let ndjson = headers.get("accept").is_some_and(|accept| accept == "application/x-ndjson");
    let (kind, name) = if ndjson { ("application/x-ndjson", "ndjson") } else { ("text/event-stream", "sse") };
    let (events, whole) = take(state, name, after);
    if events.is_empty() && whole {
        return StatusCode::NO_CONTENT.into_response();
    }
    let write = move |(seq, payload): (u64, String)| {
        if ndjson {
            format!("{}\n", envelope(seq, &payload))
        } else {
            format!("{}id: {}\n\n", event(&payload), id(seq))
        }
    };
    let pieces: Vec<_> = events.into_iter().map(write).map(Ok).collect();
    let end = if whole { None } else { Some(Err(std::io::Error::other("cut"))) };
    // Each piece is on its way before the next is made.
    let pieces = stream::unfold(pieces.into_iter().chain(end), |mut pieces| async move {
        tokio::task::yield_now().await;
        pieces.next().map(|piece| (piece.map(Bytes::from), pieces))
    });
    let headers = [(header::CONTENT_TYPE.as_str(), kind), ("flumen-stream-id", STREAM)];
    (headers, Body::from_stream(pieces)).into_response()
}

async fn begin(State(state): State<Shared>, headers: HeaderMap, _body: Bytes) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    state.lock().unwrap().runs.insert(key);
    if headers.get("prefer").is_some_and(|prefer| prefer == "respond-async") {
        state.lock().unwrap().seen.push(("async", 0));
        let location = format!("/v1/streams/{STREAM}");
        let body = json!({"id": STREAM, "object": "stream", "state": "open"}).to_string();
        return (StatusCode::ACCEPTED, [("location", location)], body).into_response();
    }
    let after = after(&headers);
    answer(&state, &headers, after)
}

async fn resume(
    State(state): State<Shared>,
    Path(stream): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    assert_eq!(stream, STREAM);
    let after = asked.starting_after.unwrap_or_else(|| after(&headers));
    answer(&state, &headers, after)
}

/// A few events at a time.
async fn poll(State(state): State<Shared>, Query(asked): Query<Asked>) -> Response {
    let after = asked.after.unwrap();
    let (mut events, whole) = take(&state, "poll", after);
    if events.is_empty() && whole {
        return StatusCode::NO_CONTENT.into_response();
    }
    events.truncate(3);
    let last = events.last().map_or(after, |(seq, _)| *seq);
    let events: Vec<_> = events.iter().map(|(seq, payload)| envelope(*seq, payload)).collect();
    axum::Json(json!({"stream": STREAM, "state": "open", "events": events, "last": last})).into_response()
}

async fn socket(State(state): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["flumen.v1"]).on_upgrade(|socket| async move {
        // Whatever goes wrong with it, the connection is over.
        let _ = serve(state, socket).await;
    })
}

async fn serve(state: Shared, mut socket: WebSocket) -> Result<(), axum::Error> {
    let Some(first) = heard(&mut socket).await else { return Ok(()) };
    let after = match first["type"].as_str().unwrap() {
        "start" => {
            assert_eq!(first["path"], "/v1/chat/completions");
            assert!(first["body"].is_object());
            let key = first["idempotency_key"].as_str().unwrap().to_owned();
            state.lock().unwrap().runs.insert(key);
            0
        }
        "resume" => {
            assert_eq!(first["stream"], STREAM);
            first["after"].as_u64().unwrap()
        }
        other => panic!("a socket does not begin with {other}"),
    };
    let verbatim = first["frames"] == "verbatim";
    let mut credit = i64::try_from(first["credit"].as_u64().unwrap()).unwrap();
    let (events, whole) = take(&state, "socket", after);
    let open = json!({"type": "open", "ref": 1, "stream": STREAM}).to_string();
    socket.send(Message::text(open)).await?;
    for (seq, payload) in events {
        while credit <= 0 {
            let Some(more) = heard(&mut socket).await else { return Ok(()) };
            assert_eq!((&more["type"], &more["ref"]), (&json!("credit"), &json!(1)));
            let bytes = more["bytes"].as_u64().unwrap();
            state.lock().unwrap().credits.push(bytes);
            credit += i64::try_from(bytes).unwrap();
        }
        let event = event(&payload);
        let bytes = event.len() + 1;
        credit -= i64::try_from(bytes).unwrap();
        state.lock().unwrap().sent += bytes as u64;
        let message = if verbatim {
            Message::binary(
                [&[0, 0, 0, 1][..], event.as_bytes(), b"id: ", id(seq).as_bytes(), b"\n\n"].concat(),
            )
        } else {
            let mut frame = envelope(seq, &payload);
            frame["type"] = "event".into();
            frame["ref"] = 1.into();
            Message::text(frame.to_string())
        };
        socket.send(message).await?;
    }
    if whole {
        let end = json!({"type": "end", "ref": 1, "state": "done"}).to_string();
        socket.send(Message::text(end)).await?;
        while heard(&mut socket).await.is_some() {}
    }
    Ok(())
}

async fn heard(socket: &mut WebSocket) -> Option<Value> {
    loop {
        if let Message::Text(text) = socket.recv().await?.ok()? {
            return Some(serde_json::from_str(&text).unwrap());
        }
    }
}
