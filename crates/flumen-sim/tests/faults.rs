//! Everything that goes wrong on purpose.

mod support;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use http::{StatusCode, header};
use serde_json::json;
use support::*;
use tokio::time::{Instant, timeout};

const CHAT: &str = "/v1/chat/completions";

/// Token events among the events.
fn tokens(collected: &Collected) -> usize {
    collected.text().matches(r#""content":"#).count().saturating_sub(1)
}

#[tokio::test(start_paused = true)]
async fn stall_keeps_the_stream_open() {
    let mut body = chat("sim:fault=stall@3,jitter=0").await.body;
    for _ in 0..3 {
        body.next().await.unwrap().unwrap();
    }
    timeout(Duration::from_hours(1), body.next()).await.unwrap_err();
    timeout(Duration::from_hours(1), chat("sim:fault=stall").await.body.next()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn cut_breaks_off() {
    let collected = collect(chat("sim:fault=cut@3").await).await;
    assert!(collected.cut);
    assert_eq!(tokens(&collected), 3);
    assert!(collected.text().ends_with("\n\n"));
}

#[tokio::test(start_paused = true)]
async fn end_comes_without_finish() {
    for tps in ["tps=0", "tps=100"] {
        let collected = collect(chat(&format!("sim:{tps},fault=end@60")).await).await;
        assert!(!collected.cut);
        assert_eq!(tokens(&collected), 60);
        assert!(!collected.text().contains("[DONE]") && !collected.text().contains("stop"));
    }
}

#[tokio::test(start_paused = true)]
async fn error_is_an_event() {
    for n in [0, 4] {
        let collected = collect(chat(&format!("sim:fault=error@{n}")).await).await;
        let events = collected.events();
        assert_eq!(events.len(), if n == 0 { 1 } else { 1 + n + 1 });
        let error = &events.last().unwrap()["error"];
        assert_eq!((&error["code"], &error["type"]), (&json!("sim_fault"), &json!("server_error")));
        assert!(!collected.text().contains("[DONE]"));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_is_not_text() {
    let collected = collect(chat("sim:fault=garbage@2").await).await;
    assert!(!collected.cut);
    assert_eq!(collected.chunks.len(), 3);
    std::str::from_utf8(&collected.chunks[2]).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn unterminated_is_half_an_event() {
    for model in ["sim:fault=unterminated@2", "sim:tokens=2,fault=unterminated@2", "sim:fault=unterminated"] {
        let text = collect(chat(model).await).await.text();
        let (_, last) = text.rsplit_once("\n\n").unwrap();
        assert!(last.starts_with("data: {") && last.len() > 50 && !last.ends_with('}'), "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn status_takes_the_place_of_the_answer() {
    for (code, retry) in [(503, true), (429, true), (500, false), (404, false)] {
        for stream in [true, false] {
            let model = format!("sim:fault=status:{code}");
            let reply = post(&simulator(), CHAT, &request(&model, stream)).await;
            assert_eq!(reply.headers.contains_key(header::RETRY_AFTER), retry);
            let (status, body) = whole(reply).await;
            assert_eq!((status.as_u16(), &body["error"]["code"]), (code, &json!("sim_fault")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn header_delays_the_reply() {
    let start = Instant::now();
    let reply = chat("sim:header=5s,ttft=6s,tokens=1").await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(collect(reply).await.times, [1000]);
    let start = Instant::now();
    let reply = chat("sim:header=5s,fault=status:500").await;
    assert_eq!((start.elapsed(), reply.status), (Duration::from_secs(5), StatusCode::INTERNAL_SERVER_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_fault_beyond_the_end_never_comes() {
    let collected = collect(chat("sim:tokens=5,fault=cut@6").await).await;
    assert_eq!(collected.payloads().last().unwrap(), "[DONE]");
    assert!(collect(chat("sim:tokens=5,fault=cut@5").await).await.cut);
}

#[tokio::test(start_paused = true)]
async fn whole_answers_meet_the_same_faults() {
    let simulator = simulator();
    let ask = async |fault: &str| {
        let model = format!("sim:tps=10,jitter=0,ttft=1s,tokens=endless,fault={fault}");
        let start = Instant::now();
        let body = request(&model, false);
        let reply = timeout(Duration::from_hours(1), post(&simulator, CHAT, &body)).await;
        (reply, start.elapsed().as_millis())
    };
    assert!(ask("stall@5").await.0.is_err());
    let (reply, after) = ask("cut@5").await;
    let collected = collect(reply.unwrap()).now_or_never().unwrap();
    assert!(collected.cut && after == 1500, "{after}");
    let (status, body) = whole(ask("error@5").await.0.unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("sim_fault")));
    for fault in ["end@5", "unterminated@5", "garbage@5"] {
        let collected = collect(ask(fault).await.0.unwrap()).await;
        assert!(!collected.cut && serde_json::from_slice::<serde_json::Value>(&collected.bytes()).is_err());
    }
}
