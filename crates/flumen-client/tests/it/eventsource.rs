//! A server of events that knows nothing of ours.

use flumen_client::{End, ErrorKind, Id};

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

#[tokio::test]
async fn the_last_id_is_shown_and_a_clean_end_goes_on_until_204() {
    let server = Server::start(|number, _| match number {
        1 => Reply::events("retry: 1\ndata: a\nid: 7\n\ndata: b\n\n"),
        2 => Reply::events("id: 8\ndata: c\n\ndata: never whole").short_of(3),
        3 => Reply::events(": nothing yet\n\n"),
        4 => Reply::events("data: d\nid\n\n").hold(),
        _ => Reply::new("204 No Content", "", ""),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.get("/events?topic=x").header("x-mine", "1").stream();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!((first.id, first.seq), (Some(Id::from("7")), None));
    let second = stream.next().await.unwrap().unwrap();
    assert_eq!(second.id, Some(Id::from("7")), "an event without an id leaves the last as it is");
    for payload in ["c", "d"] {
        assert_eq!(&*stream.next().await.unwrap().unwrap().event.payload(), payload.as_bytes());
    }
    // An empty id takes the last one back; 204 is the end.
    assert_eq!(stream.last_event_id(), None);
    stream.cut();
    assert_eq!(read_all(&mut stream).await, [""; 0]);
    assert_eq!(server.last_ids(), [None, Some("7".into()), Some("8".into()), Some("8".into()), None]);
    for asked in server.asked() {
        assert_eq!(
            (&*asked.method, &*asked.path, asked.header("x-mine")),
            ("GET", "/events?topic=x", Some("1"))
        );
        assert_eq!(
            (asked.header("accept"), asked.header("idempotency-key")),
            (Some("text/event-stream"), None)
        );
    }
}

#[tokio::test]
async fn an_id_counts_when_its_event_is_complete() {
    let whole = "id: 7\ndata: a\n\nid: 8\ndata: b\n\n";
    // From the middle of the first event's blank line to before that of the second.
    for at in 15..whole.len() {
        let server = Server::start(move |number, asked| match (number, asked.header("last-event-id")) {
            (1, None) => Reply::events(whole).short_of(whole.len() - at),
            (2, Some("7")) => Reply::events("data: b\nid: 8\n\n"),
            _ => Reply::new("204 No Content", "", ""),
        })
        .await;
        let client = fast(&server.url).build().unwrap();
        assert_eq!(read_all(&mut client.get("/").stream()).await, ["a", "b"], "cut at {at}");
    }
}

#[tokio::test]
async fn without_ids_a_clean_end_is_the_end_unless_eventsource_is_asked_for() {
    let script = |number, _: &_| match number {
        1 => Reply::events("retry: 1\ndata: a\n\n"),
        2 => Reply::events("data: b\n\n"),
        _ => Reply::new("204 No Content", "", ""),
    };
    let server = Server::start(script).await;
    let client = fast(&server.url).build().unwrap();
    assert_eq!(read_all(&mut client.get("/").stream()).await, ["a"]);
    let server = Server::start(script).await;
    let client = fast(&server.url).end(End::Never).build().unwrap();
    assert_eq!(read_all(&mut client.get("/").stream()).await, ["a", "b"]);
    let server = Server::start(|_, _| Reply::events("data: a\nid: 1\n\n")).await;
    let client = fast(&server.url).end(End::Body).build().unwrap();
    assert_eq!(read_all(&mut client.get("/").stream()).await, ["a"]);
}

#[tokio::test]
async fn other_answers_are_no_streams() {
    let server = Server::start(|_, _| Reply::new("200 OK", "content-type: text/html\r\n", "<p>")).await;
    let client = fast(&server.url).build().unwrap();
    let (_, error) = read(&mut client.get("/").stream()).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::ContentType);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn an_event_has_a_largest_size() {
    let server =
        Server::start(|_, _| Reply::events(&format!("data: a\n\ndata: {}\n\n", "x".repeat(1000)))).await;
    let client = fast(&server.url).max_event(500).build().unwrap();
    let (payloads, error) = read(&mut client.get("/").stream()).await;
    assert_eq!((payloads, error.unwrap().kind()), (vec!["a".to_owned()], ErrorKind::TooLong));
}
