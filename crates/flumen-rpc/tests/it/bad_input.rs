//! What strangers send.

use bytes::Bytes;
use flumen_rpc::{Code, grpc};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    Carrier, Ends, Server, echo,
    scenarios::{begin, call},
    within,
};

/// One request by plain HTTP/2. Returns the HTTP status, and that of gRPC.
async fn request(server: &Server, path: &str, content_type: &str, body: &[u8]) -> (u16, Option<i32>) {
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}{path}", server.address))
        .header("content-type", content_type)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    let response = within(send.send_request(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let trailers =
        within(body.collect()).await.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
    let status = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
    (head.status.as_u16(), status.and_then(|status| status.to_str().ok()?.parse().ok()))
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}

#[tokio::test]
async fn every_kind_of_nonsense_gets_a_status() {
    let server = Server::start();
    let code = |code: Code| Some(i32::from(code));
    let grpc = "application/grpc";
    for (path, content_type, body, expected) in [
        ("/Echo/Bidi", "application/json", b"{}".to_vec(), (415, None)),
        ("/Echo/Bidi", "text/plain", vec![], (415, None)),
        ("/Echo/None", grpc, vec![], (200, code(Code::Unimplemented))),
        ("/None/Bidi", grpc, vec![], (200, code(Code::Unimplemented))),
        // Not protocol buffers; a length beyond what comes; a compressed message; one too large.
        ("/Echo/Bidi", grpc, framed(b"\xff\xff\xff"), (200, code(Code::InvalidArgument))),
        ("/Echo/Bidi", grpc, b"\0\0\0\0\x09abc".to_vec(), (200, code(Code::Internal))),
        ("/Echo/Bidi", grpc, b"\x01\0\0\0\x01a".to_vec(), (200, code(Code::Internal))),
        ("/Echo/Bidi", grpc, b"\0\xff\xff\xff\xff".to_vec(), (200, code(Code::OutOfRange))),
        // Thrift with a field of a wrong type, and none at all.
        (
            "/Echo/Bidi",
            "application/grpc+thrift",
            framed(b"\x0b\0\x01\0\0\0\0\0"),
            (200, code(Code::InvalidArgument)),
        ),
        ("/Echo/Bidi", "application/grpc+thrift", framed(b""), (200, code(Code::InvalidArgument))),
    ] {
        let got = request(&server, path, content_type, &body).await;
        assert_eq!(got, expected, "{path} {content_type} {body:?}");
    }
    // It serves on.
    crate::support::scenarios::half_close_leaves_the_answers(&Carrier::ProtoGrpc.client(server.address))
        .await;
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_on_both_sides() {
    let ends = Ends::default();
    let limits = grpc::Limits { max_message: 1000, ..grpc::Limits::default() };
    let server = Server::serve(echo::services(&ends), ends, limits);
    let options = grpc::Options { max_message: 500, ..grpc::Options::default() };
    let client = Carrier::ProtoGrpc.client_with(server.address, options);
    for (size, reason) in [(2000, "the server"), (700, "the client")] {
        let mut exchange = begin(&client, &call("Bidi")).await;
        let message = echo::Message { seq: 0, payload: vec![0; size].into() };
        exchange.outbound.send(prost::Message::encode_to_vec(&message).into()).await.unwrap();
        let status = within(exchange.inbound.next()).await.unwrap().unwrap_err();
        assert_eq!(status.code, Code::OutOfRange, "{reason}: {status:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_protocol_end_their_connection() {
    let server = Server::start();
    let mut bomb = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS, then HEADERS that never end: CONTINUATION after CONTINUATION.
    bomb.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bomb.extend([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
    for _ in 0..2000 {
        bomb.extend([0, 0x40, 0, 9, 0, 0, 0, 0, 1]);
        bomb.extend([0x10; 0x4000]);
    }
    for garbage in [vec![0xff; 4096], bomb] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may have hung up before all of it is written.
        let _ = stream.write_all(&garbage).await;
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
    crate::support::scenarios::half_close_leaves_the_answers(&Carrier::ProtoGrpc.client(server.address))
        .await;
}
