//! A client that leaves takes its generation with it, in every phase.

use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Client, Gateway, Upstream, chat, event, soon};

/// An upstream that sends this, tells when it has, and tells when the gateway has let go of it.
async fn watched(head: bool, token: bool) -> (Upstream, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel(4);
    let upstream = Upstream::start(move |mut conn| {
        let tell = tell.clone();
        async move {
            if head {
                conn.stream_head().await;
            }
            if token {
                conn.chunk(event("a").as_bytes()).await;
            }
            tell.send("came").await.unwrap();
            conn.closed().await;
            tell.send("left").await.unwrap();
        }
    })
    .await;
    (upstream, told)
}

#[tokio::test]
async fn before_the_response_header() {
    let (upstream, mut told) = watched(false, false).await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    for body in [chat("m"), json!({"model": "m", "messages": []})] {
        let mut client = Client::connect(gateway.address).await;
        client.post("/v1/chat/completions", &body.to_string()).await;
        assert_eq!(soon(told.recv()).await, Some("came"));
        drop(client);
        assert_eq!(soon(told.recv()).await, Some("left"));
        let line = gateway.access().await;
        assert_eq!((&line["cause"], &line["status"]), (&json!("client_gone"), &json!(null)));
    }
}

#[tokio::test]
async fn before_the_first_token() {
    let (upstream, mut told) = watched(true, false).await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let mut client = Client::connect(gateway.address).await;
    client.post("/v1/chat/completions", &chat("m").to_string()).await;
    assert_eq!(soon(told.recv()).await, Some("came"));
    drop(client);
    assert_eq!(soon(told.recv()).await, Some("left"));
    assert_eq!(gateway.access().await["cause"], "client_gone");
}

#[tokio::test]
async fn in_the_middle_of_the_stream() {
    let (upstream, mut told) = watched(true, true).await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"a\"").await;
    assert_eq!(soon(told.recv()).await, Some("came"));
    drop(client);
    assert_eq!(soon(told.recv()).await, Some("left"));
    let line = gateway.access().await;
    assert_eq!(
        (&line["cause"], &line["frames"], &line["status"]),
        (&json!("client_gone"), &json!(1), &json!(200))
    );
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("flumen_client_disconnects_total 1"), "{metrics}");
    assert!(metrics.contains("flumen_active_streams{model=\"*\",upstream=\"actor\"} 0"), "{metrics}");
    assert!(metrics.contains("flumen_buffered_bytes 0"), "{metrics}");
}
