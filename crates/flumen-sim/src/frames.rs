//! The JSON around an answer, made once per reply.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};

use crate::stats::wall_clock;

/// The form that an answer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A message of the assistant.
    Chat,
    /// A call of a tool; the answer's text is its arguments.
    ToolCall { id: String, name: String },
    /// The legacy form: bare text.
    Text,
}

impl Shape {
    /// The reason for which an answer of this form usually ends.
    pub(crate) fn finish_reason(&self) -> &'static str {
        match self {
            Self::Chat | Self::Text => "stop",
            Self::ToolCall { .. } => "tool_calls",
        }
    }
}

/// How an event ends.
const EVENT_END: &str = "}\n\n";

/// The frames that an answer's text is put in.
#[derive(Debug)]
pub(crate) struct Frames {
    shape: Shape,
    /// The fields that all frames have, for the whole answer and for a part of it.
    whole: String,
    part: String,
    include_usage: bool,
    /// Every event tells its number and when it was made.
    stamp: bool,
    prompt_tokens: u64,
    /// What stands before and after the text of every event.
    before: String,
    after: String,
}

impl Frames {
    /// Frames for an answer from this model; `number` tells the replies apart.
    pub(crate) fn new(
        shape: Shape,
        model: &str,
        number: u64,
        prompt_tokens: u64,
        include_usage: bool,
        stamp: bool,
    ) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The time as well, so that ids differ between runs.
        let unique = crate::hash::Hash::new()
            .part(&number.to_le_bytes())
            .part(&created.as_nanos().to_le_bytes())
            .finish();
        let (prefix, whole, part) = match shape {
            Shape::Chat | Shape::ToolCall { .. } => ("chatcmpl", "chat.completion", "chat.completion.chunk"),
            Shape::Text => ("cmpl", "text_completion", "text_completion"),
        };
        let fields = |object: &str| {
            let (created, model) = (created.as_secs(), quoted(model));
            format!(
                r#"{{"id":"{prefix}-sim-{unique:016x}","object":"{object}","created":{created},"model":{model},"system_fingerprint":"fp_sim","#
            )
        };
        let (whole, part) = (fields(whole), fields(part));
        let mut frames = Self {
            shape,
            whole,
            part,
            include_usage,
            stamp,
            prompt_tokens,
            before: String::new(),
            after: String::new(),
        };
        let (before, after) = match frames.shape {
            Shape::Chat => (r#"{"content":"#, "}"),
            Shape::ToolCall { .. } => (r#"{"tool_calls":[{"index":0,"function":{"arguments":"#, "}}]}"),
            Shape::Text => ("", ""),
        };
        // The choice is written around a mark, and cut in two where the mark is.
        let event = frames.event(&frames.choice(&format!("{before}\0{after}"), "null"));
        if let Some((before, after)) = event.split_once('\0') {
            (frames.before, frames.after) = (before.to_owned(), after.to_owned());
        }
        frames
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What comes before the first token, if anything.
    pub(crate) fn opening(&self) -> Option<String> {
        let delta = match &self.shape {
            Shape::Chat => r#"{"role":"assistant","content":""}"#.to_owned(),
            Shape::ToolCall { id, name } => format!(
                r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":{},"arguments":""}}}}]}}"#,
                quoted(name)
            ),
            Shape::Text => return None,
        };
        Some(self.event(&self.choice(&delta, "null")))
    }

    /// Writes the event of this number, counted from 0, with this text.
    pub(crate) fn put(&self, buffer: &mut BytesMut, number: u64, text: &str) {
        buffer.reserve(self.before.len() + text.len() + self.after.len() + 16);
        buffer.put_slice(self.before.as_bytes());
        put_quoted(buffer, text);
        if self.stamp {
            buffer.put_slice(stamped(&self.after, number).as_bytes());
        } else {
            buffer.put_slice(self.after.as_bytes());
        }
    }

    /// The last event, of this number, the usage if it was asked for, and the end mark.
    pub(crate) fn closing(&self, number: u64, finish_reason: &str, tokens: u64) -> String {
        let empty = if self.shape == Shape::Text { r#""""# } else { "{}" };
        let mut events = self.event(&self.choice(empty, &quoted(finish_reason)));
        if self.stamp {
            events = stamped(&events, number);
        }
        if self.include_usage {
            events += &format!("data: {}\"choices\":[],\"usage\":{}}}\n\n", self.part, self.usage(tokens));
        }
        events + "data: [DONE]\n\n"
    }

    /// The whole answer as one object.
    pub(crate) fn whole(&self, text: &str, finish_reason: &str, tokens: u64) -> String {
        let (text, usage) = (quoted(text), self.usage(tokens));
        let answer = match &self.shape {
            Shape::Chat => {
                format!(r#""message":{{"role":"assistant","content":{text},"refusal":null}}"#)
            }
            Shape::ToolCall { id, name } => format!(
                r#""message":{{"role":"assistant","content":null,"refusal":null,"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":{},"arguments":{text}}}}}]}}"#,
                quoted(name)
            ),
            Shape::Text => format!(r#""text":{text}"#),
        };
        format!(
            r#"{}"choices":[{{"index":0,{answer},"logprobs":null,"finish_reason":"{finish_reason}"}}],"usage":{usage}}}"#,
            self.whole
        )
    }

    fn choice(&self, content: &str, finish_reason: &str) -> String {
        let name = if self.shape == Shape::Text { "text" } else { "delta" };
        format!(r#"{{"index":0,"{name}":{content},"logprobs":null,"finish_reason":{finish_reason}}}"#)
    }

    fn event(&self, choice: &str) -> String {
        let usage = if self.include_usage { r#","usage":null"# } else { "" };
        format!("data: {}\"choices\":[{choice}]{usage}{EVENT_END}", self.part)
    }

    fn usage(&self, tokens: u64) -> String {
        let (prompt, total) = (self.prompt_tokens, self.prompt_tokens + tokens);
        format!(r#"{{"prompt_tokens":{prompt},"completion_tokens":{tokens},"total_tokens":{total}}}"#)
    }
}

/// An event, or the end of one, that tells its number and when it was made.
fn stamped(event: &str, number: u64) -> String {
    let object = event.strip_suffix(EVENT_END).unwrap_or_default();
    format!(r#"{object},"sim":{{"seq":{number},"at":{}}}{EVENT_END}"#, wall_clock())
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes a text as a JSON string.
fn put_quoted(buffer: &mut BytesMut, text: &str) {
    buffer.put_u8(b'"');
    let (bytes, mut done) = (text.as_bytes(), 0);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= b' ' && !matches!(byte, b'"' | b'\\') {
            continue;
        }
        buffer.put_slice(&bytes[done..at]);
        match byte {
            b'"' => buffer.put_slice(b"\\\""),
            b'\\' => buffer.put_slice(b"\\\\"),
            b'\n' => buffer.put_slice(b"\\n"),
            control => buffer.put_slice(format!("\\u{control:04x}").as_bytes()),
        }
        done = at + 1;
    }
    buffer.put_slice(&bytes[done..]);
    buffer.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_keeps_every_character() {
        let text: String = ('\0'..='\u{2ff}').chain("🌊\u{2028}\u{feff}".chars()).collect();
        let mut buffer = BytesMut::new();
        put_quoted(&mut buffer, &text);
        assert_eq!(serde_json::from_slice::<String>(&buffer).unwrap(), text);
    }

    #[test]
    fn a_model_named_with_control_characters_breaks_nothing() {
        let frames = Frames::new(Shape::Chat, "a\0\"\n", 1, 2, true, true);
        let mut buffer = BytesMut::new();
        frames.put(&mut buffer, 4, "x\n");
        let event = String::from_utf8(buffer.to_vec()).unwrap();
        let json = event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["model"], "a\0\"\n");
        assert_eq!(json["choices"][0]["delta"]["content"], "x\n");
        assert_eq!(json["sim"]["seq"], 4);
        assert!(json["sim"]["at"].as_u64().unwrap() > 1_700_000_000_000_000);
    }
}
