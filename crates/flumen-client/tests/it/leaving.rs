//! Leaving, stopping, cutting.

use flumen_client::ErrorKind;

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

const FIRST: &str = "data: a\nid: 5f0c.1-1\n\n";

#[tokio::test]
async fn dropping_the_stream_closes_its_connection() {
    let mut server =
        Server::start(|_, _| Reply::resumable("text/event-stream", FIRST).short_of(5).hold()).await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    server.closed().await;
}

#[tokio::test]
async fn stopping_is_asked_of_the_gateway_and_the_rest_is_read() {
    let server = Server::start(|_, asked| match (&*asked.method, asked.header("last-event-id")) {
        ("DELETE", _) => Reply::new("200 OK", "content-type: application/json\r\n", "{}"),
        ("GET", Some("5f0c.1-1")) => Reply::resumable("text/event-stream", "data: [DONE]\nid: 5f0c.1-2\n\n"),
        _ => Reply::resumable("text/event-stream", FIRST).short_of(5).hold(),
    })
    .await;
    let client = fast(&server.url).header("authorization", "Bearer k").build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    stream.next().await.unwrap().unwrap();
    stream.stop().await.unwrap();
    stream.cut();
    assert_eq!(read_all(&mut stream).await, ["[DONE]"]);
    let asked = server.asked();
    assert_eq!((&*asked[1].method, &*asked[1].path), ("DELETE", "/v1/streams/5f0c"));
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some("Bearer k")));
}

#[tokio::test]
async fn what_nobody_keeps_is_stopped_by_leaving() {
    let mut server = Server::start(|_, _| Reply::events("data: a\n\n").short_of(1).cut(80).hold()).await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    tokio::select! {
        _ = stream.next() => panic!("there is no whole event"),
        () = async { while server.asked().is_empty() { tokio::task::yield_now().await } } => {}
    }
    stream.stop().await.unwrap();
    server.closed().await;
    assert!(stream.next().await.is_none());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_cut_stream_goes_on_or_says_that_it_cannot() {
    let server = Server::start(|number, _| match number {
        1 => Reply::resumable("text/event-stream", FIRST).short_of(5).hold(),
        2 => Reply::resumable("text/event-stream", "data: [DONE]\nid: 5f0c.1-2\n\n"),
        _ => Reply::events("data: a\nid: 7\n\n ").short_of(1).hold(),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    stream.cut();
    stream.next().await.unwrap().unwrap();
    stream.cut();
    assert_eq!(read_all(&mut stream).await, ["[DONE]"]);
    stream.cut();
    assert!(stream.next().await.is_none());
    let stats = stream.stats();
    assert_eq!((stats.connections, stats.resumes, stats.events), (2, 1, 2));
    assert!(stats.bytes > 40 && stats.first_event.is_some());
    assert!(stats.legs.iter().all(|leg| leg.events == 1 && leg.timings.as_ref().unwrap().header.is_some()));
    assert!(stats.legs[0].timings.as_ref().unwrap().connect.is_some());

    let mut stream = client.post("/v1/x", "{}").stream();
    stream.next().await.unwrap().unwrap();
    stream.cut();
    let (_, error) = read(&mut stream).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Broken);
}
