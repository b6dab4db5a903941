//! A POST is not run twice behind the caller's back.

use flumen_client::ErrorKind;

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

#[tokio::test]
async fn an_answer_that_cannot_be_resumed_is_broken() {
    let server = Server::start(|_, _| Reply::events("data: a\nid: 7\n\ndata: b\n\n").short_of(3)).await;
    let client = fast(&server.url).build().unwrap();
    let (payloads, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    let error = error.unwrap();
    assert_eq!((payloads, error.kind()), (vec!["a".to_owned()], ErrorKind::Broken));
    assert!(error.to_string().contains("cannot be resumed"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn without_a_key_a_lost_answer_is_broken_too() {
    let server = Server::start(|_, _| Reply::nothing()).await;
    let client = fast(&server.url).resumable(false).build().unwrap();
    let (_, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Broken);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].header("idempotency-key"), asked[0].header("flumen-resume")), (None, None));
}

#[tokio::test]
async fn with_a_key_it_is_asked_for_again() {
    let server = Server::start(|number, _| match number {
        1 => Reply::nothing(),
        _ => Reply::resumable("text/event-stream", "data: [DONE]\nid: 5f0c.1-1\n\n"),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let call = client.post("/v1/x", "{}").idempotency_key("order-17");
    assert_eq!(read_all(&mut call.stream()).await, ["[DONE]"]);
    for asked in server.asked() {
        assert_eq!((&*asked.method, asked.header("idempotency-key")), ("POST", Some("order-17")));
        assert_eq!(asked.header("flumen-resume"), Some("1"));
        assert_eq!(asked.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn where_it_is_allowed_it_is_sent_again_with_the_last_id() {
    let server = Server::start(|number, _| match number {
        1 => Reply::events("data: a\nid: 7\n\ndata: b\n\n").short_of(3),
        _ => Reply::events("data: b\nid: 8\n\n"),
    })
    .await;
    let client = fast(&server.url).repost(true).build().unwrap();
    assert_eq!(read_all(&mut client.post("/x", "{}").stream()).await, ["a", "b"]);
    assert_eq!(server.last_ids(), [None, Some("7".into())]);
    assert!(server.asked().iter().all(|asked| asked.method == "POST" && asked.body == "{}"));

    // Without an id it would begin again.
    let server = Server::start(|_, _| Reply::events("data: a\n\ndata: b\n\n").short_of(3)).await;
    let client = fast(&server.url).repost(true).build().unwrap();
    let (_, error) = read(&mut client.post("/x", "{}").stream()).await;
    assert_eq!((error.unwrap().kind(), server.asked().len()), (ErrorKind::Broken, 1));
}
