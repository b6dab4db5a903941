//! What requests for text look like. Fields that change nothing here are accepted and ignored.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, error::Category};

use crate::{error::ApiError, hash::Hash, pieces, text::Language};

/// The body of a request for text, in either form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    pub(crate) model: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) messages: Option<Vec<Message>>,
    pub(crate) prompt: Option<Input>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) max_completion_tokens: Option<u64>,
    pub(crate) seed: Option<i64>,
    pub(crate) n: Option<u64>,
    pub(crate) tools: Option<Vec<Tool>>,
    pub(crate) tool_choice: Option<Value>,
    /// The last message is the beginning of the answer, which goes on after it (as vLLM and `SGLang` call it).
    pub(crate) continue_final_message: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tool {
    pub(crate) function: Option<Function>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) parameters: Option<Map<String, Value>>,
}

/// One text or several, or their tokens.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
    TokenLists(Vec<Vec<u64>>),
}

impl Input {
    /// The texts; tokens are spelled as numbers.
    pub(crate) fn into_texts(self) -> Vec<String> {
        let spell = |tokens: Vec<u64>| {
            let words: Vec<String> = tokens.iter().map(ToString::to_string).collect();
            words.join(" ")
        };
        match self {
            Self::Text(text) => vec![text],
            Self::Texts(texts) => texts,
            Self::Tokens(tokens) => vec![spell(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(spell).collect(),
        }
    }
}

/// Reads a body.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => {
            ApiError { param: None, ..ApiError::invalid("", format!("a field is wrong: {error}")) }
        }
        Category::Io | Category::Syntax | Category::Eof => ApiError {
            param: None,
            code: Some("invalid_json"),
            ..ApiError::invalid("", format!("the body is not JSON: {error}"))
        },
    })
}

impl Message {
    /// The text of the message, its parts joined.
    pub(crate) fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
        }
    }
}

/// What the answer depends on: the texts of a request, and how much they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt {
    pub(crate) hash: u64,
    pub(crate) tokens: u64,
    /// That of the last text.
    pub(crate) language: Language,
}

impl Prompt {
    /// The prompt that consists of these roles and texts.
    pub(crate) fn new<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut hash, mut tokens, mut language) = (Hash::new(), 0, Language::English);
        for (role, text) in texts {
            hash = hash.part(role.as_bytes()).part(text.as_bytes());
            tokens += pieces::count(text);
            language = Language::of(text);
        }
        Self { hash: hash.finish(), tokens, language }
    }

    /// The same prompt, to which the beginning of the answer was added: it counts as prompt and changes nothing else.
    pub(crate) fn continued(self, spoken: &str) -> Self {
        Self { tokens: self.tokens + pieces::count(spoken), ..self }
    }
}
