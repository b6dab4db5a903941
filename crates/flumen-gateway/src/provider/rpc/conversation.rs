//! A request of OpenAI's chat dialect as the contract's own messages, for services that know no JSON.

use flumen_rpc::generation::{Message, Sampling, Start, ToolCall};
use serde::Deserialize;
use serde_json::Value;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    messages: Vec<Said>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    stop: Value,
    seed: Option<i64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    role: String,
    content: Value,
    name: Option<String>,
    tool_calls: Vec<Called>,
    tool_call_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Called {
    id: String,
    function: Function,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Function {
    name: String,
    arguments: String,
}

/// The model that a request names; by now every request has one.
pub(super) fn model(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    struct Named {
        #[serde(default)]
        model: String,
    }
    serde_json::from_slice::<Named>(body).unwrap_or_default().model
}

/// Spells a request out, as far as the contract has words for it. All of it stays in `raw`.
pub(super) fn spell(body: &[u8], start: Start) -> Start {
    let Ok(request) = serde_json::from_slice::<Request>(body) else { return start };
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        max_tokens: request.max_completion_tokens.or(request.max_tokens),
        stop: texts(&request.stop),
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
    };
    let messages = request.messages.into_iter().map(message).collect();
    Start { messages, sampling: Some(sampling), ..start }
}

fn message(said: Said) -> Message {
    Message {
        role: said.role,
        content: texts(&said.content).concat(),
        name: said.name.unwrap_or_default(),
        tool_calls: said
            .tool_calls
            .into_iter()
            .map(|call| ToolCall {
                id: call.id,
                name: call.function.name,
                arguments: call.function.arguments,
            })
            .collect(),
        tool_call_id: said.tool_call_id.unwrap_or_default(),
    }
}

/// A text, or several: strings, or parts of which some are text.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().or_else(|| value["text"].as_str()).map(str::to_owned);
    match value {
        Value::Array(parts) => parts.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_spelt_out() {
        let body = br#"{"model":"m","messages":[{"role":"system","content":"s"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}],
            "stop":"x","max_tokens":5,"temperature":0}"#;
        let start = spell(body, Start::default());
        let contents: Vec<_> = start.messages.iter().map(|message| &*message.content).collect();
        assert_eq!(contents, ["s", "ab", ""]);
        assert_eq!(start.messages[2].tool_calls[0].name, "f");
        let sampling = start.sampling.unwrap();
        assert_eq!(
            (sampling.stop, sampling.max_tokens, sampling.temperature),
            (vec!["x".into()], Some(5), Some(0.0))
        );
        assert_eq!(model(body), "m");
    }

    #[test]
    fn what_cannot_be_spelt_out_goes_as_it_is() {
        let start = Start { raw: "kept".into(), ..Start::default() };
        assert_eq!(spell(br#"{"messages":"none"}"#, start.clone()), start);
    }
}
