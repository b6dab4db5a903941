use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use flumen_rpc::{
    Exchange,
    ttheader::{Kind, Limits},
};
use futures_util::FutureExt;

use super::server::{Server, call, settle, soon};

/// More than the buffers of two sockets and ours hold, and far less than a handler sends that is not held up.
const BOUND: usize = 24 << 20;

#[tokio::test]
async fn a_caller_that_does_not_read_holds_its_handler_up() {
    let mut server = Server::start().await;
    let Exchange { outbound, mut inbound } = server.client().stream(&call("Flood")).await.unwrap();
    outbound.close().await.unwrap();
    soon(inbound.next()).await.unwrap().unwrap();
    settle().await;
    let sent = server.flooded.load(Relaxed);
    assert!(sent > 0 && sent < BOUND, "{sent}");
    settle().await;
    assert_eq!(server.flooded.load(Relaxed), sent, "it stands still");
    for _ in 0..BOUND / 8192 {
        soon(inbound.next()).await.unwrap().unwrap();
    }
    assert!(server.flooded.load(Relaxed) > sent, "reading lets it go on");
    drop(inbound);
    assert_eq!(soon(server.dropped.recv()).await.unwrap().unwrap().wire, Some(12007));
}

#[tokio::test]
async fn a_handler_that_does_not_read_holds_its_caller_up_and_nothing_goes_twice() {
    let server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Gate")).await.unwrap();
    let message = Bytes::from(vec![0xff; 64 * 1024]);
    let (mut went, mut refused) = (0, 0);
    while refused < 2 {
        if outbound.try_send(message.clone()) {
            went += 1;
            refused = 0;
        } else {
            refused += 1;
            settle().await;
        }
        assert!(went * message.len() < BOUND, "nobody reads");
    }
    assert!(outbound.ready().now_or_never().is_none());
    server.gate.lock().unwrap().take().unwrap().send(()).unwrap();
    let (closed, answer) = soon(async { tokio::join!(outbound.close(), inbound.next()) }).await;
    closed.unwrap();
    assert_eq!(answer.unwrap().unwrap(), format!("{went} {} false", went * message.len()));
}

#[tokio::test]
async fn the_receiver_writes_what_the_sender_has_left() {
    let server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Echo")).await.unwrap();
    let message = Bytes::from(vec![1; 3 << 20]);
    assert!(outbound.try_send(message.clone()));
    // From here on only the receiver is polled, though most of the message is still to be written.
    assert_eq!(soon(inbound.next()).await.unwrap().unwrap(), message);
}

#[tokio::test]
async fn requests_beyond_what_a_stream_may_hold_stay_in_the_socket() {
    let server = Server::with(Limits { requests: 4096, ..Limits::default() }).await;
    let mut raw = server.raw().await;
    raw.begin(1, "Gate").await;
    raw.begin(2, "Echo").await;
    raw.data(2, "early").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
    assert_eq!(soon(raw.next()).await.unwrap().payload, "early");
    for _ in 0..10 {
        raw.data(1, vec![0xff; 1024]).await;
    }
    raw.data(2, "late").await;
    settle().await;
    // The gate's requests are full: that holds up the other stream too, which is what the protocol costs.
    assert!(raw.next().now_or_never().is_none());
    server.gate.lock().unwrap().take().unwrap().send(()).unwrap();
    assert_eq!(soon(raw.next()).await.unwrap().payload, "late");
    raw.close(1).await;
    assert_eq!(soon(raw.whole(1)).await[1], (Kind::Data, "10 10240 false".into()));
}

#[tokio::test]
async fn empty_requests_count_too() {
    let server = Server::with(Limits { requests: 4096, ..Limits::default() }).await;
    let mut raw = server.raw().await;
    raw.begin(1, "Gate").await;
    for _ in 0..100 {
        raw.data(1, "").await;
    }
    raw.begin(2, "Fail").await;
    settle().await;
    assert!(raw.next().now_or_never().is_none(), "a hundred empty ones are enough");
    server.gate.lock().unwrap().take().unwrap().send(()).unwrap();
    assert_eq!(soon(raw.next()).await.unwrap().id, 2);
}

#[tokio::test]
async fn refusals_that_nobody_reads_have_an_end() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    // Each is answered without a handler; a peer that does not read the answers cannot go on asking.
    for id in 1.. {
        assert!(id < 400_000, "nobody reads the answers");
        tokio::select! {
            biased;
            () = raw.begin(id, "Nope") => {}
            () = settle() => break,
        }
    }
}
