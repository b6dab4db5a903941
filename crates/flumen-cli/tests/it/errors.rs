//! Whatever an upstream does wrong, the client is told in words it understands.

use serde_json::json;

use crate::support::{Answer, Gateway, Upstream, chat, event, post};

async fn through(upstream: &Upstream) -> (Answer, serde_json::Value) {
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\nfirst_token = \"2s\"\n").await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    let line = gateway.access().await;
    let shown = format!("{}{}{line}", answer.head, answer.text());
    assert!(!shown.contains("sk-very-secret"), "a key is never shown");
    (answer, line)
}

#[tokio::test]
async fn statuses_that_concern_the_request_stay_and_others_become_a_bad_gateway() {
    for (upstream, status, own_words) in [
        ("400 Bad Request", 400, true),
        ("404 Not Found", 404, true),
        ("422 Unprocessable Content", 422, true),
        ("429 Too Many Requests", 429, true),
        ("503 Service Unavailable", 503, true),
        ("401 Unauthorized", 502, false),
        ("403 Forbidden", 502, false),
        ("500 Internal Server Error", 502, false),
        ("302 Found", 502, false),
    ] {
        let actor = Upstream::start(move |mut conn| async move {
            let words = r#"{"error":{"message":"bad key sk-very-secret-no","code":"own"}}"#
                .replace("sk-very-secret-no", "x");
            conn.json_answer(upstream, "retry-after: 3\r\nlocation: /x\r\n", &words).await;
        })
        .await;
        let (answer, line) = through(&actor).await;
        assert_eq!(answer.status, status, "{upstream}");
        assert_eq!(answer.code() == "own", own_words, "{upstream}: {}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("3"));
        assert_eq!(line["cause"], "upstream_error");
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Gateway::before(address, "").await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_connect"));
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let config =
        "[upstreams.a]\nbase_url = \"http://no-such-host.invalid\"\n[models.\"*\"]\nupstream = \"a\"\n";
    let gateway = Gateway::start(config).await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_resolve"));
}

#[tokio::test]
async fn answers_that_are_no_http() {
    for (bytes, code) in [
        (&b""[..], "upstream_closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "upstream_protocol"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", "upstream_protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "upstream_protocol"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n",
            "upstream_encoding",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "upstream_protocol",
        ),
    ] {
        let actor = Upstream::bytes(bytes).await;
        let (answer, line) = through(&actor).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (502, code),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        assert_eq!(line["code"], code);
    }
    let endless_head = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".repeat(20_000)].concat();
    let (answer, _) = through(&Upstream::bytes(endless_head).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_head_too_large"));
}

#[tokio::test]
async fn informational_answers_are_skipped() {
    let head = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let (answer, _) = through(&Upstream::bytes(format!("{head}{}data: [DONE]\n\n", event("a"))).await).await;
    assert_eq!((answer.status, answer.text()), (200, event("a") + "data: [DONE]\n\n"));
}

#[tokio::test]
async fn an_error_instead_of_the_first_token_is_a_status() {
    let actor = Upstream::events(&["data: {\"error\":{\"message\":\"no GPU\",\"code\":\"own\"}}\n\n"]).await;
    let (answer, line) = through(&actor).await;
    assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (502, Some("no GPU")));
    assert_eq!(line["cause"], "upstream_error");
}

#[tokio::test]
async fn an_error_event_in_the_stream_is_passed_on_and_ends_it() {
    const ERROR: &str = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    const A: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let actor = Upstream::events(&[A, ERROR, "data: [DONE]\n\n"]).await;
    let (answer, line) = through(&actor).await;
    assert_eq!((answer.status, answer.text(), answer.complete), (200, [A, ERROR].concat(), true));
    assert_eq!(line["cause"], "upstream_error");
}

#[tokio::test]
async fn a_stream_without_its_end_mark_is_truncated_even_if_it_ends_well() {
    let clean = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
        conn.chunk(b"data: half an ev").await;
        conn.finish().await;
    })
    .await;
    let cut = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
    })
    .await;
    for actor in [clean, cut] {
        let (answer, line) = through(&actor).await;
        let text = answer.text();
        assert!(text.starts_with(&event("a")), "{text}");
        assert!(
            text.ends_with("\"code\":\"upstream_truncated\"}}\n\n") && !text.contains("[DONE]"),
            "{text}"
        );
        assert_eq!(text.matches("data: ").count(), 2, "{text}");
        assert_eq!(line["cause"], "upstream_truncated");
    }
    let empty = Upstream::events(&[]).await;
    let (answer, _) = through(&empty).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_truncated"));
}

#[tokio::test]
async fn a_whole_answer_that_breaks_off_is_a_bad_gateway() {
    let bytes =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"choices\":";
    let actor = Upstream::bytes(bytes).await;
    let gateway = Gateway::before(actor.address, "").await;
    let answer = post(gateway.address, "/v1/chat/completions", &json!({"model": "m"})).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_truncated"));
}

#[tokio::test]
async fn a_large_answer_passes_and_is_cut_short_when_the_upstream_is() {
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(1 << 20));
    let head = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{large}"
        )
    };
    let whole = Upstream::bytes(head(large.len())).await;
    let short = Upstream::bytes(head(large.len() + 1)).await;
    for (actor, complete) in [(whole, true), (short, false)] {
        let mut gateway = Gateway::before(actor.address, "").await;
        let answer = post(gateway.address, "/v1/embeddings", &json!({"model": "m", "input": "x"})).await;
        assert_eq!((answer.status, answer.complete), (200, complete));
        assert!(!complete || answer.text() == large);
        let cause = gateway.access().await["cause"].clone();
        assert_eq!(cause, if complete { "complete" } else { "upstream_truncated" });
    }
}
