//! One answer: its pieces, and the shape that they take on the wire.

use serde_json::{Value, json};

use crate::{
    directives::Directives,
    request::Asked,
    text::{Pieces, pieces, stable_hash},
    tools::{self, ToolCall},
};

/// Which API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
}

/// Everything about an answer save the time that it takes.
pub(crate) struct Answer {
    api: Api,
    id: String,
    created: u64,
    model: String,
    pub(crate) wants_usage: bool,
    prompt_tokens: u64,
    pub(crate) tokens: u64,
    capped: bool,
    size: usize,
    call: Option<ToolCall>,
    pieces: Box<dyn Iterator<Item = String> + Send>,
    /// The JSON of an event up to its text, and from there on.
    frame: (Vec<u8>, Vec<u8>),
}

impl Answer {
    pub(crate) fn new(api: Api, asked: &Asked, directives: &Directives, seed: u64, created: u64) -> Self {
        let model = asked.model.clone().unwrap_or_default();
        let hash = stable_hash(asked.input().as_bytes());
        let seed = match (directives.seed, asked.seed) {
            (Some(seed), _) => seed,
            (None, Some(seed)) => seed.cast_unsigned(),
            (None, None) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash,
        };
        let call = (api == Api::Chat && !directives.echo).then(|| tools::decide(asked)).flatten();
        let source: Option<Vec<String>> = match &call {
            Some(call) => Some(pieces(&call.arguments).map(str::to_owned).collect()),
            None => directives.echo.then(|| pieces(&asked.last_text()).map(str::to_owned).collect()),
        };
        let plausible = || 80 + fastrand::Rng::with_seed(seed).u64(..160);
        let length = match &source {
            Some(source) => source.len() as u64,
            None => directives.tokens.unwrap_or_else(plausible),
        };
        let limit = asked.limit().unwrap_or(u64::MAX);
        let id =
            format!("{}-sim-{:016x}", if api == Api::Chat { "chatcmpl" } else { "cmpl" }, fastrand::u64(..));
        let pieces: Box<dyn Iterator<Item = String> + Send> = match source {
            Some(source) => Box::new(source.into_iter()),
            None => Box::new(Pieces::new(seed, directives.language)),
        };
        let mut answer = Self {
            api,
            id,
            created,
            model,
            wants_usage: asked.wants_usage(),
            prompt_tokens: asked.prompt_tokens(),
            tokens: length.min(limit),
            capped: limit < length,
            size: directives.size,
            call,
            pieces,
            frame: (Vec::new(), Vec::new()),
        };
        answer.frame = answer.frame();
        answer
    }

    /// Up to `count` further pieces as one text, padded if the request says so; `None` when there is nothing left.
    pub(crate) fn next_text(&mut self, count: u32) -> Option<(String, u64)> {
        let count = u64::from(count).min(self.tokens);
        if count == 0 {
            return None;
        }
        self.tokens -= count;
        let mut text = String::new();
        for _ in 0..count {
            text.push_str(&self.pieces.next()?);
        }
        if text.len() < self.size {
            let padding = self.size - text.len();
            text.extend(std::iter::repeat_n('~', padding));
        }
        Some((text, count))
    }

    /// The event that opens a chat: the role, or the head of a tool call.
    pub(crate) fn write_opening(&self, out: &mut Vec<u8>) {
        if self.api == Api::Completions {
            return;
        }
        let delta = match &self.call {
            None => json!({"role": "assistant", "content": ""}),
            Some(call) => json!({"role": "assistant", "content": null, "tool_calls": [{
                "index": 0, "id": "call_sim_0", "type": "function",
                "function": {"name": call.name, "arguments": ""}}]}),
        };
        write_event(
            out,
            &self.chunk(&json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}])),
        );
    }

    /// The event of a piece of text.
    pub(crate) fn write_text(&self, out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(&self.frame.0);
        // Writing to a vector does not fail.
        let _ = serde_json::to_writer(&mut *out, text);
        out.extend_from_slice(&self.frame.1);
    }

    /// The events that end an answer: the reason, the usage if it was asked for, and the end mark.
    pub(crate) fn write_end(&self, out: &mut Vec<u8>, generated: u64) {
        let mut choice = json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": self.reason()});
        if self.api == Api::Completions {
            choice = json!({"index": 0, "text": "", "logprobs": null, "finish_reason": self.reason()});
        }
        write_event(out, &self.chunk(&json!([choice])));
        if self.wants_usage {
            let mut last = self.chunk(&json!([]));
            last["usage"] = self.usage(generated);
            write_event(out, &last);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// The answer in one piece.
    pub(crate) fn whole(&self, text: &str, generated: u64) -> Value {
        let mut choice = json!({"index": 0, "logprobs": null, "finish_reason": self.reason()});
        match (self.api, &self.call) {
            (Api::Completions, _) => choice["text"] = json!(text),
            (Api::Chat, None) => {
                choice["message"] = json!({"role": "assistant", "content": text, "refusal": null});
            }
            (Api::Chat, Some(call)) => {
                choice["message"] = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [{
                    "id": "call_sim_0", "type": "function",
                    "function": {"name": call.name, "arguments": text}}]});
            }
        }
        let object = if self.api == Api::Chat { "chat.completion" } else { "text_completion" };
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model,
               "system_fingerprint": "fp_sim", "choices": [choice], "usage": self.usage(generated)})
    }

    fn usage(&self, generated: u64) -> Value {
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": generated,
               "total_tokens": self.prompt_tokens + generated})
    }

    fn reason(&self) -> &'static str {
        match &self.call {
            _ if self.capped => "length",
            Some(_) => "tool_calls",
            None => "stop",
        }
    }

    fn chunk(&self, choices: &Value) -> Value {
        let object = if self.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut chunk = json!({"id": self.id, "object": object, "created": self.created, "model": self.model,
                               "system_fingerprint": "fp_sim", "choices": choices});
        if self.wants_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The event of a text, cut open where the text goes.
    fn frame(&self) -> (Vec<u8>, Vec<u8>) {
        const HERE: &str = "\u{1}here\u{1}";
        let choice = match (self.api, &self.call) {
            (Api::Completions, _) => {
                json!({"index": 0, "text": HERE, "logprobs": null, "finish_reason": null})
            }
            (Api::Chat, None) => {
                json!({"index": 0, "delta": {"content": HERE}, "logprobs": null, "finish_reason": null})
            }
            (Api::Chat, Some(_)) => json!({"index": 0, "logprobs": null, "finish_reason": null,
                "delta": {"tool_calls": [{"index": 0, "function": {"arguments": HERE}}]}}),
        };
        let mut event = Vec::new();
        write_event(&mut event, &self.chunk(&json!([choice])));
        let mark = json!(HERE).to_string().into_bytes();
        let at = event.windows(mark.len()).rposition(|part| part == mark).unwrap_or(event.len());
        (event[..at].to_vec(), event.get(at + mark.len()..).unwrap_or_default().to_vec())
    }
}

pub(crate) fn write_event(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(b"data: ");
    let _ = serde_json::to_writer(&mut *out, value);
    out.extend_from_slice(b"\n\n");
}
