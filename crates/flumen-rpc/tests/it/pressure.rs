//! Who waits for whom.

use std::time::Duration;

use flumen_rpc::{Client, Encoding, Exchange, grpc};
use tokio::time::{Instant, timeout};

use crate::support::{
    Carrier, Plan, Server,
    scenarios::{self, call},
    within,
};

/// Messages that an endless download of this size comes to while nobody reads: those of `Ended::sent`.
async fn produced_while_unread(carrier: Carrier, size: i32) -> i64 {
    let server = Server::start();
    let client = carrier.client(server.address);
    let plan = Plan { endless: true, size, ..Plan::default() };
    let mut exchange = scenarios::download(&client, &call("Download"), &plan).await;
    scenarios::next(&mut exchange, client.encoding()).await.unwrap().unwrap();
    // The service stands still when a second endless stream beside it, which is read, has had many more.
    let mut other = scenarios::download(&client, &call("Download"), &plan).await;
    for _ in 0..20_000 {
        scenarios::next(&mut other, client.encoding()).await.unwrap().unwrap();
    }
    drop(exchange);
    server.ends.of("Download").await.sent
}

#[tokio::test]
async fn a_reader_that_stalls_stops_its_service() {
    for (carrier, bound) in [
        // The stream's window, both sides' logs, and a frame or two.
        (Carrier::ProtoGrpc, 400_i64),
        (Carrier::ThriftGrpc, 400),
        // The kernel's buffers of one connection.
        (Carrier::TtHeader, 6000),
    ] {
        let produced = produced_while_unread(carrier, 1024).await;
        assert!(produced < bound, "{carrier:?}: {produced} messages of 1 KiB for nobody");
    }
}

/// 99 streams that nobody reads, and one that is read, on one connection.
async fn siblings(size: i32) {
    let server = Server::start();
    let options = grpc::Options { max_streams: 100, ..grpc::Options::default() };
    let client: Client = Carrier::ProtoGrpc.client_with(server.address, options);
    let alone = read_all(&client, size).await;
    let endless = Plan { endless: true, size, ..Plan::default() };
    let mut paused: Vec<Exchange> = Vec::new();
    for _ in 0..99 {
        let mut exchange = scenarios::download(&client, &call("Download"), &endless).await;
        scenarios::next(&mut exchange, Encoding::Proto).await.unwrap().unwrap();
        paused.push(exchange);
    }
    let beside = read_all(&client, size).await;
    println!("{size} bytes: 20,000 messages took {alone:?} alone and {beside:?} beside 99 paused streams");
    // And the paused ones go on where they were.
    for exchange in &mut paused {
        for seq in 1..50 {
            assert_eq!(scenarios::next(exchange, Encoding::Proto).await.unwrap().unwrap().seq, seq);
        }
    }
}

/// Reads 20,000 messages, and tells how long that took.
async fn read_all(client: &Client, size: i32) -> Duration {
    let began = Instant::now();
    let plan = Plan { count: 20_000, size, ..Plan::default() };
    let mut exchange = scenarios::download(client, &call("Download"), &plan).await;
    let (count, end) = scenarios::drain(&mut exchange, Encoding::Proto, 0).await;
    assert_eq!((count, end), (20_000, None), "frames of {size} bytes");
    began.elapsed()
}

/// RUSTSEC-2026-0258: unread small frames count against their connection.
#[tokio::test]
async fn paused_streams_neither_starve_nor_kill_their_siblings() {
    for size in [8, 64, 207, 400] {
        Box::pin(within(siblings(size))).await;
    }
}

#[tokio::test]
async fn a_service_that_does_not_read_stops_its_caller() {
    for carrier in Carrier::ALL {
        let server = Server::start();
        let client = carrier.client(server.address);
        // A download reads one message and no more.
        let plan = Plan { endless: true, interval_us: 1000, ..Plan::default() };
        let Exchange { mut outbound, inbound } = scenarios::download(&client, &call("Download"), &plan).await;
        let message = bytes::Bytes::from(vec![0; 1024]);
        let (mut sent, until) = (0, Instant::now() + Duration::from_secs(20));
        while timeout(Duration::from_millis(300), outbound.send(message.clone())).await.is_ok() {
            sent += 1;
            assert!(sent < 20_000 && Instant::now() < until, "{carrier:?}: nothing holds the caller up");
        }
        drop((outbound, inbound));
    }
}
