//! What every protocol promises of a call.

use flumen_rpc::{Cancel, Code};

use crate::support::{
    Carrier, Server, Wire,
    echo::Message,
    scenarios::{self, begin, call},
    within,
};

macro_rules! for_every_carrier {
    ($($name:ident => $test:ident;)*) => {
        $(mod $name {
            #[tokio::test]
            async fn by_proto_grpc() {
                super::$test(crate::support::Carrier::ProtoGrpc).await;
            }
            #[tokio::test]
            async fn by_thrift_grpc() {
                super::$test(crate::support::Carrier::ThriftGrpc).await;
            }
            #[tokio::test]
            async fn by_ttheader() {
                super::$test(crate::support::Carrier::TtHeader).await;
            }
        })*
    };
}

for_every_carrier! {
    ten_thousand_messages_come_in_order => order;
    both_directions_go_at_once => bidi;
    after_a_half_close_the_answers_still_come => half_close;
    a_client_can_stream_up => upload;
    an_error_comes_after_what_was_sent_before_it => error;
    errors_of_the_business_keep_their_number => business;
    a_cancelled_call_drops_its_handler => cancel;
    an_inbound_half_that_is_dropped_cancels => dropping;
    an_outbound_half_that_is_dropped_breaks_the_call_off => lost_writer;
    a_deadline_ends_both_sides => deadline;
    a_slow_reader_gets_everything => slow;
    metadata_of_all_kinds_travels => metadata;
    an_unknown_method_is_an_error => unknown;
    a_server_that_stops_says_so => shutdown;
    a_server_that_is_gone_is_an_error => gone;
}

async fn order(carrier: Carrier) {
    let server = Server::start();
    let trailer = scenarios::ten_thousand_in_order(&carrier.client(server.address)).await;
    assert_eq!(trailer.plain.get("sent").map(String::as_str), Some("10000"));
}

async fn bidi(carrier: Carrier) {
    let server = Server::start();
    scenarios::both_directions_at_once(&carrier.client(server.address)).await;
}

async fn half_close(carrier: Carrier) {
    let server = Server::start();
    scenarios::half_close_leaves_the_answers(&carrier.client(server.address)).await;
}

async fn upload(carrier: Carrier) {
    let server = Server::start();
    scenarios::upload(&carrier.client(server.address)).await;
}

async fn error(carrier: Carrier) {
    let server = Server::start();
    let status = scenarios::error_after_five(&carrier.client(server.address), 0, 0).await;
    assert_eq!(status.message, "no more");
    assert!(status.business.is_none(), "{status:?}");
}

async fn business(carrier: Carrier) {
    let server = Server::start();
    let status = scenarios::error_after_five(&carrier.client(server.address), 4001, 0).await;
    let business = status.business.expect("an error of the business");
    assert_eq!((business.code, &*business.message), (4001, "no more"));
}

async fn cancel(carrier: Carrier) {
    let server = Server::start();
    let cancel = Cancel { wire: None, reason: "client_gone".into(), path: Vec::new() };
    scenarios::cancel_after_ten(&carrier.client(server.address), &cancel).await;
    let reason = server.ends.of("Download").await.reason.expect("cancelled");
    if carrier == Carrier::TtHeader {
        // gRPC has no words for it.
        assert_eq!((&*reason.reason, &reason.path[..]), ("client_gone", &["flumen".to_owned()][..]));
    }
}

async fn dropping(carrier: Carrier) {
    let server = Server::start();
    let exchange = begin(&carrier.client(server.address), &call("Bidi")).await;
    let mut exchange = exchange;
    let encoding = carrier.client(server.address).encoding();
    exchange.outbound.send(Message { seq: 0, ..Message::default() }.to_wire(encoding)).await.unwrap();
    within(exchange.inbound.next()).await.unwrap().unwrap();
    drop(exchange.inbound);
    let ended = server.ends.of("Bidi").await;
    assert!(ended.received == 1, "{ended:?}");
}

async fn lost_writer(carrier: Carrier) {
    let server = Server::start();
    let client = carrier.client(server.address);
    let mut exchange = begin(&client, &call("Upload")).await;
    exchange.outbound.send(Message::default().to_wire(client.encoding())).await.unwrap();
    drop(exchange.outbound);
    let end = within(exchange.inbound.next()).await;
    assert!(matches!(end, Some(Err(_))), "a lost writer must not look like a finished one: {end:?}");
}

async fn deadline(carrier: Carrier) {
    let server = Server::start();
    scenarios::deadline(&carrier.client(server.address)).await;
    let ended = server.ends.of("Download").await;
    assert!(ended.reason.is_some(), "{ended:?}");
}

async fn slow(carrier: Carrier) {
    let server = Server::start();
    scenarios::slow_reader(&carrier.client(server.address)).await;
}

async fn metadata(carrier: Carrier) {
    let server = Server::start();
    let client = carrier.client(server.address);
    let mut exchange = begin(&client, &scenarios::with_metadata("Bidi")).await;
    exchange.outbound.send(Message::default().to_wire(client.encoding())).await.unwrap();
    within(exchange.inbound.next()).await.unwrap().unwrap();
    drop(exchange);
    let metadata = server.ends.of("Bidi").await.call.metadata;
    assert_eq!(metadata.plain.get("x-request-id").map(String::as_str), Some("r-7"), "{metadata:?}");
    assert_eq!(metadata.plain.get("traceparent").map(String::as_str), Some("00-1-2-01"));
    assert_eq!(metadata.transient.get("tkey").map(String::as_str), Some("tval"), "{metadata:?}");
    assert_eq!(metadata.persistent.get("pkey").map(String::as_str), Some("pval"), "{metadata:?}");
}

async fn unknown(carrier: Carrier) {
    let server = Server::start();
    let client = carrier.client(server.address);
    let mut exchange = begin(&client, &call("Nothing")).await;
    let status = within(exchange.inbound.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code, Code::Unimplemented, "{status:?}");
}

async fn shutdown(carrier: Carrier) {
    let server = Server::start();
    let client = carrier.client(server.address);
    let plan = crate::support::Plan { endless: true, interval_us: 1000, ..Default::default() };
    let mut exchange = scenarios::download(&client, &call("Download"), &plan).await;
    scenarios::next(&mut exchange, client.encoding()).await.unwrap().unwrap();
    server.shutdown.abort();
    let (_, end) = scenarios::drain(&mut exchange, client.encoding(), 1).await;
    assert_eq!(end.unwrap().code, Code::Unavailable);
}

async fn gone(carrier: Carrier) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let status = within(carrier.client(address).stream(&call("Bidi"))).await.unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert!(status.connection.is_some() && status.may_be_tried_again(), "{status:?}");
}
