use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use flumen_rpc::{
    Call, Code, Exchange, Inbound, Services, Status,
    ttheader::{self, Client, Frame, Info, Options, STREAMING},
};
use flumen_wire::{
    client::{self, Dialer},
    listen::{self, Gate, Listener, Shutdown},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::server::{Raw, Server, call, soon, until};

async fn rest(inbound: &mut Inbound) -> (Vec<Bytes>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match soon(inbound.next()).await {
            Some(Ok(message)) => messages.push(message),
            Some(Err(status)) => return (messages, Some(status)),
            None => return (messages, None),
        }
    }
}

#[tokio::test]
async fn ten_thousand_messages_come_in_order() {
    let server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Count")).await.unwrap();
    outbound.send("10000".into()).await.unwrap();
    outbound.close().await.unwrap();
    let (messages, end) = rest(&mut inbound).await;
    assert_eq!((messages.len(), end), (10_000, None));
    for (number, message) in (0u64..).zip(&messages) {
        assert_eq!(&message[..], number.to_be_bytes());
    }
    assert!(inbound.next().await.is_none(), "the end stays the end");
}

#[tokio::test]
async fn ten_thousand_requests_arrive_in_order() {
    let server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Collect")).await.unwrap();
    for number in 0u64..10_000 {
        outbound.send(Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
    }
    outbound.close().await.unwrap();
    assert_eq!(rest(&mut inbound).await, (vec!["10000 80000 true".into()], None));
}

#[tokio::test]
async fn each_message_comes_back_while_the_stream_goes_on() {
    let server = Server::start().await;
    let mut request = call("Echo").with("x-request-id", "9");
    request.metadata.transient.insert("tenant-id".into(), "t".into());
    request.metadata.persistent.insert("trace".into(), "p".into());
    let Exchange { mut outbound, mut inbound } = server.client().stream(&request).await.unwrap();
    for message in [&b"one"[..], b"", b"three"] {
        outbound.send(Bytes::from_static(message)).await.unwrap();
        assert_eq!(soon(inbound.next()).await.unwrap().unwrap(), message);
    }
    outbound.close().await.unwrap();
    assert_eq!(rest(&mut inbound).await, (vec![], None));
    assert_eq!(inbound.trailer(), &request.metadata, "metadata went there and came back");
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    let server = Server::start().await;
    let Exchange { mut outbound, mut inbound } = server.client().stream(&call("Echo")).await.unwrap();
    let message = Bytes::from((0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    // What is not taken at once is written by whoever reads.
    let (sent, back) = soon(async { tokio::join!(outbound.send(message.clone()), inbound.next()) }).await;
    sent.unwrap();
    assert_eq!(back.unwrap().unwrap(), message);
}

#[tokio::test]
async fn a_message_larger_than_allowed_ends_the_stream() {
    let server = Server::start().await;
    let client = server.client_with(Options { max_message: 100, ..Options::default() });
    let Exchange { mut outbound, mut inbound } = client.stream(&call("Echo")).await.unwrap();
    outbound.send(vec![0; 101].into()).await.unwrap();
    let (messages, end) = rest(&mut inbound).await;
    assert!(messages.is_empty());
    assert_eq!(end.unwrap().wire, Some(12004));
    assert_eq!(outbound.send(Bytes::new()).await.unwrap_err().wire, Some(12004), "both halves tell why");
}

#[tokio::test]
async fn an_error_keeps_its_code_and_what_came_before() {
    let server = Server::start().await;
    let mut exchange = server.client().stream(&call("Fail")).await.unwrap();
    let (_, status) = rest(&mut exchange.inbound).await;
    let status = status.unwrap();
    assert_eq!((status.code, &*status.message, status.wire), (Code::NotFound, "no such thing", Some(6)));
    let mut exchange = server.client().stream(&call("FailLate")).await.unwrap();
    let (messages, status) = rest(&mut exchange.inbound).await;
    assert_eq!((messages.len(), status.unwrap().wire), (1, Some(4242)));
    assert!(exchange.inbound.next().await.is_none());
}

#[tokio::test]
async fn an_error_of_the_business_is_none_of_the_call() {
    let server = Server::start().await;
    let mut exchange = server.client().stream(&call("Business")).await.unwrap();
    let (_, status) = rest(&mut exchange.inbound).await;
    let business = status.unwrap().business.unwrap();
    assert_eq!((business.code, &*business.message), (4001, "no more"));
    assert_eq!(business.extra, BTreeMap::from([("where".to_owned(), "here".to_owned())]));
}

#[tokio::test]
async fn a_handler_that_panics_is_an_error_of_its_call_only() {
    let server = Server::start().await;
    let client = server.client();
    let mut exchange = client.stream(&call("Panic")).await.unwrap();
    let (_, status) = rest(&mut exchange.inbound).await;
    assert_eq!(status.unwrap().code, Code::Internal);
    let mut exchange = client.stream(&call("Fail")).await.unwrap();
    assert_eq!(rest(&mut exchange.inbound).await.1.unwrap().code, Code::NotFound);
}

#[tokio::test]
async fn what_nobody_serves_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    let mut refused = client.stream(&call("Nope")).await.unwrap();
    let status = rest(&mut refused.inbound).await.1.unwrap();
    assert_eq!((status.code, status.wire), (Code::Unimplemented, Some(1)));
    let mut refused = client.stream(&Call::new("Other", "Nope")).await.unwrap();
    let status = rest(&mut refused.inbound).await.1.unwrap();
    assert_eq!((status.code, status.wire), (Code::Unimplemented, Some(20)));
    // Kitex finds a method without the right service, if only one has it.
    for service in ["Other", "", "go.pkg.Test"] {
        let mut found = client.stream(&Call::new(service, "Fail")).await.unwrap();
        assert_eq!(rest(&mut found.inbound).await.1.unwrap().code, Code::NotFound, "{service:?}");
    }
}

#[tokio::test]
async fn a_connection_serves_one_call_after_another() {
    let server = Server::start().await;
    let client = server.client();
    for round in 0..3 {
        let Exchange { mut outbound, mut inbound } = client.stream(&call("Count")).await.unwrap();
        outbound.send("3".into()).await.unwrap();
        if round != 1 {
            outbound.close().await.unwrap();
        }
        assert_eq!(rest(&mut inbound).await.0.len(), 3);
    }
    let mut exchange = client.stream(&call("Fail")).await.unwrap();
    rest(&mut exchange.inbound).await;
    assert_eq!(server.accepted.load(Relaxed), 1);
    let (_one, _other) =
        (client.stream(&call("Wait")).await.unwrap(), client.stream(&call("Wait")).await.unwrap());
    until(|| server.accepted.load(Relaxed) == 2).await;
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_not_used() {
    let mut server = Server::start().await;
    let client = server.client();
    let mut exchange = client.stream(&call("Fail")).await.unwrap();
    rest(&mut exchange.inbound).await;
    server.shutdown.drain();
    soon(server.ended.recv()).await.unwrap().unwrap();
    // The listener of this test still accepts, and the connection refuses: what matters is that it is a new one.
    let mut exchange = client.stream(&call("Fail")).await.unwrap();
    let status = rest(&mut exchange.inbound).await.1.unwrap();
    assert_eq!((status.code, status.wire), (Code::Unavailable, Some(12006)));
    assert_eq!(server.accepted.load(Relaxed), 2);
}

#[tokio::test]
async fn a_lost_connection_ends_the_call_after_what_had_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let dialer = Dialer::new(endpoint, client::Options::default()).unwrap();
    let client = Client::new(dialer, Options::default());
    let Exchange { mut outbound, mut inbound } = client.stream(&call("Echo")).await.unwrap();
    outbound.send("x".into()).await.unwrap();
    let mut peer = Raw::new(listener.accept().await.unwrap().0);
    let header = peer.next().await.unwrap();
    assert_eq!(peer.next().await.unwrap().payload, "x");
    peer.data(header.id, "y").await;
    drop(peer);
    let (messages, status) = rest(&mut inbound).await;
    assert_eq!(messages, ["y"]);
    assert_eq!((status.as_ref().unwrap().code, status.unwrap().wire), (Code::Unavailable, Some(12013)));
    assert_eq!(outbound.send("z".into()).await.unwrap_err().wire, Some(12013));
}

#[tokio::test]
async fn a_deadline_ends_both_sides() {
    let mut server = Server::start().await;
    let request = call("Wait").within(Duration::from_millis(60));
    let mut exchange = server.client().stream(&request).await.unwrap();
    let (messages, status) = rest(&mut exchange.inbound).await;
    let status = status.unwrap();
    assert_eq!((messages.len(), status.code, status.wire), (1, Code::DeadlineExceeded, Some(12015)));
    let cancel = soon(server.dropped.recv()).await.unwrap().unwrap();
    assert_eq!(cancel.wire, Some(12015));
    let late = server.client().stream(&call("Wait").within(Duration::ZERO)).await;
    assert_eq!(late.unwrap_err().code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_ends_a_handler_whose_caller_does_not_count() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    let info = Info::new(0x10, &[(27, "2"), (9, "Wait"), (12, "50")], [("isn", "Test")]);
    raw.send(&Frame { flags: STREAMING, id: 5, info, payload: Bytes::new() }).await;
    let frames = soon(raw.whole(5)).await;
    assert_eq!(frames.len(), 3, "header, message, trailer");
    assert_eq!(soon(server.dropped.recv()).await.unwrap().unwrap().wire, Some(12015));
}

#[tokio::test]
async fn one_port_serves_http_and_ttheader() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let services = Services::new()
        .method("Test", "Fail", |_| async { Err(Status::new(Code::NotFound, "no such thing")) });
    let listener =
        listener.besides(ttheader::beside(services, ttheader::Limits::default(), shutdown.clone()));
    let router = axum::Router::new().fallback(|| async { "http" });
    let serving = listener.serve(
        router,
        listen::Limits::default().into(),
        Gate::default().into(),
        None,
        shutdown.clone(),
    );
    let serving = tokio::spawn(serving);
    let dialer =
        || Dialer::new(format!("http://{address}").parse().unwrap(), client::Options::default()).unwrap();
    let mut exchange = Client::new(dialer(), Options::default()).stream(&call("Fail")).await.unwrap();
    assert_eq!(rest(&mut exchange.inbound).await.1.unwrap().code, Code::NotFound);
    let mut http = tokio::net::TcpStream::connect(address).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(http.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("http"), "{answer}");
    shutdown.drain();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn sending_to_a_peer_that_is_gone_fails_and_holds_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let client = Client::new(Dialer::new(endpoint, client::Options::default()).unwrap(), Options::default());
    let Exchange { mut outbound, mut inbound } = client.stream(&call("Echo")).await.unwrap();
    drop(listener.accept().await.unwrap());
    soon(async { while outbound.send(vec![0; 1024].into()).await.is_ok() {} }).await;
    assert_eq!(outbound.send("x".into()).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(outbound.ready().await.unwrap_err().code, Code::Unavailable);
    assert_eq!(rest(&mut inbound).await.1.unwrap().code, Code::Unavailable);
}
