use http::HeaderMap;

use super::*;

fn said(events: &[&str]) -> Said {
    let mut said = Said::new(true);
    for event in events {
        said.hear(&Event::data(*event));
        said.passed(1);
    }
    said
}

fn call(path: &'static str, body: &str) -> Call {
    Call {
        path,
        body: Bytes::copy_from_slice(body.as_bytes()),
        stream: true,
        headers: HeaderMap::new(),
        deadline: None,
        due: None,
    }
}

fn continued(said: &Said, path: &'static str, body: &str, how: Continuation) -> Option<Value> {
    said.continued(&call(path, body), how).map(|body| serde_json::from_slice(&body).unwrap())
}

const CHAT: &str = r#"{"messages":[{"role":"user","content":"q"}],"max_tokens":10}"#;
const BEGUN: [&str; 3] = [
    r#"{"id":"c-1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    r#"{"id":"c-1","choices":[{"index":0,"delta":{"content":"one \"t"}}]}"#,
    r#"{"id":"c-1","choices":[{"index":0,"delta":{"content":"wo\" "},"finish_reason":null}]}"#,
];

#[test]
fn the_rest_is_asked_for_in_the_way_that_the_upstream_knows() {
    let said = said(&BEGUN);
    assert!(said.can_be_continued());
    let body = continued(&said, "/chat/completions", CHAT, Continuation::FinalMessage).unwrap();
    let spoken = json!({"role": "assistant", "content": "one \"two\" "});
    assert_eq!(body["messages"], json!([{"role": "user", "content": "q"}, spoken]));
    assert_eq!((&body["continue_final_message"], &body["max_tokens"]), (&json!(true), &json!(8)));
    let body = continued(&said, "/chat/completions", CHAT, Continuation::Prefix).unwrap();
    assert_eq!(body["messages"][1]["prefix"], true);
    let body = continued(&said, "/chat/completions", CHAT, Continuation::Prefill).unwrap();
    assert_eq!(body["messages"][1], spoken);
    let body = continued(&said, "/completions", r#"{"prompt":"say "}"#, Continuation::Prefill).unwrap();
    assert_eq!(body["prompt"], "say one \"two\" ");
}

#[test]
fn words_that_the_client_put_into_its_mouth_stay_there() {
    let chat = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"zero "}]}"#;
    let body = continued(&said(&BEGUN), "/chat/completions", chat, Continuation::Prefill).unwrap();
    assert_eq!(body["messages"][1]["content"], "zero one \"two\" ");
    assert_eq!(body["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_continued_is_known() {
    for event in [
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"x"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "no JSON",
    ] {
        assert!(!said(&[event]).can_be_continued(), "{event}");
    }
    let spoken = said(&[r#"{"choices":[{"delta":{"reasoning":"hm"}}]}"#, BEGUN[1]]);
    assert!(spoken.can_be_continued(), "words after thoughts");
    for body in [r#"{"n":2,"messages":[]}"#, r#"{"messages":"x"}"#, "[]"] {
        assert!(
            continued(&said(&BEGUN), "/chat/completions", body, Continuation::Prefill).is_none(),
            "{body}"
        );
    }
    for body in [r#"{"prompt":["a"]}"#, r#"{"prompt":"a","echo":true}"#] {
        assert!(continued(&said(&BEGUN), "/completions", body, Continuation::Prefill).is_none(), "{body}");
    }
    let mut forgotten = Said::new(false);
    forgotten.hear(&Event::data(BEGUN[1]));
    assert!(!forgotten.can_be_continued());
}

#[test]
fn where_only_the_role_was_told_the_request_is_the_same() {
    let said = said(&BEGUN[..1]);
    assert!(said.can_be_continued() && !said.is_nothing());
    assert_eq!(said.continued(&call("/chat/completions", CHAT), Continuation::Prefill).unwrap(), CHAT);
}

#[test]
fn the_second_answer_looks_like_the_first() {
    let seam = said(&BEGUN).seam(&call("/chat/completions", CHAT));
    let mend = |event: &str| {
        let mended = seam.mend(Event::data(event))?;
        Some(String::from_utf8(mended.payload().to_vec()).unwrap())
    };
    assert_eq!(
        mend(r#"{"id":"c-9","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#),
        None
    );
    assert_eq!(
        mend(r#"{"x":1, "id": "c-9" ,"choices":[{"delta":{"content":"c-9"}}]}"#).unwrap(),
        r#"{"x":1, "id": "c-1" ,"choices":[{"delta":{"content":"c-9"}}]}"#
    );
    assert_eq!(mend("[DONE]").unwrap(), "[DONE]");
    let usage = mend(
        r#"{"id":"c-9","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}"#,
    );
    let usage: Value = serde_json::from_str(&usage.unwrap()).unwrap();
    assert_eq!(
        usage,
        json!({"id": "c-1", "choices": [],
               "usage": {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14}})
    );
}

#[test]
fn where_all_tokens_were_said_only_the_end_is_taken() {
    let body = r#"{"messages":[],"max_completion_tokens":2}"#;
    let seam = said(&BEGUN).seam(&call("/chat/completions", body));
    let mend = |event: &str| -> Option<Value> {
        Some(serde_json::from_slice(&seam.mend(Event::data(event))?.payload()).unwrap())
    };
    assert_eq!(mend(r#"{"id":"c-9","choices":[{"index":0,"delta":{"content":"x"}}]}"#), None);
    let end = r#"{"id":"c-9","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"length"}]}"#;
    let expected = json!({"id": "c-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]});
    assert_eq!(mend(end), Some(expected));
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;
    let expected = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9});
    assert_eq!(mend(usage).unwrap()["usage"], expected);
}
