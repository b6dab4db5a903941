//! A call as a request of the HTTP API.

use axum::{body::Body, extract::Request};
use flumen_rpc::{
    Call, Code, Status,
    generation::{Message, Start, ToolCall},
};
use http::{HeaderName, HeaderValue, Method, header};
use serde::Serialize;

/// Headers that belong to the request as it is made here, or ask for another form of the answer.
const OWN: [&str; 10] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "accept",
    "accept-encoding",
    "connection",
    "expect",
    "prefer",
    "upgrade",
    "sec-websocket-protocol",
];
/// What frameworks of services carry from hop to hop. Nothing else that they carry becomes a header.
const CARRIED: [&str; 3] = ["traceparent", "tracestate", "x-request-id"];
/// A conversation has at most so many messages; a longer one can be sent as it is, in `raw`.
const MOST_MESSAGES: usize = 4096;

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
    if start.messages.len() > MOST_MESSAGES {
        let message = format!("a conversation has at most {MOST_MESSAGES} messages; longer ones go in `raw`");
        return Err(Status::new(Code::InvalidArgument, message));
    }
    let body = if start.messages.is_empty() { start.raw } else { spelt(&start).into() };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    let metadata = &call.metadata;
    let carried = metadata.persistent.iter().filter(|(name, _)| CARRIED.contains(&name.as_str()));
    for (name, value) in metadata.plain.iter().chain(carried) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            continue;
        };
        if !OWN.contains(&name.as_str()) && !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !after.is_empty() {
        headers.insert("last-event-id", after);
    }
    Ok(request)
}

/// A conversation in OpenAI's dialect. Written straight into its text: a tree of it would take many times the room.
fn spelt(start: &Start) -> Vec<u8> {
    let sampling = start.sampling.as_ref();
    let body = Spelt {
        model: &start.model,
        stream: start.stream,
        stream_options: start.stream.then_some(StreamOptions { include_usage: true }),
        messages: start.messages.iter().map(Said::of).collect(),
        temperature: sampling.and_then(|sampling| sampling.temperature),
        top_p: sampling.and_then(|sampling| sampling.top_p),
        max_tokens: sampling.and_then(|sampling| sampling.max_tokens),
        stop: sampling.map(|sampling| &*sampling.stop).unwrap_or_default(),
        seed: sampling.and_then(|sampling| sampling.seed),
        presence_penalty: sampling.and_then(|sampling| sampling.presence_penalty),
        frequency_penalty: sampling.and_then(|sampling| sampling.frequency_penalty),
    };
    // Texts and numbers can always be written, and so can memory.
    serde_json::to_vec(&body).unwrap_or_default()
}

#[derive(Serialize)]
struct Spelt<'a> {
    model: &'a str,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'a str,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_call_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> Said<'a> {
    fn of(message: &'a Message) -> Self {
        let called = |call: &'a ToolCall| Called {
            id: &call.id,
            r#type: "function",
            function: Function { name: &call.name, arguments: &call.arguments },
        };
        Self {
            role: &message.role,
            content: &message.content,
            name: &message.name,
            tool_call_id: &message.tool_call_id,
            tool_calls: message.tool_calls.iter().map(called).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use flumen_rpc::generation::Sampling;
    use serde_json::{Value, json};

    use super::*;

    fn start() -> Start {
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
        let messages = vec![
            Message { role: "user".into(), content: "é\"".into(), ..Message::default() },
            Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() },
        ];
        let sampling = Some(Sampling { max_tokens: Some(7), stop: vec!["x".into()], ..Sampling::default() });
        Start { model: "m".into(), messages, sampling, stream: true, ..Start::default() }
    }

    #[test]
    fn a_conversation_becomes_a_request_of_openai() {
        let body: Value = serde_json::from_slice(&spelt(&start())).unwrap();
        let expected = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "é\""}, {"role": "assistant", "content": "", "tool_calls":
                [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}],
            "max_tokens": 7, "stop": ["x"]});
        assert_eq!(body, expected);
    }

    #[test]
    fn metadata_smuggles_no_header_in() {
        let mut call = Call::default();
        for (name, value) in [("x-session-id", "s"), ("accept-encoding", "gzip"), ("prefer", "respond-async")]
        {
            call.metadata.plain.insert(name.into(), value.into());
        }
        call.metadata.persistent.insert("authorization".into(), "Bearer stolen".into());
        call.metadata.persistent.insert("traceparent".into(), "00-1-2-01".into());
        let request = of(start(), &call).unwrap();
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-session-id", "traceparent", "content-type"]);
    }

    #[test]
    fn a_conversation_has_an_end() {
        let messages = vec![Message::default(); MOST_MESSAGES + 1];
        let refused = of(Start { messages, ..Start::default() }, &Call::default()).unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
    }
}
