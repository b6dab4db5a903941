//! Every wait ends, each with its own cause.

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{Client, Gateway, Upstream, chat, event, post};

#[tokio::test]
async fn no_connection_in_time() {
    // A listener whose queue is full takes no further connection.
    let socket = socket2_listener();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let stream = tokio::net::TcpSocket::new_v4().unwrap().connect(address);
        waiting.push(tokio::spawn(stream));
        tokio::task::yield_now().await;
    }
    let mut gateway = Gateway::before(address, "[timeouts]\nconnect = \"200ms\"\n").await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_connect_timeout"));
    assert_eq!(gateway.access().await["code"], "upstream_connect_timeout");
}

fn socket2_listener() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    socket
}

#[tokio::test]
async fn no_tls_handshake_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[timeouts]\ntls = \"200ms\"\n[upstreams.a]\nbase_url = \"https://{}\"\n[models.\"*\"]\nupstream = \"a\"\n",
        silent.local_addr().unwrap()
    );
    let gateway = Gateway::start(&config).await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_tls_timeout"));
}

#[tokio::test]
async fn no_first_token_in_time() {
    let without_head = Upstream::start(|mut conn| async move { conn.closed().await }).await;
    let role_only = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(b": keep alive\n\n").await;
        conn.closed().await;
    })
    .await;
    for upstream in [without_head, role_only] {
        let mut gateway = Gateway::before(upstream.address, "[timeouts]\nfirst_token = \"200ms\"\n").await;
        let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "first_token_timeout"));
        assert_eq!(gateway.access().await["cause"], "first_token_timeout");
    }
}

#[tokio::test]
async fn a_role_is_not_a_token() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n").await;
        conn.closed().await;
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\nfirst_token = \"200ms\"\n").await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert!(answer.text().contains("\"code\":\"first_token_timeout\""), "{}", answer.text());
    assert_eq!(gateway.access().await["cause"], "first_token_timeout");
}

#[tokio::test]
async fn silence_between_tokens() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
        conn.closed().await;
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\nidle = \"200ms\"\n").await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert!(text.starts_with(&event("a")), "{text}");
    assert!(text.ends_with("\"code\":\"idle_timeout\"}}\n\n"), "an error event and no end mark: {text}");
    assert!(answer.complete, "never a cut without a word");
    assert_eq!(gateway.access().await["cause"], "idle_timeout");
    assert!(
        gateway
            .metrics()
            .await
            .contains("flumen_errors_total{cause=\"idle_timeout\",code=\"idle_timeout\"} 1")
    );
}

#[tokio::test]
async fn an_answer_without_end() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        let chunk = event("a");
        let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        while tokio::io::AsyncWriteExt::write_all(&mut conn.socket, framed.as_bytes()).await.is_ok() {}
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\ntotal = \"300ms\"\n").await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert!(answer.text().ends_with("\"code\":\"total_timeout\"}}\n\n"));
    assert_eq!(gateway.access().await["cause"], "total_timeout");
}

#[tokio::test]
async fn a_whole_answer_that_does_not_come() {
    let upstream = Upstream::start(|mut conn| async move { conn.closed().await }).await;
    let gateway = Gateway::before(upstream.address, "[timeouts]\ntotal = \"200ms\"\n").await;
    let body = json!({"model": "m", "messages": []});
    let answer = post(gateway.address, "/v1/chat/completions", &body).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "total_timeout"));
}

#[tokio::test]
async fn a_request_head_that_trickles() {
    let gateway = Gateway::start("[timeouts]\nrequest_header = \"200ms\"\n").await;
    for beginning in ["", "PRI * HT", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut client = Client::connect(gateway.address).await;
        client.send(beginning.as_bytes()).await;
        client.closed().await;
    }
    // The next request on a kept connection is held to it as well.
    let mut client = Client::connect(gateway.address).await;
    client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send(b"GET /heal").await;
    client.closed().await;
}

#[tokio::test]
async fn a_request_body_that_trickles() {
    let mut gateway = Gateway::start("[timeouts]\nrequest_body = \"200ms\"\n").await;
    let mut client = Client::connect(gateway.address).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    client.send(head.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert_eq!(gateway.access().await["cause"], "rejected");
}

#[tokio::test]
async fn a_kept_connection_without_a_request() {
    let gateway = Gateway::start("[timeouts]\nkeep_alive = \"200ms\"\n").await;
    let mut client = Client::connect(gateway.address).await;
    client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.closed().await;
}
