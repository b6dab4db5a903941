//! Everything around answers: tools, embeddings, models, errors, and the service over HTTP.

mod support;

use axum::body::Body;
use flumen_sim::{Settings, Simulator};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::*;
use tower::ServiceExt;

const CHAT: &str = "/v1/chat/completions";

fn tool_request(message: &str, choice: &Value, stream: bool) -> Value {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}}}})
    };
    json!({"model": "sim", "stream": stream, "tool_choice": choice, "tools": [tool("get_weather"), tool("get_tide")],
        "messages": [{"role": "user", "content": message}]})
}

#[tokio::test(start_paused = true)]
async fn tools_are_called_as_openai_calls_them() {
    let simulator = simulator();
    let streamed =
        collect(post(&simulator, CHAT, &tool_request("use get_tide", &Value::Null, true)).await).await;
    let events = streamed.events();
    let delta = |event: &Value| event["choices"][0]["delta"].clone();
    let first = delta(&events[0]);
    assert_eq!((&first["role"], &first["content"]), (&json!("assistant"), &Value::Null));
    let call = &first["tool_calls"][0];
    assert_eq!((&call["index"], &call["type"]), (&json!(0), &json!("function")));
    assert_eq!(call["function"], json!({"name": "get_tide", "arguments": ""}));
    let (last, fragments) = events[1..].split_last().unwrap();
    assert!(fragments.len() > 5);
    let fragment =
        |event: &Value| delta(event)["tool_calls"][0]["function"]["arguments"].as_str().unwrap().to_owned();
    let arguments: String = fragments.iter().map(fragment).collect();
    let parsed: Value = serde_json::from_str(&arguments).unwrap();
    assert!(parsed["city"].is_string() && parsed["days"].is_i64() && parsed["unit"].is_string());
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");

    let (_, whole) =
        whole(post(&simulator, CHAT, &tool_request("use get_tide", &Value::Null, false)).await).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let message = &choice["message"];
    assert_eq!(message["tool_calls"][0]["function"], json!({"name": "get_tide", "arguments": arguments}));
    assert_eq!(message["tool_calls"][0]["id"], call["id"]);
}

#[tokio::test(start_paused = true)]
async fn tools_are_called_when_they_should_be() {
    let simulator = simulator();
    let called = async |request: Value| {
        let (status, answer) = whole(post(&simulator, CHAT, &request).await).await;
        let name = answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"].clone();
        if status.is_success() { Ok(name.as_str().map(str::to_owned)) } else { Err(status) }
    };
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let weather = Ok(Some("get_weather".to_owned()));
    assert_eq!(called(tool_request("hello", &Value::Null, false)).await, Ok(None));
    assert_eq!(called(tool_request("use a tool", &json!("auto"), false)).await, weather);
    assert_eq!(called(tool_request("use a tool", &json!("none"), false)).await, Ok(None));
    assert_eq!(called(tool_request("hello", &json!("required"), false)).await, weather);
    assert_eq!(called(tool_request("hello", &named("get_weather"), false)).await, weather);
    assert_eq!(called(tool_request("hello", &named("get_lost"), false)).await, Err(StatusCode::BAD_REQUEST));
    let mut answered = tool_request("use a tool", &json!("auto"), false);
    answered["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "tool", "content": "12 °C", "tool_call_id": "x"}));
    assert_eq!(called(answered).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn embeddings_are_unit_vectors() {
    let simulator = simulator();
    let ask = async |extra: Value| {
        let mut body = json!({"model": "sim", "input": ["river", "tide"]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        whole(post(&simulator, "/v1/embeddings", &body).await).await
    };
    let (status, list) = ask(json!({"dimensions": 8})).await;
    assert_eq!(
        (status, &list["object"], &list["data"][1]["index"]),
        (StatusCode::OK, &json!("list"), &json!(1))
    );
    let vector = |list: &Value, index: usize| -> Vec<f64> {
        list["data"][index]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let length: f64 = vector(&list, 0).iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5);
    assert_ne!(vector(&list, 0), vector(&list, 1));
    let (_, alone) = ask(json!({"dimensions": 8, "input": "tide"})).await;
    assert_eq!(vector(&alone, 0), vector(&list, 1));
    assert_eq!(vector(&ask(json!({})).await.1, 0).len(), 1536);
    let (_, encoded) =
        ask(json!({"dimensions": 8, "encoding_format": "base64", "input": [[1, 2], [3]]})).await;
    assert_eq!(encoded["data"][0]["embedding"].as_str().unwrap().len(), 44);
    for bad in [
        json!({"dimensions": 5000}),
        json!({"input": []}),
        json!({"encoding_format": "hex"}),
        json!({"input": null}),
    ] {
        assert_eq!(ask(bad).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn models_are_listed() {
    let simulator =
        Simulator::new(Settings { models: vec!["a".into(), "b/c".into()], ..Settings::default() });
    let get = async |path: &str| whole(simulator.handle(&Method::GET, path, "", "".into()).await).await;
    let (_, list) = get("/v1/models").await;
    assert_eq!((&list["object"], &list["data"][1]["id"]), (&json!("list"), &json!("b/c")));
    assert_eq!(get("/models/b/c").await.1["id"], "b/c");
    assert_eq!(get("/v1/models/a:tps=5").await.1["id"], "a:tps=5");
    assert_eq!(get("/v1/models/d").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn errors_have_openai_form() {
    let simulator = simulator();
    let error = async |method: Method, path: &str, body: &str| {
        let (status, body) = whole(simulator.handle(&method, path, "", body.to_owned().into()).await).await;
        assert!(body["error"]["message"].is_string() && body["error"]["type"] == "invalid_request_error");
        (status.as_u16(), body["error"]["param"].as_str().map(str::to_owned))
    };
    let invalid = |param: &str| (400, Some(param.to_owned()));
    let message = r#"[{"role":"user","content":"hi"}]"#;
    assert_eq!(error(Method::POST, CHAT, "{").await, (400, None));
    assert_eq!(error(Method::POST, CHAT, r#"{"model":5}"#).await, (400, None));
    assert_eq!(error(Method::POST, CHAT, &format!(r#"{{"messages":{message}}}"#)).await, invalid("model"));
    assert_eq!(error(Method::POST, CHAT, r#"{"model":"sim"}"#).await, invalid("messages"));
    assert_eq!(error(Method::POST, CHAT, r#"{"model":"sim","messages":[]}"#).await, invalid("messages"));
    let many = format!(r#"{{"model":"sim","n":2,"messages":{message}}}"#);
    assert_eq!(error(Method::POST, CHAT, &many).await, invalid("n"));
    let directive = format!(r#"{{"model":"sim:speed=9","messages":{message}}}"#);
    assert_eq!(error(Method::POST, CHAT, &directive).await, invalid("model"));
    assert_eq!(error(Method::POST, "/v1/completions", r#"{"model":"sim"}"#).await, invalid("prompt"));
    assert_eq!(
        error(Method::POST, "/v1/completions", r#"{"model":"sim","prompt":["a","b"]}"#).await,
        invalid("prompt")
    );
    assert_eq!(error(Method::POST, "/v2/chat", "").await, (404, None));
    assert_eq!(error(Method::GET, CHAT, "").await, (405, None));
    assert_eq!(error(Method::POST, "/v1/models", "").await, (405, None));
}

#[tokio::test(start_paused = true)]
async fn the_router_serves_it_all() {
    let simulator = simulator();
    let router = simulator.clone().router();
    let send = async |method: Method, path: &str, body: Vec<u8>| {
        let request = http::Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let request = |model: &str, stream| support::request(model, stream).to_string().into_bytes();
    let response = send(Method::POST, "/v1/chat/completions?beta=1", request("sim:tokens=5", true)).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert!(response.into_body().collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    let response = send(Method::POST, "/chat/completions", request("sim:tokens=5", false)).await;
    let length = response.headers()[header::CONTENT_LENGTH].to_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), length);
    let response = send(Method::POST, CHAT, request("sim:fault=cut@2", true)).await;
    response.into_body().collect().await.unwrap_err();
    let response = send(Method::POST, CHAT, vec![b' '; (16 << 20) + 1]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    drop(send(Method::POST, CHAT, request("sim", true)).await);
    let get = async |path: &str| {
        let response = send(Method::GET, path, Vec::new()).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let stats = get("/sim/stats").await;
    for (name, value) in json!(simulator.stats()).as_object().unwrap() {
        assert_eq!(&stats[name], value, "{name}");
    }
    let counts = ["requests", "active", "completed", "aborted", "tokens", "stalled", "held_up"];
    assert_eq!(counts.map(|name| stats[name].as_u64().unwrap()), [4, 0, 3, 1, 12, 0, 0]);
    assert_eq!(stats["streams"], json!([]));
    let aborts = get("/sim/aborts").await;
    assert_eq!((&aborts[0]["model"], aborts.as_array().unwrap().len()), (&json!("sim"), 1));
    let page = send(Method::GET, "/sim", Vec::new()).await;
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn directives_come_in_a_header_too() {
    let request = http::Request::post(CHAT)
        .header("flumen-sim", "tokens=3, stamp=1")
        .body(Body::from(support::request("sim:tokens=9", true).to_string()))
        .unwrap();
    let response = simulator().router().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let stamps: Vec<_> =
        body.match_indices(r#""sim":{"seq":"#).map(|(at, mark)| &body[at + mark.len()..][..1]).collect();
    assert_eq!(stamps, ["0", "1", "2", "3"], "the closing event too");
}
