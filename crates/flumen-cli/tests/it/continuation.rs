//! An answer whose upstream dies in the middle goes on at another, and its reader does not notice; or is told in one word.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::{Value, json};
use tokio::process::Child;

use crate::{
    simulator,
    support::{Answer, Client, Gateway, Upstream, event, pooled, post_with, soon},
};

const PATH: &str = "/v1/chat/completions";
const CAN: &str = "continuation = \"continue-final-message\"";
const SPEED: [&str; 8] =
    ["--tokens-per-second", "400", "--first-token", "1ms", "--tokens", "60", "--seed", "7"];

fn body() -> Value {
    json!({
        "model": "sim", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Tell me about the river."}],
    })
}

/// What the events of an answer say, taken together.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    roles: usize,
    ids: BTreeSet<String>,
    usages: Vec<Value>,
    finished: Vec<String>,
    errors: Vec<String>,
    done: usize,
}

fn said(answer: &str) -> Said {
    let mut said = Said::default();
    for data in answer.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            said.done += 1;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        if let Some(code) = chunk["error"]["code"].as_str() {
            said.errors.push(code.to_owned());
            continue;
        }
        said.ids.extend(chunk["id"].as_str().map(str::to_owned));
        said.usages.extend(Some(chunk["usage"].clone()).filter(Value::is_object));
        let Some(choice) = chunk["choices"].get(0) else { continue };
        said.roles += usize::from(choice["delta"]["role"].is_string());
        said.text += choice["delta"]["content"].as_str().unwrap_or_default();
        said.finished.extend(choice["finish_reason"].as_str().map(str::to_owned));
    }
    said
}

/// Two simulators with the same text, of which the first is made to fail, and a gateway before them.
async fn two(fault: &str, pool: &str, more: &str) -> ([Child; 2], SocketAddr, Gateway) {
    let (a, a_at) = simulator::start(&SPEED).await;
    let (b, b_at) = simulator::start(&SPEED).await;
    let own = format!("{CAN}\nheaders = {{ flumen-sim = \"{fault}\" }}");
    let gateway = Gateway::start(&pooled(&[("a", a_at, &own), ("b", b_at, CAN)], pool, more)).await;
    ([a, b], b_at, gateway)
}

/// What is the same as in an answer that nothing has interrupted.
fn assert_seamless(answer: &Answer, direct: &Answer) {
    let (said, whole) = (said(&answer.text()), said(&direct.text()));
    assert_eq!(said.text, whole.text);
    assert_eq!((said.roles, said.ids.len(), said.done), (1, 1, 1), "{}", answer.text());
    assert_eq!((&said.usages, &said.finished), (&whole.usages, &whole.finished));
    assert!(said.errors.is_empty() && answer.complete);
}

#[tokio::test]
async fn whatever_breaks_the_text_is_the_uninterrupted_one() {
    for fault in [
        "cut@59",
        "cut@60",
        "cut@1",
        "cut@20",
        "end@30",
        "error@10",
        "garbage@10",
        "unterminated@15",
        "stall@25",
    ] {
        for resumable in [false, true] {
            let more = "[timeouts]\nidle = \"500ms\"\n";
            let (_sims, direct, mut gateway) = two(&format!("fault={fault}"), "continues = true", more).await;
            let headers: &[_] = if resumable { &[("flumen-resume", "1")] } else { &[] };
            let direct = post_with(direct, &[], &body()).await;
            let answer = post_with(gateway.address, headers, &body()).await;
            assert_seamless(&answer, &direct);
            let line = gateway.access().await;
            assert_eq!((&line["seams"], &line["upstream"]), (&json!(1), &json!("b")), "{fault}: {line}");
            assert_eq!((&line["cause"], &line["completion_tokens"]), (&json!("complete"), &json!(60)));
            let tried: Vec<_> =
                line["attempts"].as_array().unwrap().iter().map(|tried| &tried["upstream"]).collect();
            assert_eq!(tried, ["a", "b"]);
            assert_eq!(line["attempts"][1]["outcome"], "complete");
            assert!(gateway.metrics().await.contains("flumen_seams_total{model=\"*\",upstream=\"b\"} 1"));
            if resumable {
                let text = answer.text();
                let numbers: Vec<u64> = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("id: ")?.rsplit('-').next()?.parse().ok())
                    .collect();
                let events = text.lines().filter(|line| line.starts_with("data: ")).count();
                assert_eq!(numbers, (1..=events as u64).collect::<Vec<_>>(), "no gap, nothing twice");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_was_as_long_as_it_may_be_does_not_grow() {
    for fault in ["cut@19", "cut@20"] {
        let (_sims, direct, gateway) = two(&format!("fault={fault}"), "continues = true", "").await;
        let mut body = body();
        body["max_tokens"] = json!(20);
        let direct = post_with(direct, &[], &body).await;
        assert_eq!(said(&direct.text()).finished, ["length"]);
        assert_seamless(&post_with(gateway.address, &[], &body).await, &direct);
    }
}

#[tokio::test]
async fn a_model_server_that_is_killed_is_not_missed() {
    let slow = ["--tokens-per-second", "100", "--first-token", "1ms", "--tokens", "60", "--seed", "7"];
    let (mut a, a_at) = simulator::start(&slow).await;
    let (_b, b_at) = simulator::start(&SPEED).await;
    let of = [("a", a_at, CAN), ("b", b_at, CAN)];
    let mut gateway = Gateway::start(&pooled(&of, "continues = true", "")).await;
    let direct = post_with(b_at, &[], &body()).await;
    let mut client = Client::connect(gateway.address).await;
    client.request("POST", PATH, &[], &body().to_string()).await;
    let head = client.head().await;
    let mut begin = String::new();
    for _ in 0..10 {
        begin += &client.until("\n\n").await;
    }
    a.start_kill().unwrap();
    let rest = client.until("[DONE]\n\n").await;
    let text: String = (begin + &rest)
        .lines()
        .filter(|line| line.starts_with("data: "))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_seamless(&Answer { status: 200, head, body: text.into_bytes(), complete: true }, &direct);
    assert_eq!(gateway.access().await["seams"], 1);
}

#[tokio::test]
async fn an_answer_goes_on_more_than_once() {
    let fails = format!("{CAN}\nheaders = {{ flumen-sim = \"fault=cut@10\" }}");
    let (_a, a_at) = simulator::start(&SPEED).await;
    let (_b, b_at) = simulator::start(&SPEED).await;
    let (_c, c_at) = simulator::start(&SPEED).await;
    let of = [("a", a_at, fails.as_str()), ("b", b_at, fails.as_str()), ("c", c_at, CAN)];
    let mut gateway = Gateway::start(&pooled(&of, "continues = true", "")).await;
    let direct = post_with(c_at, &[], &body()).await;
    let answer = post_with(gateway.address, &[], &body()).await;
    assert_seamless(&answer, &direct);
    let line = gateway.access().await;
    assert_eq!((&line["seams"], &line["upstream"]), (&json!(2), &json!("c")), "{line}");
}

#[tokio::test]
async fn where_nobody_can_go_on_the_reader_is_told_in_one_word() {
    for (pool, b) in [("continues = false", CAN), ("continues = true\nattempts = 1", CAN), ("", "")] {
        for fault in ["cut@20", "end@20"] {
            let (_a, a_at) = simulator::start(&SPEED).await;
            let (_b, b_at) = simulator::start(&SPEED).await;
            let own = format!("headers = {{ flumen-sim = \"fault={fault}\" }}");
            let gateway = Gateway::start(&pooled(&[("a", a_at, &own), ("b", b_at, b)], pool, "")).await;
            for headers in [&[][..], &[("flumen-resume", "1")]] {
                let answer = post_with(gateway.address, headers, &body()).await;
                // Turns go round: only the answers of the first fail.
                let said = if said(&answer.text()).done == 1 {
                    said(&post_with(gateway.address, headers, &body()).await.text())
                } else {
                    said(&answer.text())
                };
                assert_eq!(
                    (said.errors.as_slice(), said.done),
                    (&["upstream_truncated".to_owned()][..], 0),
                    "{pool} {fault}"
                );
                assert!(answer.complete);
            }
        }
    }
}

/// Says these events and breaks off; whoever is asked after it must not be.
async fn broken_after(events: &'static [&'static str]) -> Upstream {
    Upstream::start(move |mut conn| async move {
        conn.stream_head().await;
        for event in events {
            conn.chunk(event.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_continued_ends_with_an_error() {
    const A: &str = "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    const TOOL: &str = "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\"}]}}]}\n\n";
    const SECOND: &str = "data: {\"id\":\"x\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"a\"}}]}\n\n";
    const FINISH: &str =
        "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let cases: [(&'static [&'static str], Value); 4] = [
        (&[TOOL], json!({})),
        (&[A, SECOND], json!({"n": 2})),
        (&[A], json!({"n": 2})),
        (&[A, FINISH], json!({})),
    ];
    for (events, extra) in cases {
        let (bad, good) = (broken_after(events).await, Upstream::named("g").await);
        let of = [("a", bad.address, CAN), ("b", good.address, CAN)];
        let mut gateway = Gateway::start(&pooled(&of, "continues = true", "")).await;
        let mut body = body();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = post_with(gateway.address, &[], &body).await;
        let said = said(&answer.text());
        assert_eq!(
            (said.errors.len(), said.done, good.accepted()),
            (1, 0, 0),
            "{events:?} {}",
            answer.text()
        );
        let line = gateway.access().await;
        assert_eq!((&line["cause"], &line["seams"]), (&json!("upstream_truncated"), &Value::Null), "{line}");
    }
}

#[tokio::test]
async fn what_goes_on_is_asked_for_the_rest_only() {
    let first = broken_after(&[
        "data: {\"id\":\"one\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"id\":\"one\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Once \"}}]}\n\n",
        "data: {\"id\":\"one\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"upon\"}}]}\n\n",
    ])
    .await;
    let (tell, mut told) = tokio::sync::mpsc::channel(10);
    let second = Upstream::start(move |mut conn| {
        let tell = tell.clone();
        async move {
            tell.send(conn.json()).await.unwrap();
            conn.stream_head().await;
            conn.chunk((event(" a time") + "data: [DONE]\n\n").as_bytes()).await;
            conn.finish().await;
        }
    })
    .await;
    let of = [("a", first.address, CAN), ("b", second.address, CAN)];
    let gateway = Gateway::start(&pooled(&of, "continues = true", "")).await;
    let mut body = body();
    body["max_tokens"] = json!(10);
    let answer = post_with(gateway.address, &[], &body).await;
    assert_eq!(said(&answer.text()).text, "Once upon a time");
    let asked = soon(told.recv()).await.unwrap();
    assert_eq!(asked["messages"][1], json!({"role": "assistant", "content": "Once upon"}));
    assert_eq!((&asked["max_tokens"], &asked["continue_final_message"]), (&json!(8), &json!(true)));
    assert_eq!(asked["messages"][0], body["messages"][0]);
}

#[tokio::test]
async fn who_leaves_while_it_goes_on_is_gone_everywhere() {
    let first =
        broken_after(&["data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"]).await;
    let (tell, mut left) = tokio::sync::mpsc::channel(10);
    let second = Upstream::start(move |mut conn| {
        let tell = tell.clone();
        async move {
            tell.send("asked").await.unwrap();
            conn.closed().await;
            tell.send("left").await.unwrap();
        }
    })
    .await;
    let of = [("a", first.address, CAN), ("b", second.address, CAN)];
    let mut gateway = Gateway::start(&pooled(&of, "continues = true", "")).await;
    let mut client = Client::connect(gateway.address).await;
    client.request("POST", PATH, &[], &body().to_string()).await;
    client.until("\"a\"").await;
    assert_eq!(soon(left.recv()).await.unwrap(), "asked");
    drop(client);
    assert_eq!(soon(left.recv()).await.unwrap(), "left");
    assert_eq!(gateway.access().await["cause"], "client_gone");
    crate::support::until_metric(&gateway, "flumen_pool_running{pool=\"p\"} 0").await;
    crate::support::until_metric(&gateway, "flumen_upstream_in_flight{upstream=\"b\"} 0").await;
}
