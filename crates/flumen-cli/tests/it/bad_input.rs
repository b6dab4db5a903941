//! What comes from outside is bounded and answered with a clear error.

use serde_json::json;

use crate::support::{Client, Gateway, chat, post};

const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";

async fn raw(gateway: &Gateway, request: &str) -> crate::support::Answer {
    let mut client = Client::connect(gateway.address).await;
    client.send(request.as_bytes()).await;
    client.answer().await
}

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let mut gateway = Gateway::start("").await;
    for (body, part) in [
        ("", "JSON"),
        ("{", "line 1"),
        ("[]", "object"),
        ("{\"model\":5}", "`model`"),
        ("{\"messages\":[]}", "`model`"),
        ("{\"model\":\"sim\",\"stream\":\"yes\"}", "boolean"),
        ("{\"model\":\"sim\",\"stream_options\":1}", "stream_options"),
        ("{\"model\":\"sim\",\"model\":\"sim\"}", "duplicate"),
    ] {
        let mut client = Client::connect(gateway.address).await;
        client.post("/v1/chat/completions", body).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400, "{body}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{body}: {message}");
        assert_eq!(gateway.access().await["cause"], "rejected");
    }
    let unknown = post(gateway.address, "/v1/chat/completions", &chat("nobody")).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let gateway = Gateway::start("[server]\nmax_body_size = \"4KiB\"\n").await;
    let announced =
        raw(&gateway, &format!("{HEAD}content-type: application/json\r\ncontent-length: 4097\r\n\r\n")).await;
    assert_eq!(announced.status, 413);
    let huge = raw(
        &gateway,
        &format!("{HEAD}content-type: application/json\r\ncontent-length: 99999999999999\r\n\r\n"),
    )
    .await;
    assert_eq!(huge.status, 413);
    let chunk = format!("1000\r\n{}\r\n1\r\nx\r\n", "x".repeat(4096));
    let chunked = raw(
        &gateway,
        &format!("{HEAD}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"),
    )
    .await;
    assert_eq!(chunked.code(), "body_too_large");
    let mut fits =
        json!({"model": "sim:tokens=1,ttft=0ms", "messages": [{"role": "user", "content": "x"}], "x": ""});
    let padding = 4096 - fits.to_string().len();
    fits["x"] = "y".repeat(padding).into();
    assert_eq!(post(gateway.address, "/v1/chat/completions", &fits).await.status, 200);
}

#[tokio::test]
async fn heads_that_are_too_large_or_malformed() {
    let gateway = Gateway::start("").await;
    let large = raw(&gateway, &format!("{HEAD}x: {}\r\n\r\n", "y".repeat(20_000))).await;
    assert_eq!(large.status, 431);
    let many = raw(&gateway, &format!("{HEAD}{}\r\n", "x: y\r\n".repeat(500))).await;
    assert_eq!(many.status, 431);
    for garbage in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let mut client = Client::connect(gateway.address).await;
        client.send(garbage).await;
        let said = client.closed().await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    }
    let smuggled = raw(&gateway, &format!("{HEAD}content-length: 5\r\ncontent-length: 6\r\n\r\n")).await;
    assert_eq!(smuggled.status, 400);
    assert_eq!(Client::get(gateway.address, "/healthz").await.status, 200, "the server is none the worse");
}

#[tokio::test]
async fn wrong_paths_methods_and_types() {
    let gateway = Gateway::start("").await;
    let path = Client::get(gateway.address, "/v2/chat").await;
    assert_eq!((path.status, path.code().as_str()), (404, "not_found"));
    let method = Client::get(gateway.address, "/v1/chat/completions").await;
    assert_eq!((method.status, method.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(method.header("allow"), Some("POST"));
    let form =
        raw(&gateway, &format!("{HEAD}content-type: text/plain\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    assert_eq!((form.status, form.code().as_str()), (415, "unsupported_media_type"));
}

#[tokio::test]
async fn connections_over_the_limit_are_refused() {
    let gateway = Gateway::start("[server]\nmax_connections_per_address = 2\n").await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(gateway.address).await;
        client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        kept.push(client);
    }
    let mut third = Client::connect(gateway.address).await;
    assert_eq!(third.closed().await, "");
    let mut first = kept.remove(0);
    first.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let metrics = first.answer().await.text();
    assert!(
        metrics.contains("flumen_connections_refused 1") && metrics.contains("flumen_open_connections 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_clients_request_id_is_kept_if_it_may_stand_in_a_log() {
    let gateway = Gateway::start("").await;
    for (given, kept) in [("abc-1", true), ("a b", false), (&"x".repeat(129), false)] {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: {given}\r\n\r\n");
        let answer = raw(&gateway, &request).await;
        assert_eq!(answer.header("x-request-id") == Some(given), kept, "{given}");
    }
}
