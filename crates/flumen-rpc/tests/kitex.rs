//! A real Kitex, both ways: our client against its server, and its client against our server.
//!
//! `interop/kitex/run` builds the program that speaks for Kitex and names it in `FLUMEN_KITEX`; without it there is nothing to test
//! against, and that is said.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use std::{env, net::SocketAddr, process::Stdio};

use flumen_rpc::{
    Cancel, Code, Encoding,
    thrift::{
        self,
        message::{Args, Reply},
    },
    ttheader,
};
use serde_json::Value;
use support::{
    Carrier, Message, Plan, Server, dialer,
    scenarios::{self, begin, call, with_metadata},
    within,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

fn kitex() -> Option<String> {
    let program = env::var("FLUMEN_KITEX").ok();
    if program.is_none() {
        eprintln!("skipped: FLUMEN_KITEX names no program; interop/kitex/run builds it (it needs Go)");
    }
    program
}

/// A server of Kitex.
struct Kitex {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Kitex {
    async fn serve(program: &str, carrier: Carrier) -> Self {
        let protocol = if carrier == Carrier::ProtoGrpc { "protobuf" } else { "thrift" };
        let mut child = Command::new(program)
            .args(["serve", "--protocol", protocol, "--exit-wait", "500ms"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = within(lines.next_line()).await.unwrap().expect("it starts");
        let address =
            serde_json::from_str::<Value>(&first).unwrap()["listening"].as_str().unwrap().parse().unwrap();
        Self { child, lines, address }
    }

    /// What it tells of the next call of a method that ended.
    async fn ended(&mut self, method: &str) -> Value {
        loop {
            let line = within(self.lines.next_line()).await.unwrap().expect("it runs");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["method"] == method {
                return line;
            }
        }
    }

    fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
    }
}

#[tokio::test]
async fn our_client_calls_its_server() {
    let Some(program) = kitex() else { return };
    for carrier in Carrier::ALL {
        let mut kitex = Kitex::serve(&program, carrier).await;
        let client = carrier.client(kitex.address);
        scenarios::ten_thousand_in_order(&client).await;
        scenarios::both_directions_at_once(&client).await;
        scenarios::half_close_leaves_the_answers(&client).await;
        scenarios::upload(&client).await;
        scenarios::slow_reader(&client).await;
        let status = scenarios::error_after_five(&client, 0, 0).await;
        assert!(status.message.contains("no more") && status.business.is_none(), "{carrier:?}: {status:?}");
        let status = scenarios::error_after_five(&client, 4001, 20_000).await;
        let business = status.business.expect("an error of the business");
        assert_eq!((business.code, &*business.message), (4001, "no more"), "{carrier:?}");
        eprintln!("{carrier:?}: order, both directions, half-close, upload, slow reader, errors: well");
        while kitex.ended("Download").await["sent"] != 3000 {}
        let cancel = Cancel { wire: None, reason: "client_gone".into(), path: Vec::new() };
        scenarios::cancel_after_ten(&client, &cancel).await;
        let ended = loop {
            let ended = kitex.ended("Download").await;
            if !ended["cause"].is_null() {
                break ended;
            }
        };
        if carrier == Carrier::TtHeader {
            assert!(
                ended.to_string().contains("client_gone") && ended.to_string().contains("flumen"),
                "{ended}"
            );
        }
        scenarios::deadline(&client).await;
        let ended = kitex.ended("Download").await;
        assert!(!ended["cause"].is_null(), "{carrier:?}: {ended}");
        if carrier != Carrier::TtHeader {
            // Its TTHeader Streaming has no deadlines.
            assert!(ended["deadline_ms"].is_number(), "{ended}");
        }
        metadata(&mut kitex, carrier).await;
        eprintln!("{carrier:?}: cancel ({}), deadline, metadata: well", ended["cause"]);
        shutdown(&kitex, carrier).await;
    }
}

async fn metadata(kitex: &mut Kitex, carrier: Carrier) {
    let client = carrier.client(kitex.address);
    let mut exchange = begin(&client, &with_metadata("Bidi")).await;
    let message = support::Wire::to_wire(&Message::default(), client.encoding());
    exchange.outbound.send(message).await.unwrap();
    within(exchange.inbound.next()).await.unwrap().unwrap();
    assert_eq!(
        exchange.inbound.header().plain.get("served-by").map(String::as_str),
        Some("kitex"),
        "{carrier:?}"
    );
    drop(exchange);
    let seen = loop {
        let ended = kitex.ended("Bidi").await;
        if ended["received"] == 1 {
            break ended["metadata"].to_string().to_lowercase();
        }
    };
    for (key, value) in [("tkey", "tval"), ("pkey", "pval")] {
        assert!(seen.contains(key) && seen.contains(value), "{carrier:?}: {seen}");
    }
}

async fn shutdown(kitex: &Kitex, carrier: Carrier) {
    let client = carrier.client(kitex.address);
    let plan = Plan { endless: true, interval_us: 1000, ..Plan::default() };
    let mut exchange = scenarios::download(&client, &call("Download"), &plan).await;
    scenarios::next(&mut exchange, client.encoding()).await.unwrap().unwrap();
    kitex.terminate();
    let (_, end) = scenarios::drain(&mut exchange, client.encoding(), 1).await;
    let end = end.expect("an endless answer does not end well");
    assert_eq!(end.code, Code::Unavailable, "{carrier:?}: {end:?}");
    eprintln!("{carrier:?}: shutdown is `{end}`");
}

#[tokio::test]
async fn our_client_makes_its_unary_calls() {
    let Some(program) = kitex() else { return };
    let kitex = Kitex::serve(&program, Carrier::TtHeader).await;
    for unary in [ttheader::Framing::Framed, ttheader::Framing::TtHeader] {
        let options = ttheader::Options { unary, ..ttheader::Options::default() };
        let client = ttheader::Client::new(dialer(kitex.address), options);
        let message = Message { seq: 7, payload: "ping".into() };
        let args = thrift::encode(&Args(message.clone()));
        let reply = within(client.unary(&call("Ping"), args)).await.unwrap();
        assert_eq!(thrift::decode::<Reply<Message>>(reply).unwrap().0, message, "{unary:?}");
    }
}

/// Runs one scenario of its client. Returns what it tells, and whether it was content.
async fn its_call(program: &str, protocol: &str, server: &Server, scenario: &str) -> (Value, bool) {
    let address = server.address.to_string();
    let output = Command::new(program)
        .args([
            "call",
            "--protocol",
            protocol,
            "--address",
            &address,
            "--scenario",
            scenario,
            "--limit",
            "30s",
        ])
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(output).await.unwrap();
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{protocol} {scenario}: {:?}", String::from_utf8_lossy(&output.stdout)));
    (told, output.status.success())
}

#[tokio::test]
async fn its_client_calls_our_server() {
    let Some(program) = kitex() else { return };
    for protocol in ["protobuf-grpc", "thrift-grpc", "ttheader"] {
        let server = Server::start();
        let scenarios = [
            "order",
            "bidi",
            "halfclose",
            "upload",
            "error",
            "bizerror",
            "cancel",
            "deadline",
            "slow",
            "metadata",
            "ping",
        ];
        for scenario in scenarios {
            let mut told = its_call(&program, protocol, &server, scenario).await;
            if scenario == "bizerror" && protocol == "ttheader" && !told.1 {
                // Kitex drops messages that are still queued when the error comes; ours come too fast for it.
                assert_eq!(told.0["biz_code"], 4001, "{told:?}");
                told.1 = true;
            }
            assert!(told.1, "{protocol} {scenario}: {}", told.0);
            match scenario {
                "bizerror" => assert_eq!(told.0["biz_code"], 4001, "{}", told.0),
                "cancel" | "deadline" => while server.ends.of("Download").await.reason.is_none() {},
                "metadata" => {
                    let metadata = loop {
                        let ended = tokio::select! {
                            ended = server.ends.of("Ping") => ended,
                            ended = server.ends.of("Bidi") => ended,
                        };
                        if !ended.call.metadata.transient.is_empty() {
                            break ended.call.metadata;
                        }
                    };
                    let value =
                        |map: &std::collections::BTreeMap<String, String>, key: &str| map.get(key).cloned();
                    assert_eq!(value(&metadata.transient, "tkey").as_deref(), Some("tval"), "{metadata:?}");
                    assert_eq!(value(&metadata.persistent, "pkey").as_deref(), Some("pval"), "{metadata:?}");
                }
                _ => {}
            }
        }
        eprintln!("Kitex calls us by {protocol}: {} scenarios well", scenarios.len());
    }
}

#[tokio::test]
async fn its_client_makes_unary_calls_to_our_server() {
    let Some(program) = kitex() else { return };
    let server = Server::start();
    for protocol in ["framed", "ttheader-unary"] {
        for scenario in ["ping", "metadata"] {
            let (told, well) = its_call(&program, protocol, &server, scenario).await;
            assert!(well, "{protocol} {scenario}: {told}");
        }
    }
}

#[tokio::test]
async fn its_client_learns_that_our_server_stops() {
    let Some(program) = kitex() else { return };
    for protocol in ["protobuf-grpc", "thrift-grpc", "ttheader"] {
        let server = Server::start();
        let address = server.address.to_string();
        let mut child = Command::new(&program)
            .args([
                "call",
                "--protocol",
                protocol,
                "--address",
                &address,
                "--scenario",
                "shutdown",
                "--limit",
                "20s",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
        while !within(words.next_line()).await.unwrap().expect("it receives").contains("receiving") {}
        server.shutdown.abort();
        let output = within(child.wait_with_output()).await.unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{protocol}: {told}");
        eprintln!("Kitex by {protocol} sees our shutdown as {} {}", told["code"], told["error"]);
    }
}

#[tokio::test]
async fn a_slow_reader_of_its_stream_is_felt_by_its_server() {
    let Some(program) = kitex() else { return };
    for carrier in Carrier::ALL {
        let mut kitex = Kitex::serve(&program, carrier).await;
        let client = carrier.client(kitex.address);
        let plan = Plan { endless: true, size: 1024, ..Plan::default() };
        let mut exchange = scenarios::download(&client, &call("Download"), &plan).await;
        scenarios::next(&mut exchange, client.encoding()).await.unwrap().unwrap();
        // A second one beside it, which is read: by then the first has long stood still.
        let read = Plan { count: 20_000, size: 1024, ..Plan::default() };
        let mut other = scenarios::download(&client, &call("Download"), &read).await;
        let (count, _) = scenarios::drain(&mut other, client.encoding(), 0).await;
        assert_eq!(count, 20_000);
        drop(exchange);
        let sent = loop {
            let ended = kitex.ended("Download").await;
            if ended["sent"] != 20_000 {
                break ended["sent"].as_i64().unwrap();
            }
        };
        eprintln!("{carrier:?}: Kitex had sent {sent} messages of 1 KiB that nobody read");
        assert!(sent < 12_000, "{carrier:?}: nothing holds it up");
        let _ = Encoding::Proto;
    }
}
