//! Waits and silence. Only lower bounds are looked at: a slow machine is no error.

use std::time::Duration;

use flumen_client::{EventStream, Reconnect};

use crate::{
    fast, read_all,
    server::{Reply, Server},
};

/// From the beginning of one connection to that of the next.
fn between(stream: &EventStream) -> Duration {
    let stats = stream.stats();
    let started = |at: usize| stats.legs[at].timings.as_ref().unwrap().started;
    started(1) - started(0)
}

#[tokio::test]
async fn retry_is_waited() {
    let server = Server::start(|number, _| match number {
        1 => Reply::events("retry: 40\ndata: a\nid: 1\n\n"),
        _ => Reply::events("data: [DONE]\n\n"),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.get("/").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "[DONE]"]);
    assert!(between(&stream) >= Duration::from_millis(40));
}

#[tokio::test]
async fn retry_after_is_waited_as_far_as_is_allowed() {
    let server = Server::start(|number, _| match number {
        1 => Reply::resumable("text/event-stream", "data: a\nid: 5f0c.1-1\n\n"),
        2 => Reply::new("503 Service Unavailable", "retry-after: 86400\r\n", ""),
        _ => Reply::resumable("text/event-stream", "data: [DONE]\nid: 5f0c.1-2\n\n"),
    })
    .await;
    let reconnect =
        Reconnect { base: Duration::ZERO, longest_asked: Duration::from_millis(40), ..Reconnect::default() };
    let client = fast(&server.url).reconnect(reconnect).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "[DONE]"]);
    let stats = stream.stats();
    let first = stats.legs[0].timings.as_ref().unwrap().started;
    assert!(stats.legs[1].timings.is_none(), "an answer that was none has no timings");
    assert!(stats.legs[2].timings.as_ref().unwrap().started - first >= Duration::from_millis(40));
}

#[tokio::test]
async fn a_silent_connection_is_left() {
    let mut server = Server::start(|number, _| match number {
        1 => Reply::resumable("text/event-stream", "data: a\nid: 5f0c.1-1\n\n").short_of(5).hold(),
        _ => Reply::resumable("text/event-stream", "data: b\nid: 5f0c.1-2\n\ndata: [DONE]\nid: 5f0c.1-3\n\n"),
    })
    .await;
    let client = fast(&server.url).idle(Some(Duration::from_millis(200))).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "b", "[DONE]"]);
    server.closed().await;
    assert_eq!(stream.stats().resumes, 1);
}
