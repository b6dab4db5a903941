//! How the end is told from a connection that ended.

use flumen_client::{End, ErrorKind, Typed};
use serde::Deserialize;

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

#[tokio::test]
async fn nothing_is_read_behind_the_end_mark() {
    let server = Server::start(|_, _| Reply::events("data: a\n\ndata: [DONE]\n\ndata: b\n\n")).await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "[DONE]"]);
    assert!(stream.next().await.is_none());
    let server = Server::start(|_, _| {
        Reply::events("event: x\ndata: a\n\nevent: message_stop\ndata: {}\n\ndata: b\n\n").short_of(3)
    })
    .await;
    let client = fast(&server.url).end(End::name("message_stop")).build().unwrap();
    assert_eq!(read_all(&mut client.post("/v1/x", "{}").stream()).await, ["a", "{}"]);
}

#[tokio::test]
async fn a_body_that_ends_before_the_mark_is_broken() {
    let server = Server::start(|_, _| Reply::events("data: a\n\n")).await;
    let client = fast(&server.url).end(End::mark("[DONE]")).build().unwrap();
    let (payloads, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    assert_eq!((payloads, error.unwrap().kind()), (vec!["a".to_owned()], ErrorKind::Broken));
    // Whoever does not know better takes the end of the body for the end.
    let client = fast(&server.url).build().unwrap();
    assert_eq!(read_all(&mut client.post("/v1/x", "{}").stream()).await, ["a"]);
}

#[tokio::test]
async fn a_gateway_is_asked_whether_there_is_more() {
    let server = Server::start(|number, _| match number {
        // Sent away between two events.
        1 => Reply::resumable("text/event-stream", "retry: 1\ndata: a\nid: 5f0c.1-1\n\n"),
        2 => Reply::resumable("text/event-stream", "event: message_stop\ndata: {}\nid: 5f0c.1-2\n\n"),
        _ => Reply::new("204 No Content", "", ""),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/messages", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "{}"]);
    assert_eq!(stream.stream_id(), Some("5f0c"));
    assert_eq!(server.last_ids(), [None, Some("5f0c.1-1".into()), Some("5f0c.1-2".into())]);
}

#[derive(Debug, Deserialize, PartialEq)]
struct Count {
    n: u32,
}

#[tokio::test]
async fn payloads_become_values_and_a_wrong_one_is_not_the_end() {
    let server = Server::start(|_, _| {
        Reply::resumable(
            "text/event-stream",
            "data: {\"n\":1}\nid: 5f0c.1-1\n\ndata: {\"m\":2}\nid: 5f0c.1-2\n\ndata: {\"n\":3}\nid: 5f0c.1-3\n\ndata: [DONE]\nid: 5f0c.1-4\n\n",
        )
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut counts = client.post("/v1/x", "{}").stream().json::<Count>();
    let Typed { value, received, .. } = counts.next().await.unwrap().unwrap();
    assert_eq!((value, received.seq), (Count { n: 1 }, Some(1)));
    assert_eq!(counts.next().await.unwrap().unwrap_err().kind(), ErrorKind::Json);
    assert_eq!(counts.next().await.unwrap().unwrap().value, Count { n: 3 });
    assert!(counts.next().await.is_none());
    assert_eq!(counts.events().stats().events, 4);
}
