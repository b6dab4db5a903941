//! What an upstream says reaches the client as it was said, when it was said.

use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Answer, Client, Gateway, Upstream, chat, event, post, soon};

const DONE: &str = "data: [DONE]\n\n";

/// Streams these events through a gateway.
async fn relayed(events: &'static [&'static str]) -> Answer {
    let upstream = Upstream::events(events).await;
    let gateway = Gateway::before(upstream.address, "").await;
    post(gateway.address, "/v1/chat/completions", &chat("m")).await
}

#[tokio::test]
async fn events_arrive_byte_for_byte() {
    const EVENTS: &[&str] = &[
        "data: {\"choices\":[{\"delta\":{\"content\":\"a \\u00e9\"}}],  \"x\" : 1.0e5}\n\n",
        "event: message\nid: 7\ndata:no space\ndata: two lines\n: a comment inside\n\n",
        "data: crlf\r\ndata: 数据 🌊\r\n\r\n",
        "data: cr\r\r",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n",
        DONE,
    ];
    let answer = relayed(EVENTS).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), EVENTS.concat());
    assert!(answer.complete);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
}

#[tokio::test]
async fn however_the_upstream_cuts_its_packets() {
    let whole = event("数据 🌊 é") + DONE;
    let text = whole.clone();
    let upstream = Upstream::start(move |mut conn| {
        let text = text.clone();
        async move {
            conn.socket.set_nodelay(true).unwrap();
            conn.stream_head().await;
            for byte in text.as_bytes() {
                conn.chunk(&[*byte]).await;
                tokio::task::yield_now().await;
            }
            conn.finish().await;
        }
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    assert_eq!(post(gateway.address, "/v1/chat/completions", &chat("m")).await.text(), whole);
}

#[tokio::test]
async fn an_event_is_forwarded_before_the_next_is_produced() {
    let (go, gone) = mpsc::channel::<()>(1);
    let gone = std::sync::Arc::new(tokio::sync::Mutex::new(gone));
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.clone();
        async move {
            conn.stream_head().await;
            for text in ["one", "two", "three"] {
                conn.chunk(event(text).as_bytes()).await;
                gone.lock().await.recv().await;
            }
            conn.chunk(DONE.as_bytes()).await;
            conn.finish().await;
        }
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    for text in ["one", "two", "three"] {
        client.until(text).await;
        go.send(()).await.unwrap();
    }
    client.until("[DONE]").await;
}

#[tokio::test]
async fn the_header_waits_for_the_upstreams_answer() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.lock().unwrap().take();
        async move {
            let _ = gone.unwrap().await;
            conn.json_answer(
                "429 Too Many Requests",
                "retry-after: 7\r\n",
                r#"{"error":{"message":"slow down"}}"#,
            )
            .await;
        }
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let mut client = Client::connect(gateway.address).await;
    client.post("/v1/chat/completions", &chat("m").to_string()).await;
    assert_eq!(gateway.metrics().await.matches("status=\"200\"").count(), 0);
    go.send(()).unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    assert_eq!(answer.json()["error"]["message"], "slow down");
}

#[tokio::test]
async fn usage_is_withheld_from_clients_that_did_not_ask() {
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8}}\n\n";
    const EVENTS: &[&str] =
        &["data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n", USAGE, DONE];
    let (seen, mut asked) = mpsc::channel(4);
    let upstream = Upstream::start(move |mut conn| {
        let seen = seen.clone();
        async move {
            seen.send(conn.json()).await.unwrap();
            conn.stream_head().await;
            for event in EVENTS {
                conn.chunk(event.as_bytes()).await;
            }
            conn.finish().await;
        }
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let silent = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!(silent.text(), EVENTS[0].to_owned() + DONE);
    assert_eq!(asked.recv().await.unwrap()["stream_options"], json!({"include_usage": true}));
    let line = gateway.access().await;
    assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(3), &json!(5)));

    let mut body = chat("m");
    body["stream_options"] = json!({"include_usage": true});
    assert_eq!(post(gateway.address, "/v1/chat/completions", &body).await.text(), EVENTS.concat());
}

#[tokio::test]
async fn the_request_arrives_untouched_save_for_the_model_name() {
    let (seen, mut asked) = mpsc::channel(4);
    let upstream = Upstream::start(move |mut conn| {
        let seen = seen.clone();
        async move {
            let head = conn.head.clone();
            seen.send((head, String::from_utf8(conn.body.clone()).unwrap())).await.unwrap();
            conn.json_answer("200 OK", "x-ratelimit-remaining-requests: 9\r\n", "{\"choices\":[]}").await;
        }
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    for (path, body, expected) in [
        ("/v1/chat/completions", r#"{ "odd" : [1.50, 1e3,"\u00e9"],"model":"any", "z":null }"#, None),
        (
            "/v1/completions",
            r#"{"model":  "renamed","prompt":"renamed"}"#,
            Some(r#"{"model":  "real-name","prompt":"renamed"}"#),
        ),
        ("/v1/embeddings", r#"{"input":["a"],"model":"e","stream":true}"#, None),
    ] {
        let mut client = Client::connect(gateway.address).await;
        client.post(path, body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{\"choices\":[]}"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("9"));
        let (head, sent) = asked.recv().await.unwrap();
        assert_eq!(sent, expected.unwrap_or(body));
        assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("authorization: Bearer sk-very-secret\r\n"), "{head}");
    }
}

#[tokio::test]
async fn an_event_of_the_limit_passes_and_a_larger_one_is_an_error() {
    for (excess, passes) in [(0, true), (1, false)] {
        let frame = "data: \n\n".len();
        let large = format!("data: {}\n\n", "x".repeat((1 << 20) - frame + excess));
        let sent = large.clone();
        let upstream = Upstream::start(move |mut conn| {
            let large = sent.clone();
            async move {
                conn.stream_head().await;
                conn.chunk(event("first").as_bytes()).await;
                conn.chunk(large.as_bytes()).await;
                conn.chunk(DONE.as_bytes()).await;
                conn.finish().await;
                conn.closed().await;
            }
        })
        .await;
        let mut gateway = Gateway::before(upstream.address, "").await;
        let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
        if passes {
            assert_eq!(answer.text().len(), event("first").len() + large.len() + DONE.len());
        } else {
            assert!(answer.text().starts_with(&event("first")));
            assert!(answer.text().ends_with("\"code\":\"event_too_long\"}}\n\n"), "{}", answer.text());
            assert_eq!(gateway.access().await["cause"], "upstream_error");
        }
    }
}

#[tokio::test]
async fn connections_to_the_upstream_are_used_again() {
    let upstream = Upstream::start(|mut conn| async move {
        loop {
            conn.stream_head().await;
            conn.chunk((event("a") + DONE).as_bytes()).await;
            conn.finish().await;
            if !conn.request().await {
                return;
            }
        }
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    for expected in [false, true, true] {
        post(gateway.address, "/v1/chat/completions", &chat("m")).await;
        let line = gateway.access().await;
        assert_eq!(line["upstream_reused"], expected, "{line}");
        assert_eq!(line["connect_ms"].is_null(), expected);
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closed_is_replaced() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk((event("a") + DONE).as_bytes()).await;
        conn.finish().await;
        // Close without `connection: close`, as servers do when their keep-alive time is over.
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    for _ in 0..5 {
        let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
        assert_eq!((answer.status, answer.complete), (200, true));
    }
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let gateway = Gateway::start("").await;
    let list = Client::get(gateway.address, "/v1/models").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("sim")));
    assert_eq!(Client::get(gateway.address, "/v1/models/sim").await.json()["object"], "model");
    let unknown = Client::get(gateway.address, "/v1/models/org/other").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn comments_keep_a_quiet_stream_alive() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
        conn.closed().await;
    })
    .await;
    let gateway = Gateway::before(upstream.address, "[stream]\nheartbeat = \"50ms\"\n").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"a\"").await;
    let beats = soon(client.until(": ping\n\r\n7\r\n: ping\n")).await;
    assert!(!beats.contains(": ping\n\n"), "a blank line would be an event: {beats:?}");
}
