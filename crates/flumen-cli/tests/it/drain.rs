//! A server that is told to stop lets streams finish, and ends those that do not with a word.

use tokio::net::TcpStream;

use crate::support::{Client, Gateway, Upstream, chat, event};

/// An upstream that says one token and waits; and what makes it go on.
async fn waiting() -> (Upstream, tokio::sync::mpsc::Sender<()>) {
    let (go, gone) = tokio::sync::mpsc::channel::<()>(4);
    let gone = std::sync::Arc::new(tokio::sync::Mutex::new(gone));
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.clone();
        async move {
            conn.stream_head().await;
            conn.chunk(event("a").as_bytes()).await;
            if gone.lock().await.recv().await.is_some() {
                conn.chunk(b"data: [DONE]\n\n").await;
                conn.finish().await;
            }
        }
    })
    .await;
    (upstream, go)
}

#[tokio::test]
async fn running_streams_finish_and_idle_connections_close() {
    let (upstream, go) = waiting().await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"a\"").await;
    let mut idle = Client::connect(gateway.address).await;
    idle.send(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 200);

    gateway.signal("TERM").await;
    gateway.message("draining").await;
    idle.closed().await;
    assert!(TcpStream::connect(gateway.address).await.is_err(), "no new connections");
    go.send(()).await.unwrap();
    client.until("[DONE]").await;
    assert!(gateway.stopped().await.success());
    assert_eq!(gateway.access().await["path"], "/readyz");
    assert_eq!(gateway.access().await["cause"], "complete");
}

#[tokio::test]
async fn streams_that_do_not_finish_end_with_an_error_event() {
    let (upstream, _go) = waiting().await;
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\ndrain = \"200ms\"\n").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"a\"").await;
    gateway.signal("TERM").await;
    let last = client.closed().await;
    assert!(last.contains("\"code\":\"shutdown\"}}\n\n"), "{last}");
    assert!(last.ends_with("0\r\n\r\n"), "a proper end: {last:?}");
    assert!(gateway.stopped().await.success());
    assert_eq!(gateway.access().await["cause"], "shutdown");
}

#[tokio::test]
async fn a_request_without_an_answer_yet_is_told() {
    let (came, mut come) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start(move |mut conn| {
        let came = came.clone();
        async move {
            came.send(()).await.unwrap();
            conn.closed().await;
        }
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\ndrain = \"200ms\"\n").await;
    let mut client = Client::connect(gateway.address).await;
    client.post("/v1/chat/completions", &chat("m").to_string()).await;
    come.recv().await.unwrap();
    gateway.signal("TERM").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "shutdown"));
    assert!(gateway.stopped().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_everything_at_once() {
    let (upstream, _go) = waiting().await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"a\"").await;
    gateway.signal("INT").await;
    gateway.message("draining").await;
    gateway.signal("INT").await;
    assert!(client.closed().await.contains("\"shutdown\""));
    assert!(gateway.stopped().await.success());
}
