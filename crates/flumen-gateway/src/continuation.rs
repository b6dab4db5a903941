//! Answers that go on at another upstream: what was said so far, the request that asks for the rest, and the seam between the two.

use std::borrow::Cow;

use bytes::Bytes;
use flumen_stream::Event;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    config::Continuation,
    provider::{Call, openai},
};

/// What an answer has said so far, as far as it must be known to go on with it.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Whether the text is remembered.
    remembers: bool,
    events: u64,
    tokens: u64,
    text: String,
    /// The `id` that the answer's chunks carry, as it was written.
    id: Option<String>,
    /// Something that cannot be continued was said: a call of a tool, a second choice, thoughts without a word after them.
    impossible: bool,
    thoughts: bool,
}

/// Longer answers are not remembered, in bytes.
const LONGEST: usize = 1 << 20;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
}

fn is_set(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| !matches!(value.get(), "null" | "[]" | "\"\""))
}

impl Said {
    /// Nothing so far. The text is remembered where it may be needed.
    pub(crate) fn new(remembers: bool) -> Self {
        Self { remembers, ..Self::default() }
    }

    /// Whether readers have got nothing yet.
    pub(crate) fn is_nothing(&self) -> bool {
        self.events == 0
    }

    /// Whether another upstream could go on.
    pub(crate) fn can_be_continued(&self) -> bool {
        self.remembers && !self.impossible && (!self.thoughts || !self.text.is_empty())
    }

    /// So many events were passed on.
    pub(crate) fn passed(&mut self, events: u64) {
        self.events += events;
    }

    /// Remembers what an event says.
    pub(crate) fn hear(&mut self, event: &Event) {
        if !self.remembers || self.impossible {
            return;
        }
        let payload = event.payload();
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&payload) else {
            self.impossible = true;
            return;
        };
        if self.id.is_none() {
            self.id = chunk.id.map(|id| id.get().to_owned());
        }
        for choice in &chunk.choices {
            let delta = choice.delta.as_ref();
            let other = delta.is_some_and(|delta| {
                is_set(delta.tool_calls) || is_set(delta.function_call) || is_set(delta.refusal)
            });
            // After its last word there is nothing to go on with.
            self.impossible |= other || choice.index > 0 || is_set(choice.finish_reason);
            let thought = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|text| !text.is_empty());
            self.thoughts |=
                delta.is_some_and(|delta| thought(&delta.reasoning) || thought(&delta.reasoning_content));
            let text = delta.and_then(|delta| delta.content.as_deref()).or(choice.text.as_deref());
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.text.push_str(text);
                self.tokens += 1;
            }
        }
        self.impossible |= self.text.len() > LONGEST;
    }

    /// The body of a request that asks for the rest, if there is such a request.
    pub(crate) fn continued(&self, call: &Call, how: Continuation) -> Option<Bytes> {
        if self.text.is_empty() {
            return Some(call.body.clone());
        }
        let mut body: Map<String, Value> = serde_json::from_slice(&call.body).ok()?;
        if body.get("n").and_then(Value::as_u64).is_some_and(|n| n > 1) {
            return None;
        }
        for key in ["max_tokens", "max_completion_tokens"] {
            if let Some(most) = body.get(key).and_then(Value::as_u64) {
                body.insert(key.to_owned(), most.saturating_sub(self.tokens).max(1).into());
            }
        }
        if call.path == "/completions" {
            self.extend_prompt(&mut body)?;
        } else {
            self.extend_messages(&mut body, how)?;
        }
        Some(serde_json::to_vec(&body).ok()?.into())
    }

    fn extend_prompt(&self, body: &mut Map<String, Value>) -> Option<()> {
        let echoes = body.get("echo").and_then(Value::as_bool).unwrap_or(false);
        let prompt = body.get_mut("prompt").filter(|_| !echoes)?;
        *prompt = Value::String(format!("{}{}", prompt.as_str()?, self.text));
        Some(())
    }

    fn extend_messages(&self, body: &mut Map<String, Value>, how: Continuation) -> Option<()> {
        let messages = body.get_mut("messages")?.as_array_mut()?;
        let last = messages.last_mut().and_then(Value::as_object_mut);
        match last.filter(|last| last.get("role").is_some_and(|role| role == "assistant")) {
            // The client had the model go on with words of its own.
            Some(last) => {
                let content = last.get_mut("content")?;
                *content = Value::String(format!("{}{}", content.as_str()?, self.text));
            }
            None => messages.push(json!({"role": "assistant", "content": self.text})),
        }
        match how {
            Continuation::FinalMessage => {
                body.insert("add_generation_prompt".to_owned(), false.into());
                body.insert("continue_final_message".to_owned(), true.into());
            }
            Continuation::Prefix => {
                let last = messages.last_mut().and_then(Value::as_object_mut)?;
                last.insert("prefix".to_owned(), true.into());
            }
            Continuation::Prefill => {}
        }
        Some(())
    }

    /// What makes the rest fit.
    pub(crate) fn seam(&self, call: &Call) -> Seam {
        let most = limits(&call.body).into_iter().flatten().min();
        Seam { id: self.id.clone(), tokens: self.tokens, spent: most.is_some_and(|most| most <= self.tokens) }
    }
}

/// How many tokens an answer may have, by either name.
fn limits(body: &[u8]) -> [Option<u64>; 2] {
    #[derive(Default, Deserialize)]
    struct Limits {
        max_tokens: Option<u64>,
        max_completion_tokens: Option<u64>,
    }
    let limits: Limits = serde_json::from_slice(body).unwrap_or_default();
    [limits.max_tokens, limits.max_completion_tokens]
}

/// Makes the events of a second upstream go on where the first left off.
#[derive(Clone, Debug)]
pub(crate) struct Seam {
    id: Option<String>,
    tokens: u64,
    /// The answer is as long as it may be. The least that can be asked for is one more token: of that only the end counts.
    spent: bool,
}

impl Seam {
    /// The event as the first upstream would have sent it; nothing where it would not have.
    pub(crate) fn mend(&self, event: Event) -> Option<Event> {
        let payload = event.payload();
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&payload) else { return Some(event) };
        // The role was told.
        if !chunk.choices.is_empty() && !openai::is_token(&event) {
            return None;
        }
        if self.spent && !chunk.choices.is_empty() {
            return self.mend_end(&payload);
        }
        let usage = memchr::memmem::find(&payload, b"\"usage\"").is_some();
        if usage && let Some(mended) = self.mend_usage(&payload) {
            return Some(Event::data(mended));
        }
        let (Some(id), Some(own)) = (&self.id, chunk.id) else { return Some(event) };
        let at = own.get().as_ptr().addr() - payload.as_ptr().addr();
        let after = at + own.get().len();
        Some(Event::data([&payload[..at], id.as_bytes(), &payload[after..]].concat()))
    }

    /// The end alone, without the token that had to be asked for.
    fn mend_end(&self, payload: &[u8]) -> Option<Event> {
        let mut chunk: Map<String, Value> = serde_json::from_slice(payload).ok()?;
        let choice = chunk.get_mut("choices")?.get_mut(0)?.as_object_mut()?;
        choice.get("finish_reason").filter(|reason| reason.is_string())?;
        if choice.contains_key("delta") {
            choice.insert("delta".to_owned(), json!({}));
        }
        if choice.contains_key("text") {
            choice.insert("text".to_owned(), "".into());
        }
        if let Some(id) = self.id.as_ref().and_then(|id| serde_json::from_str(id).ok()) {
            chunk.insert("id".to_owned(), id);
        }
        Some(Event::data(serde_json::to_string(&chunk).ok()?))
    }

    /// What was said before counts as answer, not as prompt.
    fn mend_usage(&self, payload: &[u8]) -> Option<String> {
        let mut chunk: Map<String, Value> = serde_json::from_slice(payload).ok()?;
        if let Some(id) = self.id.as_ref().and_then(|id| serde_json::from_str(id).ok()) {
            chunk.insert("id".to_owned(), id);
        }
        let usage = chunk.get_mut("usage")?.as_object_mut()?;
        let (prompt, completion) =
            (usage.get("prompt_tokens")?.as_u64()?, usage.get("completion_tokens")?.as_u64()?);
        usage.insert("prompt_tokens".to_owned(), prompt.saturating_sub(self.tokens).into());
        let rest = if self.spent { 0 } else { completion };
        usage.insert("completion_tokens".to_owned(), self.tokens.saturating_add(rest).into());
        if let Some(total) = usage.get("total_tokens").and_then(Value::as_u64) {
            usage.insert(
                "total_tokens".to_owned(),
                total.saturating_add(rest).saturating_sub(completion).into(),
            );
        }
        serde_json::to_string(&chunk).ok()
    }
}

#[cfg(test)]
mod tests;
