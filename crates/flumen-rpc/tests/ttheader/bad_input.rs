use std::time::Duration;

use bytes::Bytes;
use flumen_rpc::ttheader::{Error, Frame, Kind, Limits, STREAMING};

use super::server::{Raw, Server, soon};

/// How the connection of a peer ends that sends this. A stream runs on it, whose last frame is returned too.
async fn ends(bytes: &[u8]) -> (Result<(), Error>, Option<Frame>) {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    raw.begin(1, "Wait").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
    raw.send_bytes(bytes).await;
    let mut last = None;
    while let Some(frame) = soon(raw.next()).await {
        last = Some(frame);
    }
    assert!(soon(server.dropped.recv()).await.unwrap().is_some(), "the handler knows why it was dropped");
    (soon(server.ended.recv()).await.unwrap(), last)
}

fn frame(info: &[u8], payload: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(10 + info.len() + payload).unwrap().to_be_bytes().to_vec();
    bytes.extend([0x10, 0, 0, 2, 0, 0, 0, 1]);
    bytes.extend(u16::try_from(info.len() / 4).unwrap().to_be_bytes());
    bytes.extend(info);
    bytes
}

#[tokio::test]
async fn what_is_not_of_the_protocol_ends_the_connection() {
    let (error, last) = ends(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(matches!(error.unwrap_err(), Error::Magic(_)));
    let last = last.unwrap();
    assert_eq!((last.kind(), last.id), (Some(Kind::Reset), 1), "streams are told");
    assert!(last.payload.ends_with(b"\x08\0\x02\0\0\x2e\xe4\0"), "12004, illegal frame");
}

#[tokio::test]
async fn sizes_beyond_the_limits_end_the_connection_at_once() {
    let (error, _) = ends(&[0x3f, 0xff, 0xff, 0xff, 0x10, 0, 0, 2, 0, 0, 0, 1, 0, 1]).await;
    assert!(matches!(error.unwrap_err(), Error::TooLong { part: "payload", .. }));
    let (error, _) = ends(&[0, 5, 0, 0, 0x10, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff]).await;
    assert!(matches!(error.unwrap_err(), Error::TooLong { part: "header", .. }));
    let (error, _) = ends(&[0x7f, 0xff, 0xff, 0xff, 0x80, 0x01, 0, 1]).await;
    assert!(matches!(error.unwrap_err(), Error::TooLong { .. }), "framed Thrift, too");
}

#[tokio::test]
async fn headers_that_lie_end_the_connection() {
    let (error, _) = ends(&frame(b"\x10\0\x01\xff\xff\0\0\0", 0)).await;
    assert!(matches!(error.unwrap_err(), Error::Entry), "65535 entries in three bytes");
    let (error, _) = ends(&frame(b"\x10\0\x42\0", 0)).await;
    assert!(matches!(error.unwrap_err(), Error::Block(0x42)));
    let (error, _) = ends(&frame(b"\x10\0\0\0", 0)).await;
    assert!(matches!(error.unwrap_err(), Error::Kind));
    let (error, _) = ends(&frame(b"\x10\x01\x01\0", 0)).await;
    assert!(matches!(error.unwrap_err(), Error::Transformed));
    let mut zero = Vec::new();
    Frame::of_stream(0, Kind::Data, "x", [], Bytes::new()).write(&mut zero);
    assert!(matches!(ends(&zero).await.0.unwrap_err(), Error::StreamZero));
}

#[tokio::test]
async fn a_second_header_ends_its_stream() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    raw.begin(1, "Wait").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
    assert_eq!(soon(raw.next()).await.unwrap().payload, "waiting");
    raw.begin(1, "Echo").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Reset));
    assert_eq!(soon(server.dropped.recv()).await.unwrap().unwrap().wire, Some(12002));
}

#[tokio::test]
async fn a_message_before_its_header_is_ignored() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    raw.data(1, "too early").await;
    raw.begin(1, "Collect").await;
    raw.close(1).await;
    assert_eq!(soon(raw.whole(1)).await[1].1, "0 0 true");
}

#[tokio::test]
async fn a_request_that_its_caller_ends_with_an_error_fails_for_the_handler() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    raw.begin(1, "Collect").await;
    let exception = Bytes::from_static(b"\x80\x01\0\x03\0\0\0\0\0\0\0\x01\x08\0\x02\0\0\0\x07\0");
    raw.send(&Frame::of_stream(1, Kind::Trailer, "Collect", [], exception)).await;
    let frames = soon(raw.whole(1)).await;
    assert_eq!(frames.len(), 2);
    assert!(frames[1].1.ends_with(b"\x08\0\x02\0\0\0\x07\0"), "the handler has passed it on");
}

#[tokio::test]
async fn a_frame_that_the_end_cuts_off_is_an_error() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    raw.send_bytes(&[0, 0, 0, 20, 0x10, 0]).await;
    drop(raw);
    assert!(matches!(soon(server.ended.recv()).await.unwrap(), Err(Error::Truncated)));
}

#[tokio::test]
async fn a_peer_that_begins_a_frame_and_waits_is_not_waited_for() {
    let mut server = Server::with(Limits { idle: Duration::from_millis(50), ..Limits::default() }).await;
    let mut raw = server.raw().await;
    raw.send_bytes(&[0, 0, 0, 20, 0x10, 0]).await;
    assert!(soon(raw.next()).await.is_none());
    soon(server.ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_in_the_place_of_a_request_ends_the_connection() {
    let (error, _) = ends(b"\0\0\0\x0c\x80\x01\0\x02\0\0\0\0\0\0\0\x01").await;
    assert!(matches!(error.unwrap_err(), Error::Unexpected(_)));
    let (error, _) = ends(b"\0\0\0\x0c\x80\x01\0\x09\0\0\0\0\0\0\0\x01").await;
    assert!(matches!(error.unwrap_err(), Error::Thrift(_)));
}

/// Whatever a server answers, a client ends its call with an error and does not hang.
#[tokio::test]
async fn a_client_bears_whatever_a_server_sends() {
    let info = flumen_rpc::ttheader::Info::new(0x10, &[(27, "2")], []);
    let mut twice = Vec::new();
    for _ in 0..2 {
        Frame { flags: STREAMING, id: ID, info: info.clone(), payload: Bytes::new() }.write(&mut twice);
    }
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x3f\xff\xff\xff\x10\0\0\x02\0\0\0\x01\0\x01",
        &twice,
        b"\0\0\0",
        b"",
    ];
    for answer in answers {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let dialer =
            flumen_wire::client::Dialer::new(endpoint, flumen_wire::client::Options::default()).unwrap();
        let client = flumen_rpc::ttheader::Client::new(dialer, flumen_rpc::ttheader::Options::default());
        let mut exchange = client.stream(&flumen_rpc::Call::new("S", "m")).await.unwrap();
        exchange.outbound.send(Bytes::new()).await.unwrap();
        let mut peer = Raw::new(listener.accept().await.unwrap().0);
        let id = soon(peer.next()).await.unwrap().id;
        let answer = answer.to_vec();
        let answer = with_id(answer, id);
        peer.send_bytes(&answer).await;
        drop(peer);
        assert!(soon(exchange.inbound.next()).await.unwrap().is_err());
        assert!(soon(exchange.inbound.next()).await.is_none());
    }
}

const ID: i32 = 0x5eed_5eed;

/// Puts the stream's own number in.
fn with_id(mut bytes: Vec<u8>, id: i32) -> Vec<u8> {
    while let Some(at) = bytes.windows(4).position(|window| window == ID.to_be_bytes()) {
        bytes[at..at + 4].copy_from_slice(&id.to_be_bytes());
    }
    bytes
}
