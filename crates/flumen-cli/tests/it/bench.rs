//! `flumen bench` measures what is there, and says in one line when there is nothing to measure.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, command, soon};

async fn bench(url: &str, model: &str, more: &[&str]) -> Output {
    let common =
        ["bench", url, "--model", model, "--ramp", "10ms", "--settle", "10ms", "--duration", "300ms"];
    soon(command(&[&common, more].concat()).output()).await.unwrap()
}

async fn report(url: &str, model: &str, more: &[&str]) -> Value {
    let output = bench(url, model, &[more, &["--json"]].concat()).await;
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)))
}

fn url(address: std::net::SocketAddr) -> String {
    format!("http://{address}/v1")
}

#[tokio::test]
async fn streams_are_read_checked_and_counted() {
    let gateway = Gateway::start("").await;
    let pid = gateway.pid().to_string();
    let report =
        report(&url(gateway.address), "sim:ttft=1ms,tps=0,tokens=50", &["--streams", "4", "--pid", &pid])
            .await;
    assert_eq!(report["errors"], json!({}));
    for figure in ["streams_per_second", "events_per_second", "bytes_per_second"] {
        assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    for times in ["first_token", "one_way_delay"] {
        assert!(report[times]["count"].as_u64().unwrap() > 0, "{times}");
    }
    assert!(report["process"]["cpu_us_per_event"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn an_open_load_begins_streams_at_its_own_rate() {
    let gateway = Gateway::start("").await;
    let report = report(&url(gateway.address), "sim:ttft=1ms,tps=0,tokens=5", &["--rate", "100"]).await;
    let begun = report["streams_begun"].as_u64().unwrap();
    assert!(begun >= 30, "{begun}: late ones are caught up with");
}

#[tokio::test]
async fn what_goes_wrong_is_counted_by_kind_and_makes_the_command_fail() {
    let gateway = Gateway::start("").await;
    for (fault, kind) in [("end@3", "error event upstream_truncated"), ("error@3", "error event sim_fault")] {
        let model = format!("sim:ttft=1ms,tps=500,fault={fault}");
        let output = bench(&url(gateway.address), &model, &[]).await;
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(table.contains(&format!("error: {kind}: ")), "{table}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[tokio::test]
async fn nothing_to_measure_is_said_in_one_line() {
    let gateway = Gateway::start("").await;
    let page = Upstream::page().await;
    let unended = Upstream::events(&[": nothing but a comment\n\n"]).await;
    let garbage = Upstream::garbage().await;
    let silent = Upstream::silent().await;
    for (url, model, said) in [
        ("http://127.0.0.1:1/v1".to_owned(), "m", "127.0.0.1:1"),
        (url(page.address), "m", "no event stream"),
        (url(unended.address), "m", "[DONE]"),
        (url(garbage.address), "m", "not what the OpenAI API sends"),
        (url(silent.address), "m", "no response header"),
        (url(gateway.address), "none", "404"),
        (url(gateway.address), "sim:fault=status:401", "the server answered"),
    ] {
        let output = bench(&url, model, &["--timeout", "500ms"]).await;
        let line = String::from_utf8_lossy(&output.stderr);
        assert!(line.contains(said) && line.trim().lines().count() == 1, "{url}: {line}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{url}");
    }
}

#[tokio::test]
async fn clients_that_leave_are_matched_with_the_simulators_aborts() {
    let (_sim, address) = crate::simulator::start(&[]).await;
    let gateway = Gateway::before(address, "").await;
    let sim = format!("http://{address}");
    let report = report(
        &url(gateway.address),
        "sim:ttft=1h",
        &["--streams", "5", "--leave-after", "150ms", "--sim", &sim],
    )
    .await;
    assert_eq!(report["errors"], json!({}));
    assert!(report["cancel"]["count"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn streams_that_are_cut_all_the_time_are_whole() {
    let gateway = Gateway::start("").await;
    let model = "sim:ttft=1ms,tps=1000,tokens=40";
    for chaos in ["cut-every=7", "cut-all=30ms"] {
        let report =
            report(&url(gateway.address), model, &["--streams", "8", "--resume", "--chaos", chaos]).await;
        assert_eq!(report["errors"], json!({}), "{chaos}");
        assert!(report["resume"]["count"].as_u64().unwrap() > 10, "{chaos}: {report}");
        assert!(report["streams_per_second"].as_f64().unwrap() > 0.0);
    }
    let output = bench(&url(gateway.address), model, &["--chaos", "cut-every=7"]).await;
    assert_eq!(output.status.code(), Some(2), "chaos needs streams that resume");
}
