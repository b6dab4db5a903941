//! Streams over a WebSocket: several on one, paced by credit, begun and resumed by message.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::support::{Client, Gateway, Upstream, chat, config, event, soon};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(
        gateway: &Gateway,
        protocols: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{}/v1/socket", gateway.address).into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::try_from(protocols).unwrap());
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::try_from(*value).unwrap());
        }
        soon(connect_async(request)).await.map(|(socket, _)| Self(socket))
    }

    async fn to(gateway: &Gateway) -> Self {
        Self::open(gateway, "flumen.v1", &[]).await.unwrap()
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn start(&mut self, name: u32, credit: u64) {
        self.say(json!({"type": "start", "ref": name, "path": "/v1/chat/completions", "body": chat("m"), "credit": credit})).await;
    }

    async fn hear(&mut self) -> Value {
        loop {
            match soon(self.0.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

const DIGEST: &str = "blake3:de792c14929b01dfdf73cc465627859e805ba593a04b0c841c2f4e80ee3c7c1f";
const THREE: &[&str] = &["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\n", "data: [DONE]\n\n"];

#[tokio::test]
async fn a_stream_is_begun_read_and_resumed_by_message() {
    let upstream = Upstream::events(THREE).await;
    let gateway = Gateway::before(upstream.address, "").await;
    let mut socket = Socket::to(&gateway).await;
    socket.start(7, 1 << 20).await;
    let open = socket.hear().await;
    assert_eq!((&open["type"], &open["ref"]), (&json!("open"), &json!(7)));
    let stream = open["stream"].as_str().unwrap().to_owned();
    let mut events = Vec::new();
    for n in 1..=3 {
        let event = socket.hear().await;
        assert_eq!((&event["type"], &event["ref"], &event["seq"]), (&json!("event"), &json!(7), &json!(n)));
        events.push(event);
    }
    assert_eq!((&events[0]["data"], &events[2]["data"]), (&json!({"n": 1}), &json!("[DONE]")));
    assert_eq!(socket.hear().await, json!({"type": "end", "ref": 7, "state": "done"}));
    for after in 0..=3_usize {
        let message = match after.checked_sub(1) {
            None => json!({"type": "resume", "ref": 7, "stream": stream, "credit": 100_000}),
            Some(at) => {
                json!({"type": "resume", "ref": 7, "last_event_id": events[at]["id"], "credit": 100_000})
            }
        };
        socket.say(message).await;
        assert_eq!(socket.hear().await, open);
        for event in &events[after..] {
            assert_eq!(&socket.hear().await, event);
        }
        assert_eq!(socket.hear().await["type"], "end");
    }
    let text = Client::get(gateway.address, &format!("/v1/streams/{stream}?starting_after=1")).await.text();
    socket.say(json!({"type": "resume", "ref": 258, "stream": stream, "after": 1, "credit": 1000, "frames": "verbatim"})).await;
    socket.hear().await;
    let mut verbatim = Vec::new();
    for _ in 0..2 {
        let frame = soon(socket.0.next()).await.unwrap().unwrap().into_data();
        assert_eq!(frame[..4], [0, 0, 1, 2]);
        verbatim.extend_from_slice(&frame[4..]);
    }
    assert_eq!(String::from_utf8(verbatim).unwrap(), text);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_stream_is_read_only_as_far_as_there_is_credit_and_others_go_on() {
    let gateway = Gateway::start("[stream]\nbuffer = \"16KiB\"\n").await;
    let mut socket = Socket::to(&gateway).await;
    let body = json!({"model": "sim:tps=0,ttft=0,tokens=endless", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    socket
        .say(json!({"type": "start", "ref": 1, "path": "/v1/chat/completions", "body": body, "credit": 2000}))
        .await;
    let stream = socket.hear().await["stream"].as_str().unwrap().to_owned();
    let mut bytes = 0;
    while bytes < 2000 {
        bytes += socket.hear().await["data"].to_string().len() + 8;
    }
    // Another stream on the same socket is not held up, and nothing more comes of the first.
    let body = json!({"model": "sim:tps=0,ttft=0,tokens=3", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    socket.say(json!({"type": "start", "ref": 2, "path": "/v1/chat/completions", "body": body, "credit": 100_000})).await;
    loop {
        let heard = socket.hear().await;
        assert_eq!(heard["ref"], 2, "{heard}");
        if heard["type"] == "end" {
            break;
        }
    }
    let state =
        async || Client::get(gateway.address, &format!("/v1/streams/{stream}?transport=json")).await.json();
    let mut last = Value::Null;
    // The model is paused: what it has made stands still.
    loop {
        let now = state().await["bytes"].clone();
        if now == last {
            break;
        }
        last = now;
    }
    assert!(last.as_u64().unwrap() < 64 * 1024, "{last} bytes are bounded by the buffer");
    socket.say(json!({"type": "credit", "ref": 1, "bytes": 500})).await;
    assert_eq!(socket.hear().await["ref"], 1);
    socket.say(json!({"type": "stop", "ref": 1})).await;
    socket.say(json!({"type": "credit", "ref": 1, "bytes": 10_000_000})).await;
    loop {
        let heard = socket.hear().await;
        if heard["type"] == "end" {
            assert_eq!(heard, json!({"type": "end", "ref": 1, "state": "cancelled"}));
            break;
        }
    }
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_socket_goes_on() {
    let upstream = Upstream::start(|mut conn| async move {
        if conn.json()["model"] == "busy" {
            conn.json_answer("429 Too Many Requests", "", "{\"error\":{}}").await;
        } else {
            conn.stream_head().await;
            conn.chunk(event("x").as_bytes()).await;
            conn.chunk(b"data: [DONE]\n\n").await;
            conn.finish().await;
        }
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let mut socket = Socket::to(&gateway).await;
    let start = |path: &str, body: Value| json!({"type": "start", "ref": 1, "path": path, "body": body, "credit": 1000});
    let nobody = format!("{:032x}", 9);
    for (message, status, code) in [
        (start("/v1/nothing", json!({})), 404, "not_found"),
        (start("/v1/chat/completions", json!({})), 400, "bad_request"),
        (start("/v1/chat/completions", json!({"model": "m"})), 400, "bad_request"),
        (start("/v1/chat/completions", chat("busy")), 429, "upstream_refused"),
        (json!({"type": "resume", "ref": 1, "stream": nobody, "credit": 1}), 404, "stream_not_found"),
        (json!({"type": "resume", "ref": 1, "last_event_id": "7", "credit": 1}), 400, "bad_cursor"),
        (json!({"type": "resume", "ref": 1, "credit": 1}), 400, "bad_request"),
    ] {
        socket.say(message.clone()).await;
        let heard = socket.hear().await;
        assert_eq!(
            (&heard["type"], &heard["status"]),
            (&json!("error"), &json!(status)),
            "{message} {heard}"
        );
        assert_eq!(heard["error"]["code"], code, "{heard}");
    }
    socket.start(1, 1000).await;
    assert_eq!(socket.hear().await["type"], "open");
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_why_and_closed() {
    let upstream = Upstream::silent().await;
    let gateway = Gateway::before(upstream.address, "").await;
    for (message, why) in [
        (Message::text("hello"), "no message"),
        (Message::text("{\"type\":\"dance\"}"), "dance"),
        (Message::binary(vec![1, 2]), "JSON"),
    ] {
        let mut socket = Socket::to(&gateway).await;
        socket.0.send(message).await.unwrap();
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 1002);
        assert!(reason.contains(why), "{reason}");
    }
    let mut socket = Socket::to(&gateway).await;
    socket.start(1, 1).await;
    socket.start(1, 1).await;
    assert!(socket.closed().await.1.contains("in use"));
    assert!(
        matches!(Socket::open(&gateway, "", &[]).await, Err(Error::Http(response)) if response.status() == 400)
    );
    assert!(
        matches!(Socket::open(&gateway, "flumen.v1", &[("origin", "https://evil.example.com")]).await, Err(Error::Http(response)) if response.status() == 403)
    );
    assert_eq!(Client::get(gateway.address, "/v1/socket").await.code(), "websocket_expected");
}

#[tokio::test]
async fn a_socket_has_the_streams_of_its_key_only() {
    let upstream = Upstream::events(THREE).await;
    let gateway = Gateway::before(upstream.address, "").await;
    let mut socket = Socket::open(&gateway, "flumen.v1", &[("authorization", "Bearer a")]).await.unwrap();
    socket.start(1, 1000).await;
    let stream = socket.hear().await["stream"].as_str().unwrap().to_owned();
    let resume = json!({"type": "resume", "ref": 1, "stream": stream, "credit": 1000});
    let mut other = Socket::to(&gateway).await;
    other.say(resume.clone()).await;
    assert_eq!(other.hear().await["error"]["code"], "stream_not_found");
    // A page cannot set headers: the key comes as a subprotocol. `YQ` is `a` in base64url.
    let mut page = Socket::open(&gateway, "flumen.v1, flumen.key.YQ", &[]).await.unwrap();
    page.say(resume).await;
    assert_eq!(page.hear().await["type"], "open");
}

#[tokio::test]
async fn a_socket_needs_a_key_where_keys_are_and_is_closed_when_it_is_taken_away() {
    let upstream = Upstream::events(THREE).await;
    let keys = |model: &str| {
        // The digest of `flumen-socket-key`.
        format!(
            "[auth]\nkeys_file = \"keys.toml\"\n[keys.a]\nhash = \"{DIGEST}\"\ntenant = \"t\"\nmodels = \"{model}\"\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.toml"), "").unwrap();
    let mut gateway = Gateway::start_in(folder, &config(upstream.address, &keys("*"))).await;
    for (protocols, status) in [("flumen.v1", 401), ("flumen.v1, flumen.key.YQ", 401)] {
        assert!(
            matches!(Socket::open(&gateway, protocols, &[]).await, Err(Error::Http(response)) if response.status() == status)
        );
    }
    // `flumen-socket-key` in base64url.
    let mut page =
        Socket::open(&gateway, "flumen.v1, flumen.key.Zmx1bWVuLXNvY2tldC1rZXk", &[]).await.unwrap();
    page.start(1, 1000).await;
    assert_eq!(page.hear().await["type"], "open");
    std::fs::write(gateway.file(), config(upstream.address, &keys("other"))).unwrap();
    gateway.message("the new configuration is in force").await;
    let (code, reason) = page.closed().await;
    assert_eq!((code, reason.contains("taken away")), (1008, true), "{reason}");
    let mut page =
        Socket::open(&gateway, "flumen.v1, flumen.key.Zmx1bWVuLXNvY2tldC1rZXk", &[]).await.unwrap();
    page.start(1, 1000).await;
    assert_eq!(page.hear().await["error"]["code"], "model_not_allowed");
}

#[tokio::test]
async fn leaving_the_socket_leaves_the_generation_for_its_grace() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("x").as_bytes()).await;
        conn.closed().await;
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "[resume]\ngrace = \"200ms\"\n").await;
    let mut socket = Socket::to(&gateway).await;
    socket.start(1, 1000).await;
    socket.hear().await;
    socket.hear().await;
    drop(socket);
    let mut line = gateway.access().await;
    while line["path"] != "/v1/chat/completions" {
        line = gateway.access().await;
    }
    assert_eq!((&line["cause"], &line["status"]), (&json!("client_gone"), &json!(200)));
}

#[tokio::test]
async fn what_waits_in_the_queue_can_be_stopped_and_its_ref_used_again() {
    let mut gateway = Gateway::start(
        "[upstreams.s]\nkind = \"sim\"\nfirst_token = \"1ms\"\n[pools.p]\nupstreams = [\"s\"]\nconcurrency = 1\n\
         [models.\"sim:*\"]\npool = \"p\"\n",
    )
    .await;
    let (mut plug, _) = Client::open(gateway.address, &chat("sim:tokens=endless")).await;
    plug.until("data:").await;
    let mut socket = Socket::to(&gateway).await;
    let start = |model: &str| json!({"type": "start", "ref": 1, "path": "/v1/chat/completions", "body": chat(model), "credit": 100_000});
    socket.say(start("sim:tokens=endless")).await;
    crate::support::until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 1").await;
    socket.say(json!({"type": "stop", "ref": 1})).await;
    assert_eq!(gateway.asked().await["cause"], "stopped");
    crate::support::until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 0").await;
    // The same number again means another stream, whatever becomes of the one before.
    socket.say(json!({"type": "leave", "ref": 1})).await;
    socket.say(start("sim:tokens=1")).await;
    drop(plug);
    loop {
        let heard = socket.hear().await;
        match heard["type"].as_str().unwrap() {
            "end" if heard["state"] == "done" => break,
            // The end of the first, unless it was left before.
            "end" => assert_eq!(heard["state"], "cancelled"),
            "open" | "event" => {}
            _ => panic!("{heard}"),
        }
    }
}

#[tokio::test]
async fn an_open_socket_is_held_to_the_limits_of_now() {
    let key = "fl-alice-0123456789abcdef";
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let config = |limits: &str| {
        format!(
            "[keys.a]\nhash = \"blake3:{hash}\"\ntenant = \"alice\"\n{limits}[upstreams.s]\nkind = \"sim\"\n\
             first_token = \"1ms\"\n[models.\"sim:*\"]\nupstream = \"s\"\n"
        )
    };
    let mut gateway = Gateway::start(&config("")).await;
    let bearer = format!("Bearer {key}");
    let mut socket = Socket::open(&gateway, "flumen.v1", &[("authorization", &bearer)]).await.unwrap();
    let limits = "[tenants.alice.limits]\nrequests_per_minute = 1\n";
    std::fs::write(gateway.file(), config(limits)).unwrap();
    gateway.message("configuration is in force").await;
    let mut refused = 0;
    for name in 1..=3 {
        let body = chat("sim:tokens=1");
        socket.say(json!({"type": "start", "ref": name, "path": "/v1/chat/completions", "body": body, "credit": 100_000})).await;
        loop {
            let heard = socket.hear().await;
            match heard["type"].as_str().unwrap() {
                "end" => break,
                "error" => {
                    assert_eq!(heard["status"], 429, "{heard}");
                    refused += 1;
                    break;
                }
                _ => {}
            }
        }
    }
    assert_eq!(refused, 2);
}
