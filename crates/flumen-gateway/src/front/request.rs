//! A call as a request of the HTTP API.

use axum::{body::Body, extract::Request};
use flumen_rpc::{
    Call, Code, Status,
    generation::{Message, Sampling, Start},
};
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Map, Value, json};

/// Headers that belong to the request as it is made here.
const OWN: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ACCEPT, header::TRANSFER_ENCODING];

/// The request that a call comes to.
pub(super) fn of(start: Start, call: &Call) -> Result<Request, Status> {
    let path = match &*start.dialect {
        "" | "openai-chat" => "/v1/chat/completions",
        "openai-completions" => "/v1/completions",
        "openai-embeddings" => "/v1/embeddings",
        other => return Err(Status::new(Code::InvalidArgument, format!("unknown dialect `{other}`"))),
    };
    let after = HeaderValue::from_str(&start.resume_after)
        .map_err(|_| Status::new(Code::InvalidArgument, "`resume_after` is no id of a message"))?;
    let body = if start.messages.is_empty() { start.raw } else { spelt(start).to_string().into() };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    let metadata = &call.metadata;
    for (name, value) in metadata.plain.iter().chain(&metadata.persistent) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            continue;
        };
        if !OWN.contains(&name) && !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !after.is_empty() {
        headers.insert("last-event-id", after);
    }
    Ok(request)
}

/// A conversation in OpenAI's dialect.
fn spelt(start: Start) -> Value {
    let messages: Vec<_> = start.messages.into_iter().map(message).collect();
    let mut body = json!({"model": start.model, "stream": start.stream, "messages": messages});
    if start.stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    if let (Some(sampling), Some(body)) = (start.sampling, body.as_object_mut()) {
        sample(sampling, body);
    }
    body
}

fn message(message: Message) -> Value {
    let mut said = json!({"role": message.role, "content": message.content});
    for (key, value) in [("name", message.name), ("tool_call_id", message.tool_call_id)] {
        if !value.is_empty() {
            said[key] = value.into();
        }
    }
    if !message.tool_calls.is_empty() {
        let call = |call: flumen_rpc::generation::ToolCall| {
            json!({"id": call.id, "type": "function",
            "function": {"name": call.name, "arguments": call.arguments}})
        };
        said["tool_calls"] = message.tool_calls.into_iter().map(call).collect();
    }
    said
}

fn sample(sampling: Sampling, body: &mut Map<String, Value>) {
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    };
    put("temperature", sampling.temperature.map(Value::from));
    put("top_p", sampling.top_p.map(Value::from));
    put("max_tokens", sampling.max_tokens.map(Value::from));
    put("stop", (!sampling.stop.is_empty()).then(|| sampling.stop.into()));
    put("seed", sampling.seed.map(Value::from));
    put("presence_penalty", sampling.presence_penalty.map(Value::from));
    put("frequency_penalty", sampling.frequency_penalty.map(Value::from));
}
