//! The shape and the pace of answers.

mod support;

use std::time::Duration;

use flumen_sim::{Settings, Simulator, Stats};
use futures_util::StreamExt;
use http::{StatusCode, header};
use serde_json::{Value, json};
use support::*;
use tokio::time::Instant;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

#[tokio::test(start_paused = true)]
async fn a_chat_has_the_shape_that_openai_gives_it() {
    let reply = chat("sim:tokens=3").await;
    assert_eq!(
        (reply.status, &reply.headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"text/event-stream".parse().unwrap())
    );
    let collected = collect(reply).await;
    assert_eq!(collected.payloads().last().unwrap(), "[DONE]");
    let events = collected.events();
    assert_eq!(events.len(), 5);
    for event in &events {
        assert_eq!(
            (&event["object"], &event["model"]),
            (&json!("chat.completion.chunk"), &json!("sim:tokens=3"))
        );
        assert_eq!(event["id"], events[0]["id"]);
        assert!(event["id"].as_str().unwrap().starts_with("chatcmpl-sim-"));
        assert!(
            event["created"].as_u64().unwrap() > 1_700_000_000 && event["system_fingerprint"].is_string()
        );
        assert!(event.get("usage").is_none());
    }
    let choices: Vec<&Value> = events.iter().map(|event| &event["choices"][0]).collect();
    assert_eq!(choices[0]["delta"], json!({"role": "assistant", "content": ""}));
    for choice in &choices[1..4] {
        assert!(choice["delta"]["content"].is_string() && choice["finish_reason"].is_null());
    }
    assert_eq!((&choices[4]["delta"], &choices[4]["finish_reason"]), (&json!({}), &json!("stop")));
}

#[tokio::test(start_paused = true)]
async fn usage_comes_when_asked_for() {
    let mut request = request("sim:tokens=5,chunk=2", true);
    request["stream_options"] = json!({"include_usage": true});
    let events = collect(post(&simulator(), CHAT, &request).await).await.events();
    let (last, others) = events.split_last().unwrap();
    assert!(others.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 5);
    let prompt = last["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!((4..12).contains(&prompt));
    assert_eq!(last["usage"]["total_tokens"], prompt + 5);
}

#[tokio::test(start_paused = true)]
async fn streamed_and_whole_answers_are_the_same() {
    let simulator = simulator();
    for directives in
        ["", "lang=code", "lang=md,chunk=7", "lang=emoji,split=1", "size=50", "tokens=400,seed=9", "tokens=0"]
    {
        let model = format!("sim:tps=0,{directives}");
        let streamed = collect(post(&simulator, CHAT, &request(&model, true)).await).await.content();
        let again = collect(post(&simulator, CHAT, &request(&model, true)).await).await.content();
        let (status, whole) = whole(post(&simulator, CHAT, &request(&model, false)).await).await;
        assert_eq!((status, &whole["object"]), (StatusCode::OK, &json!("chat.completion")));
        assert_eq!(whole["choices"][0]["message"]["content"], json!(streamed), "{model}");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        assert_eq!(streamed, again);
    }
}

#[tokio::test(start_paused = true)]
async fn seeds_decide_and_directives_come_first() {
    let simulator = simulator();
    let text = async |model: &str, seed: Value| {
        let mut request = request(model, true);
        request["seed"] = seed;
        collect(post(&simulator, CHAT, &request).await).await.content()
    };
    let plain = text("sim", Value::Null).await;
    assert_eq!(text("other", Value::Null).await, plain);
    assert_ne!(text("sim", json!(-1)).await, plain);
    assert_eq!(text("sim:seed=4", json!(-1)).await, text("sim", json!(4)).await);
    let other = Simulator::new(Settings { seed: 1, ..Settings::default() });
    assert_ne!(collect(post(&other, CHAT, &request("sim", true)).await).await.content(), plain);
}

#[tokio::test(start_paused = true)]
async fn the_legacy_form_is_text() {
    let simulator = simulator();
    let request = |stream: bool| json!({"model": "sim:tokens=9", "prompt": "Once", "stream": stream});
    let streamed = collect(post(&simulator, TEXT, &request(true)).await).await;
    let events = streamed.events();
    assert_eq!((events.len(), &events[0]["object"]), (10, &json!("text_completion")));
    assert_eq!(events[9]["choices"][0]["finish_reason"], "stop");
    assert_eq!(streamed.payloads().last().unwrap(), "[DONE]");
    let text: String = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    let (_, whole) = whole(post(&simulator, TEXT, &request(false)).await).await;
    assert_eq!(whole["choices"][0]["text"], json!(text));
    assert_eq!(whole["usage"], json!({"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10}));
}

#[tokio::test(start_paused = true)]
async fn max_tokens_cuts_the_answer_short() {
    for field in ["max_tokens", "max_completion_tokens"] {
        let mut request = request("sim:tokens=endless,tps=0", false);
        request[field] = json!(12);
        let (_, answer) = whole(post(&simulator(), CHAT, &request).await).await;
        assert_eq!(answer["usage"]["completion_tokens"], 12);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let mut request = request("sim:tokens=12,tps=0", false);
    request["max_tokens"] = json!(12);
    let (_, answer) = whole(post(&simulator(), CHAT, &request).await).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test(start_paused = true)]
async fn endless_answers_must_be_streamed() {
    let (status, body) =
        whole(post(&simulator(), CHAT, &request("sim:tokens=endless,size=2000000", false)).await).await;
    assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("stream")));
}

#[tokio::test(start_paused = true)]
async fn tokens_come_at_their_pace() {
    let collected = collect(chat("sim:tps=100,ttft=300ms,tokens=50,jitter=0").await).await;
    let expected: Vec<u128> = (0..50).map(|token| 300 + 10 * token).collect();
    assert_eq!(collected.times, expected);

    let start = Instant::now();
    let reply = post(&simulator(), CHAT, &request("sim:tps=100,ttft=300ms,tokens=50,jitter=0", false)).await;
    assert_eq!(start.elapsed(), Duration::from_millis(790));
    assert_eq!(whole(reply).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_gets_what_is_due_at_once() {
    let mut body = chat("sim:tps=1000,ttft=0s,tokens=1000,jitter=0").await.body;
    body.next().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let chunk = body.next().await.unwrap().unwrap();
    assert_eq!(chunk.windows(2).filter(|pair| pair == b"\n\n").count(), 20);
}

#[tokio::test(start_paused = true)]
async fn fast_answers_come_in_large_chunks_and_let_others_run() {
    let mut body = chat("sim:tps=0,ttft=0s,tokens=endless").await.body;
    let other = tokio::spawn(async {});
    let mut chunks = 0;
    while !other.is_finished() {
        let chunk = body.next().await.unwrap().unwrap();
        assert!((7 << 10..=8 << 10).contains(&chunk.len()), "{}", chunk.len());
        chunks += 1;
    }
    assert!(chunks <= 2, "{chunks}");
}

#[tokio::test(start_paused = true)]
async fn echo_gives_the_last_user_message_back() {
    let text = "Größe: 12345 m²\n\t\"河水\" 👩‍🚀\u{0}  \\end  ";
    let messages = json!([
        {"role": "user", "content": "first"}, {"role": "assistant", "content": null},
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {}}]},
        {"role": "tool", "content": "late"},
    ]);
    let request = json!({"model": "sim:echo=1,split=1", "stream": true, "messages": messages});
    assert_eq!(collect(post(&simulator(), CHAT, &request).await).await.content(), text);
}

#[tokio::test(start_paused = true)]
async fn split_chunks_break_inside_characters() {
    let collected = collect(chat("sim:split=1,tokens=20,lang=zh").await).await;
    assert!(collected.chunks.len() >= 40);
    let broken = collected.chunks.iter().filter(|chunk| std::str::from_utf8(chunk).is_err()).count();
    assert!(broken >= 38, "{broken}");
    assert_eq!(collected.events().len(), 22);
}

#[tokio::test(start_paused = true)]
async fn replies_are_counted_by_how_they_end() {
    let simulator = simulator();
    let ask = async |model: &str| post(&simulator, CHAT, &request(model, true)).await;
    collect(ask("sim:tokens=7").await).await;
    collect(ask("sim:fault=cut@2").await).await;
    let mut dropped = ask("sim:tokens=endless").await.body;
    for _ in 0..3 {
        dropped.next().await;
    }
    assert_eq!(simulator.stats(), Stats { requests: 3, active: 1, completed: 2, aborted: 0, tokens: 12 });
    drop(dropped);
    let body = request("sim:tokens=100", false);
    let waiting = post(&simulator, CHAT, &body);
    tokio::time::timeout(Duration::from_millis(500), waiting).await.unwrap_err();
    assert_eq!(simulator.stats(), Stats { requests: 4, active: 0, completed: 2, aborted: 2, tokens: 12 });
}
