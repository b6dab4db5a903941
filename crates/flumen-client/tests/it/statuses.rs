//! What a status means.

use flumen_client::{ErrorKind, Reconnect};

use crate::{
    fast, read, read_all,
    server::{Reply, Server},
};

#[tokio::test]
async fn refusals_are_typed_and_final() {
    let cases = [
        ("400 Bad Request", ErrorKind::Refused, "bad_cursor"),
        ("401 Unauthorized", ErrorKind::Unauthorized, "no_key"),
        ("403 Forbidden", ErrorKind::Unauthorized, "wrong_key"),
        ("404 Not Found", ErrorKind::NotFound, "stream_not_found"),
        ("409 Conflict", ErrorKind::Conflict, "cursor_beyond_tail"),
        ("410 Gone", ErrorKind::Gone, "cursor_too_old"),
        ("422 Unprocessable Content", ErrorKind::Refused, "key_reused"),
        ("500 Internal Server Error", ErrorKind::Status, "oops"),
        ("307 Temporary Redirect", ErrorKind::Status, "elsewhere"),
    ];
    for (status, kind, code) in cases {
        let server = Server::start(move |_, _| {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"because","first":9}}}}"#);
            Reply::new(status, "content-type: application/json\r\n", &body)
        })
        .await;
        let client = fast(&server.url).build().unwrap();
        let (payloads, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
        let error = error.unwrap();
        assert_eq!((payloads.len(), error.kind(), error.code()), (0, kind, Some(code)));
        assert_eq!((error.status(), error.seq()), (status[..3].parse().ok(), Some(9)));
        assert!(error.to_string().contains("because"));
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_is_gone_when_one_comes_back_is_told() {
    let server = Server::start(|number, _| match number {
        1 => Reply::resumable("text/event-stream", "data: a\nid: 5f0c.1-1\n\ndata: b").short_of(9),
        _ => Reply::new("410 Gone", "", r#"{"error":{"code":"cursor_too_old","message":"m","first":4}}"#),
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let (payloads, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    let error = error.unwrap();
    assert_eq!((payloads, error.kind(), error.seq()), (vec!["a".to_owned()], ErrorKind::Gone, Some(4)));
    assert_eq!(server.last_ids(), [None, Some("5f0c.1-1".into())]);
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    for resume in [true, false] {
        let server = Server::start(|number, _| match number {
            1 => Reply::new("503 Service Unavailable", "retry-after: 0\r\n", ""),
            2 => Reply::new("429 Too Many Requests", "", ""),
            3 => Reply::new("502 Bad Gateway", "", ""),
            4 => Reply::new("504 Gateway Timeout", "", ""),
            _ => Reply::events("data: a\n\ndata: [DONE]\n\n"),
        })
        .await;
        let client = fast(&server.url).resumable(resume).build().unwrap();
        assert_eq!(read_all(&mut client.post("/v1/x", "{}").stream()).await, ["a", "[DONE]"]);
        assert_eq!(server.asked().len(), 5);
    }
}

#[tokio::test]
async fn a_server_that_stays_busy_is_given_up() {
    let server = Server::start(|_, _| {
        Reply::new("503 Service Unavailable", "", r#"{"error":{"code":"overloaded","message":"later"}}"#)
    })
    .await;
    let reconnect = Reconnect { attempts: 2, base: std::time::Duration::ZERO, ..Reconnect::default() };
    let client = fast(&server.url).reconnect(reconnect).build().unwrap();
    let (_, error) = read(&mut client.get("/").stream()).await;
    let error = error.unwrap();
    assert_eq!(
        (error.kind(), error.status(), error.code()),
        (ErrorKind::Unavailable, Some(503), Some("overloaded"))
    );
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn nobody_there_is_an_error_of_connecting() {
    // Bound, so that nobody else gets the port, but nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let (_, error) = read(&mut fast(&url).build().unwrap().get("/").stream()).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Connect);
}
