//! The next transport, where one does not work.

use flumen_client::{ErrorKind, Transport};

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

const ALL: &str = "data: a\nid: 5f0c.1-1\n\ndata: [DONE]\nid: 5f0c.1-2\n\n";

#[tokio::test]
async fn a_server_without_sockets_is_read_otherwise() {
    for refusal in ["404 Not Found", "426 Upgrade Required", "501 Not Implemented", "200 OK"] {
        let server = Server::start(move |_, asked| match asked.header("upgrade") {
            Some(_) => Reply::new(refusal, "", "no"),
            None => Reply::resumable("text/event-stream", ALL),
        })
        .await;
        let client = fast(&server.url).transports([Transport::WebSocket, Transport::Sse]).build().unwrap();
        let mut stream = client.post("/v1/x", "{}").stream();
        assert_eq!(read_all(&mut stream).await, ["a", "[DONE]"]);
        assert_eq!(stream.transport(), Transport::Sse);
        let paths: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
        assert_eq!(paths, ["/v1/socket", "/v1/socket", "/v1/x"], "each is tried twice");
    }
}

#[tokio::test]
async fn alone_it_is_an_error() {
    let server = Server::start(|_, _| Reply::new("404 Not Found", "", "no")).await;
    let client = fast(&server.url).transports([Transport::WebSocket]).build().unwrap();
    let (_, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    assert_eq!((error.unwrap().kind(), server.asked().len()), (ErrorKind::NotFound, 1));
    for transport in [Transport::WebSocket, Transport::LongPoll] {
        let (_, error) = read(&mut client.get("/events").transports([transport]).stream()).await;
        assert_eq!(error.unwrap().kind(), ErrorKind::Configuration);
    }
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_at_once() {
    let server = Server::start(|_, _| Reply::new("401 Unauthorized", "", "no")).await;
    let client = fast(&server.url).transports([Transport::WebSocket, Transport::Sse]).build().unwrap();
    let (_, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    assert_eq!((error.unwrap().kind(), server.asked().len()), (ErrorKind::Unauthorized, 1));
}

#[tokio::test]
async fn in_the_middle_of_a_stream_too() {
    let server = Server::start(|number, asked| match (number, asked.header("accept")) {
        (1, _) => Reply::resumable("text/event-stream", ALL).cut(151),
        (_, Some("text/event-stream")) => Reply::nothing(),
        _ => {
            Reply::resumable("application/x-ndjson", "{\"id\":\"5f0c.1-2\",\"seq\":2,\"data\":\"[DONE]\"}\n")
        }
    })
    .await;
    let client = fast(&server.url).transports([Transport::Sse, Transport::Ndjson]).build().unwrap();
    let mut stream = client.post("/v1/x", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["a", "[DONE]"]);
    let legs: Vec<_> = stream.stats().legs.iter().map(|leg| leg.transport).collect();
    assert_eq!(legs, [Transport::Sse, Transport::Sse, Transport::Sse, Transport::Ndjson]);
}

#[tokio::test]
async fn a_server_that_rather_answers_at_once_is_no_error() {
    let server = Server::start(|_, _| Reply::resumable("text/event-stream", ALL)).await;
    let client = fast(&server.url).transports([Transport::LongPoll]).build().unwrap();
    assert_eq!(read_all(&mut client.post("/v1/x", "{}").stream()).await, ["a", "[DONE]"]);
    assert_eq!(server.asked()[0].header("prefer"), Some("respond-async"));
}
