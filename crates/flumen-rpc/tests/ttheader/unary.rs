use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use flumen_rpc::{
    Code,
    thrift::{
        self,
        message::{Args, Kind, Message, Reply},
    },
    ttheader::{Client, Frame, Framing, Info, Options},
};

use super::server::{Server, call, soon, until};

fn client(server: &Server, unary: Framing) -> Client {
    server.client_with(Options { unary, ..Options::default() })
}

/// `Echo` gives the arguments back, whose field 1 is no field 0; so the test's argument has both.
fn args() -> Bytes {
    let mut writer = thrift::Writer::new();
    writer.string(1, "ask");
    writer.string(0, "answer");
    writer.stop();
    writer.finish()
}

#[tokio::test]
async fn a_call_is_answered_in_either_framing_on_a_kept_connection() {
    for framing in [Framing::Framed, Framing::TtHeader] {
        let server = Server::start().await;
        let client = client(&server, framing);
        for _ in 0..3 {
            let answer = soon(client.unary(&call("Echo"), args())).await.unwrap();
            assert_eq!(thrift::decode::<Reply<String>>(answer.clone()).unwrap().0, "answer");
            assert_eq!(thrift::decode::<Args<String>>(answer).unwrap().0, "ask");
        }
        assert_eq!(server.accepted.load(Relaxed), 1, "{framing:?}");
    }
}

#[tokio::test]
async fn errors_come_back_in_either_framing() {
    for framing in [Framing::Framed, Framing::TtHeader] {
        let server = Server::start().await;
        let client = client(&server, framing);
        let status = soon(client.unary(&call("FailLate"), args())).await.unwrap_err();
        assert_eq!((status.wire, &*status.message), (Some(4242), "later"));
        let status = soon(client.unary(&call("Nope"), args())).await.unwrap_err();
        assert_eq!(status.code, Code::Unimplemented);
        let status = soon(client.unary(&call("Panic"), args())).await.unwrap_err();
        assert_eq!(status.code, Code::Internal);
        let status = soon(client.unary(&call("Business"), args())).await.unwrap_err();
        // Without a header there is no place for it but the message.
        assert_eq!(
            status.business.map(|business| business.code),
            (framing == Framing::TtHeader).then_some(4001)
        );
        assert_eq!(status.message, "no more");
        assert_eq!(server.accepted.load(Relaxed), 1, "an error is no reason to close: {framing:?}");
    }
}

#[tokio::test]
async fn a_handler_without_an_answer_is_an_error() {
    let server = Server::start().await;
    let status = soon(client(&server, Framing::TtHeader).unary(&call("Silent"), args())).await.unwrap_err();
    assert_eq!((status.code, status.wire), (Code::Internal, Some(5)));
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_handler_of_its_call() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    let message =
        Message { kind: Kind::Call, method: "Wait".into(), sequence: 3, body: Bytes::from_static(b"\0") };
    let mut bytes = u32::try_from(message.size()).unwrap().to_be_bytes().to_vec();
    bytes.extend(message.encode());
    raw.send_bytes(&bytes).await;
    drop(raw);
    // `Wait` has given its answer and goes on: the caller's leaving is what ends it.
    let cancel = soon(server.dropped.recv()).await.unwrap().unwrap();
    assert_eq!(cancel.wire, Some(12013));
}

#[tokio::test]
async fn a_deadline_ends_a_call_on_both_sides() {
    let mut server = Server::start().await;
    let request = call("Wait").within(Duration::from_millis(60));
    let status = soon(client(&server, Framing::TtHeader).unary(&request, args())).await.unwrap_err();
    assert_eq!((status.code, status.wire), (Code::DeadlineExceeded, Some(12015)));
    assert!(soon(server.dropped.recv()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_handler() {
    let mut server = Server::start().await;
    let client = client(&server, Framing::Framed);
    let request = call("Wait");
    let unary = client.unary(&request, args());
    let waiting = Arc::clone(&server.waiting);
    tokio::select! {
        _ = unary => panic!("nothing answers"),
        () = until(|| waiting.load(Relaxed) == 1) => {}
    }
    assert_eq!(soon(server.dropped.recv()).await.unwrap().unwrap().wire, Some(12013));
}

#[tokio::test]
async fn a_call_goes_out_again_when_a_kept_connection_was_closed() {
    let mut server = Server::start().await;
    let client = client(&server, Framing::Framed);
    soon(client.unary(&call("Echo"), args())).await.unwrap();
    server.shutdown.drain();
    soon(server.ended.recv()).await.unwrap().unwrap();
    let status = soon(client.unary(&call("Echo"), args())).await.unwrap_err();
    assert_eq!(status.wire, Some(12006), "refused, on a second connection");
    assert_eq!(server.accepted.load(Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_wants_no_answer_gets_none() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    for (kind, sequence) in [(Kind::OneWay, 1), (Kind::Call, 2)] {
        let message = Message { kind, method: "Echo".into(), sequence, body: args() };
        let info = Info::new(0, &[], [("isn", "Test")]);
        let payload = message.encode();
        raw.send(&Frame { flags: 0, id: sequence, info, payload }).await;
    }
    let answer = soon(raw.next()).await.unwrap();
    assert_eq!(answer.id, 2);
    let message = Message::decode(answer.payload).unwrap();
    assert_eq!((message.kind, message.sequence), (Kind::Reply, 2));
}
