use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;

use super::*;
use crate::{Cut, Reply};

fn chat(model: &str, extra: &Value) -> Bytes {
    let mut body =
        json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "héllo 🌊 river"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Bytes::from(body.to_string())
}

async fn ask(sim: &Simulator, model: &str, extra: Value) -> Reply {
    sim.handle(&Method::POST, "/v1/chat/completions", chat(model, &extra)).await
}

/// The body, and whether it was cut.
async fn read(reply: Reply) -> (Vec<u8>, bool) {
    let pieces: Vec<_> = reply.body.collect().await;
    let cut = pieces.last() == Some(&Err(Cut));
    (pieces.into_iter().flatten().flatten().collect(), cut)
}

/// The payloads of the events of a streamed answer.
async fn events(model: &str, extra: Value) -> Vec<String> {
    let (body, _) = read(ask(&Simulator::new(Settings::default()), model, extra).await).await;
    let text = String::from_utf8(body).unwrap();
    text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

fn content(events: &[String]) -> String {
    let text = |event: &String| {
        let event: Value = serde_json::from_str(event).ok()?;
        event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_the_shape_of_openais() {
    let events = events("sim:tokens=3", json!({"stream_options": {"include_usage": true}})).await;
    assert_eq!(events.len(), 1 + 3 + 1 + 1 + 1);
    let parsed: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    assert_eq!(parsed[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert!(parsed[1]["choices"][0]["delta"]["content"].is_string());
    assert_eq!(parsed[0]["object"], "chat.completion.chunk");
    assert!(parsed[0].get("usage").unwrap().is_null());
    assert_eq!(parsed[4]["choices"][0]["finish_reason"], "stop");
    assert_eq!(parsed[5]["choices"], json!([]));
    assert_eq!(parsed[5]["usage"]["completion_tokens"], 3);
    assert_eq!(events[6], "[DONE]");
}

#[tokio::test(start_paused = true)]
async fn streamed_and_whole_answers_have_the_same_text() {
    let sim = Simulator::new(Settings::default());
    let streamed = content(&events("sim", json!({})).await);
    let (body, _) = read(ask(&sim, "sim", json!({"stream": false})).await).await;
    let whole: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], streamed);
    assert!(streamed.len() > 100);
    assert_eq!(content(&events("sim:echo=1,split=1", json!({})).await), "héllo 🌊 river");
}

#[tokio::test(start_paused = true)]
async fn tokens_come_at_their_rate() {
    let start = Instant::now();
    events("sim:tokens=101,tps=100,ttft=500ms,jitter=0", json!({})).await;
    assert_eq!(start.elapsed().as_millis(), 1500);
    let start = Instant::now();
    events("sim:tokens=100000,tps=0,ttft=0ms", json!({})).await;
    assert_eq!(start.elapsed().as_millis(), 0);
    let start = Instant::now();
    let sim = Simulator::new(Settings::default());
    ask(&sim, "sim:tokens=101,tps=100,ttft=500ms,jitter=0", json!({"stream": false})).await;
    assert_eq!(start.elapsed().as_millis(), 1500, "a whole answer takes as long as its generation");
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_what_it_says() {
    let sim = Simulator::new(Settings::default());
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let tokens = |body: &str| body.matches("\"content\":").count() - 1;

    let (body, cut) = read(ask(&sim, "sim:fault=cut@3", json!({})).await).await;
    assert_eq!((tokens(&text(&body)), cut), (3, true));
    let (body, cut) = read(ask(&sim, "sim:fault=end@3", json!({})).await).await;
    assert_eq!((tokens(&text(&body)), cut, text(&body).contains("[DONE]")), (3, false, false));
    let (body, _) = read(ask(&sim, "sim:fault=error@3", json!({})).await).await;
    assert!(text(&body).trim_end().lines().last().unwrap().contains("\"sim_fault\""));
    let (body, _) = read(ask(&sim, "sim:fault=error@0", json!({})).await).await;
    assert!(text(&body).starts_with("data: {\"error\""));
    let (body, _) = read(ask(&sim, "sim:fault=garbage@1", json!({})).await).await;
    assert!(String::from_utf8(body).is_err());
    let (body, _) = read(ask(&sim, "sim:fault=unterminated@1", json!({})).await).await;
    assert!(!text(&body).ends_with('\n'));
    let stalled = read(ask(&sim, "sim:fault=stall@2", json!({})).await);
    assert!(tokio::time::timeout(Duration::from_hours(1), stalled).await.is_err());

    let reply = ask(&sim, "sim:fault=status:503", json!({})).await;
    assert_eq!((reply.status.as_u16(), &reply.headers["retry-after"]), (503, &"1".parse().unwrap()));
    let start = Instant::now();
    ask(&sim, "sim:header=5s", json!({})).await;
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn limits_and_tools_are_honoured() {
    let capped = events("sim", json!({"max_tokens": 5})).await;
    assert!(capped[6].contains("\"finish_reason\":\"length\""), "{capped:#?}");
    let tools = json!({"tool_choice": "required", "tools": [{"type": "function", "function": {
        "name": "f", "parameters": {"properties": {"x": {"type": "string"}}}}}]});
    let events = events("sim", tools).await;
    let parsed: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let call = |event: &Value| event["choices"][0]["delta"]["tool_calls"][0]["function"].clone();
    assert_eq!(call(&parsed[0])["name"], "f");
    let arguments: String =
        parsed.iter().filter_map(|event| call(event)["arguments"].as_str().map(str::to_owned)).collect();
    assert!(serde_json::from_str::<Value>(&arguments).unwrap()["x"].is_string());
    assert_eq!(parsed.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_told_why() {
    let sim = Simulator::new(Settings::default());
    for (method, path, body, status, word) in [
        (Method::POST, "/v1/chat/completions", "{", 400, "not valid"),
        (Method::POST, "/v1/chat/completions", "{}", 400, "model"),
        (Method::POST, "/v1/chat/completions", r#"{"model":"m"}"#, 400, "messages"),
        (Method::POST, "/v1/chat/completions", r#"{"model":"m:x=1","messages":[]}"#, 400, "x=1"),
        (Method::POST, "/v1/completions", r#"{"model":"m"}"#, 400, "prompt"),
        (Method::POST, "/v1/embeddings", r#"{"model":"m","input":[]}"#, 400, "input"),
        (Method::GET, "/v1/embeddings", "", 405, "POST"),
        (Method::GET, "/v1/nothing", "", 404, "path"),
    ] {
        let reply = sim.handle(&method, path, Bytes::from(body)).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {body}");
        let (body, _) = read(reply).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains(word), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_answer_is_counted_as_aborted() {
    let sim = Simulator::new(Settings::default());
    let mut reply = ask(&sim, "sim:tokens=endless", json!({})).await;
    reply.body.next().await.unwrap().unwrap();
    assert_eq!((sim.stats().active, sim.stats().aborted), (1, 0));
    drop(reply);
    assert_eq!((sim.stats().active, sim.stats().aborted), (0, 1));
    read(ask(&sim, "sim:tokens=2", json!({})).await).await;
    assert_eq!((sim.stats().completed, sim.stats().tokens), (1, 3));
}
