//! What a request asks of the simulator.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::text::pieces;

/// A chat or completion request, as far as the simulator cares.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) messages: Option<Vec<Value>>,
    #[serde(default)]
    pub(crate) prompt: Option<Value>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    pub(crate) seed: Option<i64>,
    #[serde(default)]
    pub(crate) tools: Option<Vec<Value>>,
    #[serde(default)]
    pub(crate) tool_choice: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Asked {
    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    pub(crate) fn limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// What the last message of the user says, or the prompt.
    pub(crate) fn last_text(&self) -> Cow<'_, str> {
        let user = |message: &&Value| message["role"] == "user";
        match self.messages.as_ref().and_then(|messages| messages.iter().rev().find(user)) {
            Some(message) => text_of(&message["content"]),
            None => self.prompt.as_ref().map_or(Cow::Borrowed(""), text_of),
        }
    }

    /// All of the input as text: what the answer and the token count depend on.
    pub(crate) fn input(&self) -> String {
        let messages =
            self.messages.iter().flatten().map(|message| text_of(&message["content"]).into_owned());
        messages
            .chain(self.prompt.iter().map(|prompt| text_of(prompt).into_owned()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(crate) fn prompt_tokens(&self) -> u64 {
        pieces(&self.input()).count() as u64
    }
}

/// The text of a content: a string, or a list of parts.
fn text_of(content: &Value) -> Cow<'_, str> {
    match content {
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.as_str().or_else(|| part["text"].as_str()));
            Cow::Owned(texts.collect::<Vec<_>>().join(""))
        }
        _ => Cow::Borrowed(""),
    }
}
