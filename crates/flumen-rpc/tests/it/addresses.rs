//! Which connections calls go by.

use flumen_rpc::{Client, Encoding, grpc, ttheader};

use crate::support::{
    Carrier, Plan, Server, dialer,
    scenarios::{self, call},
    within,
};

#[tokio::test]
async fn a_full_connection_gets_a_second_one_beside_it() {
    let server = Server::start();
    let options = grpc::Options { max_streams: 2, ..grpc::Options::default() };
    let client = Carrier::ProtoGrpc.client_with(server.address, options);
    let plan = Plan { endless: true, interval_us: 1000, ..Plan::default() };
    let mut running = Vec::new();
    for _ in 0..5 {
        let mut exchange = scenarios::download(&client, &call("Download"), &plan).await;
        scenarios::next(&mut exchange, Encoding::Proto).await.unwrap().unwrap();
        running.push(exchange);
    }
    assert_eq!(connections_to(server.address.port()), 3);
}

/// Connections of this machine to a port, as the kernel lists them.
fn connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!("0100007F:{port:04X}");
    let established = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(2) == Some(&&*remote) && fields.get(3) == Some(&"01")
    };
    table.lines().filter(established).count()
}

#[tokio::test]
async fn calls_are_spread_over_endpoints_and_go_around_one_that_is_down() {
    let (one, two) = (Server::start(), Server::start());
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dialers = || [down, one.address, two.address].map(dialer).into();
    for client in [
        Client::Grpc(grpc::Client::new(dialers(), Encoding::Proto, grpc::Options::default())),
        Client::TtHeader(ttheader::Client::spread(dialers(), ttheader::Options::default())),
    ] {
        let plan = Plan { endless: true, interval_us: 1000, ..Plan::default() };
        let mut running = Vec::new();
        for _ in 0..6 {
            let mut exchange = scenarios::download(&client, &call("Download"), &plan).await;
            scenarios::next(&mut exchange, client.encoding()).await.unwrap().unwrap();
            running.push(exchange);
        }
        drop(running);
        for _ in 0..2 {
            one.ends.of("Download").await;
            two.ends.of("Download").await;
        }
        // The two that are left went wherever the turn was.
        for _ in 0..2 {
            tokio::select! {
                _ = one.ends.of("Download") => {}
                _ = two.ends.of("Download") => {}
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut first = Server::start();
    let (address, client) = (first.address, Carrier::ProtoGrpc.client(first.address));
    scenarios::half_close_leaves_the_answers(&client).await;
    first.shutdown.abort();
    within(&mut first.serving).await.unwrap().unwrap();
    let second = crate::support::Server::at(address);
    scenarios::half_close_leaves_the_answers(&client).await;
    drop(second);
}
