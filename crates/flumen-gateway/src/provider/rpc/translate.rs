//! What a service says, in the dialect of whoever asked.

use std::{collections::BTreeMap, fmt::Write, time::SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use flumen_rpc::generation::{Accepted, Delta, Error, Finish, ToolCallDelta, Usage};
use flumen_stream::Event;
use serde::Serialize;
use serde_json::{Value, json};

/// The dialects that a request can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Completions,
    Embeddings,
}

impl Dialect {
    /// The dialect of an endpoint.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/completions" => Self::Completions,
            "/embeddings" => Self::Embeddings,
            _ => Self::Chat,
        }
    }

    /// Its name in the contract.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "openai-chat",
            Self::Completions => "openai-completions",
            Self::Embeddings => "openai-embeddings",
        }
    }
}

/// Translates one answer.
pub(super) struct Translator {
    dialect: Dialect,
    stream: bool,
    id: String,
    created: u64,
    model: String,
    /// What stands before the choices of every chunk.
    head: String,
    usage: Option<Usage>,
    /// The answers whose role was told.
    begun: Vec<u32>,
    /// Whether the service writes the dialect itself.
    verbatim: bool,
    answers: BTreeMap<u32, Whole>,
    frames: BytesMut,
    held: usize,
    whole: Option<Bytes>,
}

/// An answer that is no stream.
#[derive(Default)]
struct Whole {
    text: String,
    reasoning: String,
    refusal: String,
    tools: BTreeMap<u32, ToolCallDelta>,
}

/// What each piece of an answer may take besides its text, in bytes.
const ANSWER: usize = 64;
/// Longer answers cannot be held back, in bytes.
const LONGEST: usize = 16 << 20;

#[derive(Serialize)]
struct Chat<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    refusal: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

impl Translator {
    /// For an answer in this dialect, as a stream or as a whole.
    pub(super) fn new(dialect: Dialect, stream: bool, model: &str) -> Self {
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let prefix = if dialect == Dialect::Chat { "chatcmpl" } else { "cmpl" };
        let mut translator = Self {
            dialect,
            stream,
            id: format!("{prefix}-{:032x}", fastrand::u128(..)),
            created,
            model: model.to_owned(),
            head: String::new(),
            usage: None,
            begun: Vec::new(),
            verbatim: false,
            answers: BTreeMap::new(),
            frames: BytesMut::new(),
            held: 0,
            whole: None,
        };
        translator.write_head();
        translator
    }

    pub(super) fn is_stream(&self) -> bool {
        self.stream
    }

    /// Whether more has come of an answer than can be held back.
    pub(super) fn is_too_long(&self) -> bool {
        self.held > LONGEST
    }

    /// The whole answer, once.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        self.whole.take()
    }

    fn write_head(&mut self) {
        let object = if self.dialect == Dialect::Chat { "chat.completion.chunk" } else { "text_completion" };
        let (id, model) = (Value::from(&*self.id), Value::from(&*self.model));
        self.head = format!(
            "{{\"id\":{id},\"object\":\"{object}\",\"created\":{},\"model\":{model},\"choices\":[",
            self.created
        );
    }

    pub(super) fn accepted(&mut self, accepted: &Accepted) {
        if !accepted.id.is_empty() {
            self.id.clone_from(&accepted.id);
        }
        if !accepted.model.is_empty() {
            self.model.clone_from(&accepted.model);
        }
        self.write_head();
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    pub(super) fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if !self.stream {
            return self.collect(delta);
        }
        if !delta.frame.is_empty() {
            self.verbatim = true;
            return put_event(&delta.frame, out);
        }
        out.put_slice(b"data: ");
        out.put_slice(self.head.as_bytes());
        let first = !self.begun.contains(&delta.index);
        if first {
            self.begun.push(delta.index);
        }
        if self.dialect == Dialect::Chat {
            let chat = Chat {
                role: first.then_some("assistant"),
                content: &delta.text,
                reasoning_content: &delta.reasoning,
                refusal: &delta.refusal,
                tool_calls: delta.tool_calls.iter().map(tool).collect(),
            };
            put_choice(delta.index, "delta", &chat, out);
        } else {
            put_choice(delta.index, "text", &delta.text, out);
        }
        out.put_slice(b",\"finish_reason\":null}]}\n\n");
    }

    pub(super) fn error(error: &Error, out: &mut BytesMut) {
        let code = if error.code.is_empty() { "upstream_error" } else { &error.code };
        let body =
            json!({"error": {"message": error.message, "type": "server_error", "param": null, "code": code}});
        put_event(body.to_string().as_bytes(), out);
    }

    pub(super) fn finish(&mut self, finish: &Finish, out: &mut BytesMut) {
        let reason = if finish.reason.is_empty() { "stop" } else { &finish.reason };
        if !self.stream {
            self.whole = Some(self.assemble(reason));
            return;
        }
        if !self.verbatim {
            let (head, index) = (&self.head, finish.index);
            let said = if self.dialect == Dialect::Chat { "\"delta\":{}" } else { "\"text\":\"\"" };
            let reason = Value::from(reason);
            let chunk = format!("{head}{{\"index\":{index},{said},\"finish_reason\":{reason}}}]}}");
            put_event(chunk.as_bytes(), out);
        }
        if let Some(usage) = self.usage.take() {
            put_event(format!("{}],\"usage\":{}}}", self.head, spelt(usage)).as_bytes(), out);
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn collect(&mut self, delta: &Delta) {
        self.held +=
            ANSWER + delta.frame.len() + delta.text.len() + delta.reasoning.len() + delta.refusal.len();
        self.frames.put_slice(&delta.frame);
        let answer = self.answers.entry(delta.index).or_default();
        answer.text.push_str(&delta.text);
        answer.reasoning.push_str(&delta.reasoning);
        answer.refusal.push_str(&delta.refusal);
        for piece in &delta.tool_calls {
            self.held += piece.arguments.len() + 64;
            let call = answer
                .tools
                .entry(piece.index)
                .or_insert_with(|| ToolCallDelta { index: piece.index, ..ToolCallDelta::default() });
            call.arguments.push_str(&piece.arguments);
            if !piece.id.is_empty() {
                call.id.clone_from(&piece.id);
                call.name.clone_from(&piece.name);
            }
        }
    }

    fn assemble(&mut self, reason: &str) -> Bytes {
        if !self.frames.is_empty() {
            return std::mem::take(&mut self.frames).freeze();
        }
        let chat = self.dialect == Dialect::Chat;
        let object = if chat { "chat.completion" } else { "text_completion" };
        let choices: Vec<Value> = self
            .answers
            .iter()
            .map(|(index, answer)| {
                let (key, said) =
                    if chat { ("message", answer.message()) } else { ("text", answer.text.as_str().into()) };
                json!({"index": index, key: said, "finish_reason": reason})
            })
            .collect();
        let mut body = json!({"id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": choices});
        if let Some(usage) = self.usage.take() {
            body["usage"] = spelt(usage);
        }
        Bytes::from(body.to_string())
    }
}

impl Whole {
    fn message(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        for (key, value) in [("reasoning_content", &self.reasoning), ("refusal", &self.refusal)] {
            if !value.is_empty() {
                message[key] = Value::from(&**value);
            }
        }
        if !self.tools.is_empty() {
            let calls: Vec<_> = self.tools.values().map(tool_call).collect();
            message["tool_calls"] = calls.into();
        }
        message
    }
}

/// A call of a tool, as a whole.
fn tool_call(call: &ToolCallDelta) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// A piece of a call of a tool. Its first piece says which it is.
fn tool(piece: &ToolCallDelta) -> Value {
    if piece.id.is_empty() {
        return json!({"index": piece.index, "function": {"arguments": piece.arguments}});
    }
    let mut call = tool_call(piece);
    call["index"] = piece.index.into();
    call
}

fn spelt(usage: Usage) -> Value {
    let Usage { prompt_tokens, completion_tokens } = usage;
    let total = prompt_tokens.saturating_add(completion_tokens);
    json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total})
}

/// A choice up to the end of what it says.
fn put_choice(index: u32, key: &str, said: &impl Serialize, out: &mut BytesMut) {
    // Strings and maps of strings can always be written, and so can memory.
    let _ = write!(out, "{{\"index\":{index},\"{key}\":");
    let _ = serde_json::to_writer(out.writer(), said);
}

fn put_event(payload: &[u8], out: &mut BytesMut) {
    if memchr::memchr2(b'\n', b'\r', payload).is_some() {
        return out.put_slice(Event::data(payload).wire());
    }
    out.reserve(payload.len() + 8);
    out.put_slice(b"data: ");
    out.put_slice(payload);
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(out: &BytesMut) -> Vec<Value> {
        let text = str::from_utf8(out).unwrap();
        let payloads = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        payloads.map(|payload| serde_json::from_str(payload).unwrap_or_else(|_| payload.into())).collect()
    }

    fn text(text: &str) -> Delta {
        Delta { text: text.into(), ..Delta::default() }
    }

    #[test]
    fn a_stream_is_what_openai_would_send() {
        let (mut out, mut translator) = (BytesMut::new(), Translator::new(Dialect::Chat, true, "m"));
        translator.accepted(&Accepted { id: "own".into(), model: String::new() });
        translator.delta(&text("a\"\n"), &mut out);
        translator.delta(&text("b"), &mut out);
        translator.usage(Usage { prompt_tokens: 1, completion_tokens: 2 });
        translator.finish(&Finish::default(), &mut out);
        let events = events(&out);
        assert_eq!(events[0]["id"], "own");
        assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": "a\"\n"}));
        assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "b"}));
        assert_eq!(events[2]["choices"][0]["finish_reason"], "stop");
        assert_eq!(events[3]["usage"]["total_tokens"], 3);
        assert_eq!((events[3]["choices"].as_array().unwrap().len(), &events[4]), (0, &json!("[DONE]")));
    }

    #[test]
    fn frames_pass_as_they_are() {
        let (mut out, mut translator) = (BytesMut::new(), Translator::new(Dialect::Chat, true, "m"));
        let frame = |frame: &'static [u8]| Delta { frame: Bytes::from_static(frame), ..Delta::default() };
        translator.delta(&frame(b"{ \"x\" : 1.0 }"), &mut out);
        translator.delta(&frame(b"two\nlines"), &mut out);
        translator.finish(&Finish::default(), &mut out);
        assert_eq!(out, "data: { \"x\" : 1.0 }\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\n");
    }

    #[test]
    fn a_whole_answer_is_put_together() {
        let mut translator = Translator::new(Dialect::Chat, false, "m");
        let mut out = BytesMut::new();
        let piece = |id: &str, arguments: &str| ToolCallDelta {
            index: 0,
            id: id.into(),
            name: id.into(),
            arguments: arguments.into(),
        };
        for delta in [
            text("a"),
            text("b"),
            Delta { tool_calls: vec![piece("f", "{")], ..Delta::default() },
            Delta { tool_calls: vec![piece("", "}")], ..Delta::default() },
        ] {
            translator.delta(&delta, &mut out);
        }
        translator.finish(&Finish { reason: "tool_calls".into(), ..Finish::default() }, &mut out);
        let body: Value = serde_json::from_slice(&translator.take_whole().unwrap()).unwrap();
        let message = &body["choices"][0]["message"];
        assert_eq!((&message["content"], &body["object"]), (&json!("ab"), &json!("chat.completion")));
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{}");
        assert!(out.is_empty() && translator.take_whole().is_none());
    }
}
