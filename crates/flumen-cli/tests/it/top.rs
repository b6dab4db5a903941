//! `flumen top --once`: what it says of a gateway, and of what is none.

use std::{net::SocketAddr, process::Output};

use serde_json::{Value, json};

use crate::support::{Conn, Upstream, command, soon};

async fn top(address: SocketAddr, more: &[&str]) -> Output {
    let url = format!("http://{address}");
    soon(command(&[&["top", "--once", "--admin", &url], more].concat()).output()).await.unwrap()
}

/// What a command that fails says: one line, and nothing on the output.
fn complaint(output: &Output) -> String {
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len(), line.trim().lines().count()),
        (Some(1), 0, 1),
        "{line}"
    );
    assert!(!line.contains('\x1b'), "{line}");
    line
}

fn answer(path: &str) -> Option<Value> {
    let evil = "\u{1b}]0;owned\u{7}万物\nX";
    Some(match path {
        "/admin/overview" => json!({
            "version": "0.1.0", "uptime_ms": 12345, "draining": false, "connections": 12,
            "streams": {"queued": 1, "waiting": 0, "streaming": 1}, "requests": 4711, "failed": 12,
            "tokens_in": 1000, "tokens_out": 20000, "kept": {"streams": 5, "bytes": 81920},
            "of_a_newer_version": {"is": "ignored"}
        }),
        "/admin/streams" => json!({"data": [
            {"id": "7", "request_id": "3f", "stream_id": "ab12", "tenant": "acme", "key": "k1", "model": "gpt-4o",
             "pool": "large", "upstream": "local", "dialect": "openai-chat", "state": "streaming",
             "position": null, "age_ms": 5120, "queue_ms": 12, "first_token_ms": 210, "events": 101,
             "tokens": 100, "kept": true, "seams": 0},
            {"id": "8", "request_id": "40", "stream_id": null, "tenant": evil, "key": null, "model": evil,
             "pool": "large", "upstream": null, "dialect": "openai-chat", "state": "queued", "position": 3,
             "age_ms": 12, "queue_ms": null, "first_token_ms": null, "events": 0, "tokens": 0, "kept": false,
             "seams": 0}
        ]}),
        "/admin/tenants" => json!({"data": [
            {"tenant": "acme", "pool": "large", "weight": 2.0, "waiting": 3, "running": 4,
             "oldest_wait_ms": 1200, "service": 123_456.0, "share": 0.66}
        ]}),
        "/admin/pools" => json!({"data": [
            {"pool": "large", "slots": 64, "running": 7, "waiting": 3, "drain_rate": 1.5, "adaptive": null,
             "upstreams": [
                {"name": "local", "state": "slow-start", "breaker": "half-open", "in_flight": 5, "concurrency": 64,
                 "requests": 1000, "failures": 3, "first_token_ms": 215.3}
             ]}
        ]}),
        _ => return None,
    })
}

async fn serve(mut conn: Conn, token: Option<&str>) {
    loop {
        let path = conn.head.split(' ').nth(1).unwrap_or_default().to_owned();
        if conn.header("authorization") != token {
            let error =
                json!({"error": {"message": "no", "type": "x", "param": null, "code": "unauthorized"}});
            conn.json_answer("401 Unauthorized", "", &error.to_string()).await;
        } else if let Some(answer) = answer(&path) {
            conn.json_answer("200 OK", "", &answer.to_string()).await;
        } else {
            conn.json_answer("404 Not Found", "", "{}").await;
        }
        if !conn.request().await {
            return;
        }
    }
}

#[tokio::test]
async fn one_look_is_tables_of_everything() {
    let gateway = Upstream::start(|conn| serve(conn, None)).await;
    let output = top(gateway.address, &[]).await;
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "\
flumen 0.1.0 · up 12.3s · 1 queued · 0 waiting · 1 streaming · 0.3% failed · 12 connections · 5 kept (80.0KiB) \
· 4711 requests · 1000 tokens in, 20000 out

POOL   QUEUE  RUNNING  SLOTS  DRAINS/S
large      3        7     64       1.5

UPSTREAM  STATE       BREAKER    IN FLIGHT  OF   TTFT  REQUESTS  FAILED  SHARE  POOL
local     slow-start  half-open          5  64  215ms      1000       3   0.3%  large

TENANT  POOL   WEIGHT  SHARE  WAITING  OLDEST  RUNNING  SERVICE
acme    large       2    66%        3    1.2s        4   123.5k

STREAM  TENANT            MODEL             STATE       AGE  PROGRESS   TTFT  UPSTREAM  EVENTS  QUEUED  POOL   KEY  \
DIALECT      SEAMS  KEPT AS  REQUEST
7       acme              gpt-4o            streaming  5.1s   100 tok  210ms  local        101    12ms  large  k1   \
openai-chat      0  ab12     3f
8       \u{fffd}]0;owned\u{fffd}万物\u{fffd}X  \u{fffd}]0;owned\u{fffd}万物\u{fffd}X  queued     12ms   3 ahead      -  -              0       -  large  -    \
openai-chat      0  -        40
"
    );
    assert_eq!(gateway.accepted(), 1, "one look costs one connection");
}

#[tokio::test]
async fn what_is_no_terminal_gets_one_look() {
    let gateway = Upstream::start(|conn| serve(conn, None)).await;
    let url = format!("http://{}", gateway.address);
    let output = soon(command(&["top", "--admin", &url]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"flumen 0.1.0"));
}

#[tokio::test]
async fn the_token_comes_from_a_file_or_the_environment() {
    let gateway = Upstream::start(|conn| serve(conn, Some("Bearer secret"))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let file = file.to_str().unwrap();
    std::fs::write(file, "secret\n").unwrap();
    assert_eq!(top(gateway.address, &["--token-file", file]).await.status.code(), Some(0));

    let line = complaint(&top(gateway.address, &[]).await);
    assert!(line.contains("401") && line.contains("--token-env or --token-file"), "{line}");
    std::fs::write(file, "wrong").unwrap();
    let line = complaint(&top(gateway.address, &["--token-file", file]).await);
    assert!(line.contains("the token is not the one of [admin]") && !line.contains("wrong"), "{line}");

    let url = format!("http://{}", gateway.address);
    let arguments = ["top", "--admin", &url, "--token-env", "TOP_TOKEN"];
    for (token, code, says) in [
        (Some("secret"), Some(0), ""),
        (Some(" "), Some(2), "TOP_TOKEN holds no usable token"),
        (None, Some(2), "TOP_TOKEN is not set"),
    ] {
        let output = soon(command(&arguments).envs(token.map(|token| ("TOP_TOKEN", token))).output()).await;
        let output = output.unwrap();
        assert_eq!(output.status.code(), code, "{token:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{token:?}");
    }
    let output = top(gateway.address, &["--token-file", file, "--token-env", "TOP_TOKEN"]).await;
    assert_eq!(output.status.code(), Some(2), "one of the two");
}

#[tokio::test]
async fn what_is_no_gateway_is_said_in_one_line_with_what_to_do() {
    let ok = |body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let huge = vec![b' '; 4 * 1024 * 1024 + 1];
    let silent = Upstream::silent().await;
    let other = Upstream::bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let broken = Upstream::bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await;
    let evil = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 48\r\n\r\n\
                {\"error\":{\"message\":\"\\u001b[31mred\\nX\\u009b2J\"}}";
    let evil = Upstream::bytes(evil).await;
    for (address, says) in [
        ("127.0.0.1:1".parse().unwrap(), "is [admin] listen configured?"),
        (silent.address, "no answer within 300ms"),
        (other.address, "the address of [admin] listen"),
        (broken.address, "http://127.0.0.1"),
        (evil.address, "500 Internal Server Error: \u{fffd}[31mred\u{fffd}X\u{fffd}2J"),
    ] {
        let line = complaint(&top(address, &["--timeout", "300ms"]).await);
        assert!(line.contains(says), "{says}: {line}");
    }
    let deep = b"[".repeat(100_000);
    for (body, says) in [
        (&b"not JSON"[..], "does not answer as the admin API"),
        (b"\xff\xfe\x00", "does not answer as the admin API"),
        (b"{}", "missing field"),
        (b"{\"version\":\"1\",\"streams\":{\"queued\":-1}}", "does not answer as the admin API"),
        (b"{\"version\":\"1\",\"streams\":\"\\u001b[2J\"}", "does not answer as the admin API"),
        (b"{\"version\":\"1\",\"streams\":{},\"uptime_ms\":1e999}", "does not answer as the admin API"),
        (&deep, "does not answer as the admin API"),
        (&huge, "more than 4 MiB"),
    ] {
        let server = Upstream::bytes(ok(body)).await;
        let line = complaint(&top(server.address, &[]).await);
        assert!(line.contains(says), "{says}: {line}");
    }
}
