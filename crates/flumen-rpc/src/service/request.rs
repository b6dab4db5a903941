use std::borrow::Cow;

use serde_json::Value;

use crate::{Call, Cancellation, generation::Start};

/// What is to be generated, and for whom.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request itself.
    pub start: Start,
    /// Deadline and metadata of the call.
    pub call: Call,
    pub(super) cancellation: Cancellation,
}

impl Request {
    /// The model that is asked for.
    pub fn model(&self) -> &str {
        &self.start.model
    }

    /// What the last message says, or the prompt: enough for a model that knows no conversation. Empty if there is none.
    pub fn prompt(&self) -> Cow<'_, str> {
        if let Some(message) = self.start.messages.last() {
            return Cow::Borrowed(&message.content);
        }
        let body: Value = serde_json::from_slice(&self.start.raw).unwrap_or_default();
        let last = body["messages"].as_array().and_then(|messages| messages.last());
        let content = last.map_or(&body["prompt"], |message| &message["content"]);
        Cow::Owned(text_of(content))
    }

    /// The value of a key of the request as its client wrote it, such as `temperature`.
    pub fn raw_value(&self, key: &str) -> Option<Value> {
        let mut body: serde_json::Map<String, Value> = serde_json::from_slice(&self.start.raw).ok()?;
        body.remove(key)
    }

    /// The most tokens that the answer may have, wherever the request says so.
    pub fn max_tokens(&self) -> Option<u64> {
        let sampling = self.start.sampling.as_ref().and_then(|sampling| sampling.max_tokens);
        let named = |key| self.raw_value(key).and_then(|value| value.as_u64());
        sampling.or_else(|| named("max_completion_tokens")).or_else(|| named("max_tokens"))
    }

    /// The trace that the request belongs to (W3C `traceparent`).
    pub fn traceparent(&self) -> Option<&str> {
        self.call.metadata.plain.get("traceparent").map(String::as_str)
    }

    /// The request's name at the gateway.
    pub fn request_id(&self) -> Option<&str> {
        self.call.metadata.plain.get("x-request-id").map(String::as_str)
    }

    /// Tells that nobody wants the answer any more, and why.
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }
}

/// Text as chat messages write it: a string, or parts of which some are text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{Message, Sampling};

    fn request(start: Start) -> Request {
        Request { start, call: Call::default(), cancellation: Cancellation::default() }
    }

    #[test]
    fn the_prompt_is_found_in_every_form_of_a_request() {
        let raw = |text: &'static str| request(Start { raw: text.as_bytes().into(), ..Start::default() });
        assert_eq!(raw(r#"{"messages":[{"content":"a"},{"content":"b"}]}"#).prompt(), "b");
        assert_eq!(
            raw(r#"{"messages":[{"content":[{"type":"text","text":"x"},{"type":"image"}]}]}"#).prompt(),
            "x"
        );
        assert_eq!(raw(r#"{"prompt":"p","max_tokens":7}"#).prompt(), "p");
        assert_eq!(raw(r#"{"prompt":"p","max_tokens":7}"#).max_tokens(), Some(7));
        assert_eq!(raw("no json").prompt(), "");
        let message = Message { content: "typed".into(), ..Message::default() };
        let sampling = Some(Sampling { max_tokens: Some(3), ..Sampling::default() });
        let typed = request(Start { messages: vec![message], sampling, ..Start::default() });
        assert_eq!((typed.prompt().as_ref(), typed.max_tokens()), ("typed", Some(3)));
    }
}
