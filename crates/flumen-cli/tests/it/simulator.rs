//! The simulator alone is a second OpenAI-compatible server, and the gateway in front of it changes nothing.

use std::net::SocketAddr;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::support::{Client, Gateway, chat, command, post, soon};

pub(crate) async fn start(arguments: &[&str]) -> (Child, SocketAddr) {
    let mut child = command(&[&["sim", "--listen", "127.0.0.1:0"], arguments].concat()).spawn().unwrap();
    let mut line = String::new();
    soon(BufReader::new(child.stderr.take().unwrap()).read_line(&mut line)).await.unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().trim_end_matches("/v1").parse().unwrap();
    (child, address)
}

fn without_ids(stream: &str) -> String {
    let id = stream.find("chatcmpl-sim-").map(|at| stream[at..at + 29].to_owned()).unwrap();
    stream.replace(&id, "ID")
}

#[tokio::test]
async fn the_same_answer_comes_directly_and_through_the_gateway() {
    let (_sim, address) = start(&["--tokens-per-second", "0"]).await;
    let gateway = Gateway::before(address, "").await;
    let mut body = chat("sim:seed=4,ttft=1ms,tokens=300");
    body["stream_options"] = json!({"include_usage": true});
    let direct = post(address, "/v1/chat/completions", &body).await.text();
    let relayed = post(gateway.address, "/v1/chat/completions", &body).await.text();
    let created = |text: &str| {
        let at = text.find("\"created\":").unwrap() + 10;
        text[at..at + 10].to_owned()
    };
    assert_eq!(
        without_ids(&direct).replace(&created(&direct), "T"),
        without_ids(&relayed).replace(&created(&relayed), "T")
    );
}

#[tokio::test]
async fn it_tells_when_answers_are_abandoned() {
    let (_sim, address) = start(&[]).await;
    let gateway = Gateway::before(address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("sim:tokens=endless,tps=1000,ttft=1ms")).await;
    client.until("data: ").await;
    drop(client);
    soon(async {
        loop {
            let stats = Client::get(address, "/sim/stats").await.json();
            if stats["aborted"] == 1 && stats["active"] == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn built_in_faults_become_honest_ends() {
    let mut gateway = Gateway::start("[timeouts]\nidle = \"300ms\"\nfirst_token = \"600ms\"\n").await;
    for (fault, status, cause, last) in [
        ("cut@3", 200, "upstream_error", "upstream_broken"),
        ("end@3", 200, "upstream_truncated", "upstream_truncated"),
        ("unterminated@3", 200, "upstream_truncated", "upstream_truncated"),
        ("garbage@3", 200, "upstream_truncated", "upstream_truncated"),
        ("error@3", 200, "upstream_error", "sim_fault"),
        ("stall@3", 200, "idle_timeout", "idle_timeout"),
        ("error@0", 502, "upstream_error", "sim_fault"),
        ("cut@0", 502, "upstream_error", "upstream_broken"),
        ("stall@0", 504, "first_token_timeout", "first_token_timeout"),
        ("status:503", 503, "upstream_error", "sim_fault"),
    ] {
        let body = chat(&format!("sim:tps=500,ttft=1ms,fault={fault}"));
        let answer = post(gateway.address, "/v1/chat/completions", &body).await;
        assert_eq!((answer.status, answer.complete), (status, true), "{fault}");
        assert!(answer.text().contains(&format!("\"code\":\"{last}\"")), "{fault}: {}", answer.text());
        assert!(!answer.text().contains("[DONE]"), "{fault}");
        assert_eq!(gateway.access().await["cause"], cause, "{fault}");
    }
    let slow = post(gateway.address, "/v1/chat/completions", &chat("sim:header=5s")).await;
    assert_eq!(slow.code(), "first_token_timeout");
}
