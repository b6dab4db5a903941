use bytes::Bytes;
use flumen_rpc::{Cancel, Code, Exchange, ttheader::Kind};

use super::server::{Server, call, soon};

/// A call whose handler waits for ever.
async fn waiting(server: &Server) -> Exchange {
    let mut exchange = server.client().stream(&call("Wait")).await.unwrap();
    assert_eq!(soon(exchange.inbound.next()).await.unwrap().unwrap(), "waiting");
    exchange
}

#[tokio::test]
async fn a_caller_tells_why_it_cancels_and_who_began() {
    let mut server = Server::start().await;
    let Exchange { outbound: _outbound, inbound } = waiting(&server).await;
    let path = vec!["app".to_owned()];
    inbound.cancel(&Cancel { path, ..Cancel::because("the user pressed stop") });
    let cancel = soon(server.dropped.recv()).await.unwrap().unwrap();
    assert_eq!((cancel.wire, &*cancel.reason), (Some(12008), "the user pressed stop"));
    assert_eq!(cancel.path, ["app", "flumen"]);
}

#[tokio::test]
async fn a_cancelled_call_is_over_for_its_sender() {
    let server = Server::start().await;
    let Exchange { mut outbound, inbound } = waiting(&server).await;
    inbound.cancel(&Cancel { wire: Some(12010), ..Cancel::because("upstream") });
    let status = outbound.send(Bytes::new()).await.unwrap_err();
    assert_eq!((status.code, status.wire), (Code::Cancelled, Some(12010)));
}

#[tokio::test]
async fn dropping_the_receiver_cancels() {
    let mut server = Server::start().await;
    let Exchange { outbound: _outbound, inbound } = waiting(&server).await;
    drop(inbound);
    let cancel = soon(server.dropped.recv()).await.unwrap().unwrap();
    assert_eq!((cancel.wire, cancel.path), (Some(12007), vec!["flumen".to_owned()]));
}

#[tokio::test]
async fn dropping_the_sender_before_it_has_closed_cancels() {
    let mut server = Server::start().await;
    let Exchange { outbound, mut inbound } = waiting(&server).await;
    drop(outbound);
    assert_eq!(soon(server.dropped.recv()).await.unwrap().unwrap().wire, Some(12007));
    let status = soon(inbound.next()).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.wire), (Code::Cancelled, Some(12007)));
}

#[tokio::test]
async fn dropping_the_sender_after_it_has_closed_does_not_cancel() {
    let server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Count")).await.unwrap();
    outbound.send("2".into()).await.unwrap();
    outbound.close().await.unwrap();
    assert!(soon(inbound.next()).await.unwrap().is_ok());
    assert!(soon(inbound.next()).await.unwrap().is_ok());
    assert!(soon(inbound.next()).await.is_none());
}

#[tokio::test]
async fn a_handler_resets_with_its_reason_and_path() {
    let server = Server::start().await;
    let mut exchange = server.client().stream(&call("Reset")).await.unwrap();
    let status = soon(exchange.inbound.next()).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.wire, &*status.message), (Code::Cancelled, Some(12009), "gone"));
    assert_eq!(status.path, ["model", "flumen"]);
}

#[tokio::test]
async fn a_caller_that_is_gone_ends_its_handler() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    raw.begin(1, "Wait").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
    drop(raw);
    let cancel = soon(server.dropped.recv()).await.unwrap().unwrap();
    assert_eq!(cancel.wire, Some(12013));
    soon(server.ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_takes_no_new_ones() {
    let mut server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Echo")).await.unwrap();
    outbound.send("before".into()).await.unwrap();
    assert_eq!(soon(inbound.next()).await.unwrap().unwrap(), "before");
    let mut idle = server.raw().await;
    server.shutdown.drain();
    assert!(soon(idle.next()).await.is_none(), "a connection without calls ends");
    soon(server.ended.recv()).await.unwrap().unwrap();
    outbound.send("after".into()).await.unwrap();
    assert_eq!(soon(inbound.next()).await.unwrap().unwrap(), "after");
    outbound.close().await.unwrap();
    assert!(soon(inbound.next()).await.is_none());
    soon(server.ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drained_connection_refuses_further_streams() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    raw.begin(1, "Echo").await;
    raw.data(1, "x").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
    assert_eq!(soon(raw.next()).await.unwrap().payload, "x");
    server.shutdown.drain();
    raw.begin(2, "Echo").await;
    let frames = soon(raw.whole(2)).await;
    assert_eq!(frames.last().unwrap().0, Kind::Trailer);
    assert!(!frames.last().unwrap().1.is_empty(), "the trailer tells why");
    raw.close(1).await;
    assert_eq!(soon(raw.whole(1)).await, [(Kind::Trailer, Bytes::new())]);
    assert!(soon(raw.next()).await.is_none());
}

#[tokio::test]
async fn an_abort_resets_what_is_left() {
    let mut server = Server::start().await;
    let mut exchange = waiting(&server).await;
    server.shutdown.abort();
    let status = soon(exchange.inbound.next()).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.wire), (Code::Unavailable, Some(12006)));
    assert_eq!(soon(server.dropped.recv()).await.unwrap().unwrap().wire, Some(12006));
    soon(server.ended.recv()).await.unwrap().unwrap();
}
