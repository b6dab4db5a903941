//! Events are counted where they have numbers.

use flumen_client::ErrorKind;

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

const EVENTS: &str = "text/event-stream";

#[tokio::test]
async fn what_comes_again_is_skipped() {
    let server = Server::start(|number, _| match number {
        1 => Reply::resumable(EVENTS, "data: a\nid: 5f0c.1-1\n\ndata: b\nid: 5f0c.1-2\n\n").short_of(5),
        _ => Reply::resumable(
            EVENTS,
            "data: a\nid: 5f0c.1-1\n\ndata: b\nid: 5f0c.1-2\n\ndata: [DONE]\nid: 5f0c.2-3\n\n",
        ),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "b", "[DONE]"]);
    assert_eq!((stream.stats().repeats, stream.stats().events), (2, 3));
}

#[tokio::test]
async fn what_is_missing_is_an_error() {
    for events in ["data: b\nid: 5f0c.1-2\n\n", "data: a\nid: 5f0c.1-1\n\ndata: c\nid: 5f0c.1-3\n\n"] {
        let server = Server::start(move |_, _| Reply::resumable(EVENTS, events)).await;
        let client = fast(&server.url).build().unwrap();
        let (payloads, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
        assert_eq!(error.unwrap().kind(), ErrorKind::Gap);
        assert!(payloads.len() < 2 && server.asked().len() == 1);
    }
}

#[tokio::test]
async fn one_may_begin_in_the_middle() {
    let server = Server::start(|_, _| {
        Reply::resumable(EVENTS, "data: c\nid: 5f0c.1-3\n\ndata: [DONE]\nid: 5f0c.1-4\n\n")
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    for call in [
        client.resume("5f0c").last_event_id("5f0c.1-2"),
        client.resume("5f0c").starting_after(2),
        client.get("/v1/streams/5f0c?starting_after=2"),
        client.post("/v1/x", "{}").last_event_id("5f0c.1-2"),
    ] {
        assert_eq!(read_all(&mut call.stream()).await, ["c", "[DONE]"]);
    }
    let paths: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
    let after = "/v1/streams/5f0c?starting_after=2";
    assert_eq!(paths, ["/v1/streams/5f0c", after, after, "/v1/x"]);
    let lasting = Some("5f0c.1-2".to_owned());
    assert_eq!(server.last_ids(), [lasting.clone(), None, None, lasting]);
    // Whoever says so must be right.
    let (_, error) = read(&mut client.resume("5f0c").starting_after(1).stream()).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Gap);
}
