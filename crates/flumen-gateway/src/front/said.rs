//! What the HTTP API answers, in the words of the contract.

use std::time::Duration;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use flumen_rpc::{
    Code, Status,
    generation::{Delta, Error, Finish, Say, ToolCallDelta, Usage},
};
use flumen_stream::Event;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Collected, Limited};
use serde::Deserialize;
use serde_json::Value;

/// Larger answers are none that could be passed on in one message, in bytes.
const LARGEST: usize = 16 << 20;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk {
    choices: Vec<Choice>,
    usage: Option<Spent>,
    error: Option<Fault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u32,
    #[serde(alias = "message")]
    delta: Piece,
    text: String,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Piece {
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Tool>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tool {
    index: u32,
    id: String,
    function: Function,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Function {
    name: String,
    arguments: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spent {
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    code: Value,
    message: String,
}

impl Fault {
    fn code(&self) -> String {
        self.code.as_str().map_or_else(|| "upstream_error".to_owned(), str::to_owned)
    }
}

/// Reads the events of a stream.
pub(super) struct Reader {
    verbatim: bool,
    finish: Finish,
}

impl Reader {
    /// `verbatim` passes payloads on as they are.
    pub(super) fn new(verbatim: bool) -> Self {
        Self { verbatim, finish: Finish::default() }
    }

    /// What an event says.
    pub(super) fn read(&mut self, event: &Event) -> Vec<Say> {
        let payload = event.payload();
        if !event.has_data() {
            return Vec::new();
        }
        if payload.starts_with(b"[DONE]") {
            return vec![Say::Finish(std::mem::take(&mut self.finish))];
        }
        let look = crate::sink::is_error(event) || !self.verbatim;
        let chunk: Chunk =
            if look { serde_json::from_slice(&payload).unwrap_or_default() } else { Chunk::default() };
        if let Some(fault) = chunk.error {
            return vec![Say::Error(Error { code: fault.code(), message: fault.message })];
        }
        if self.verbatim {
            return vec![frame(Bytes::copy_from_slice(&payload))];
        }
        self.spell(chunk)
    }

    fn spell(&mut self, chunk: Chunk) -> Vec<Say> {
        let mut says = Vec::new();
        for choice in chunk.choices {
            if let Some(reason) = choice.finish_reason {
                self.finish = Finish { reason, index: choice.index, ..Finish::default() };
            }
            let delta = delta(choice.index, choice.delta, choice.text);
            if delta != (Delta { index: choice.index, ..Delta::default() }) {
                says.push(Say::Delta(delta));
            }
        }
        says.extend(chunk.usage.map(|Spent { prompt_tokens, completion_tokens }| {
            Say::Usage(Usage { prompt_tokens, completion_tokens })
        }));
        says
    }
}

fn frame(frame: Bytes) -> Say {
    Say::Delta(Delta { frame, ..Delta::default() })
}

fn delta(index: u32, piece: Piece, text: String) -> Delta {
    let tool = |tool: Tool| ToolCallDelta {
        index: tool.index,
        id: tool.id,
        name: tool.function.name,
        arguments: tool.function.arguments,
    };
    Delta {
        index,
        text: piece.content.unwrap_or(text),
        reasoning: piece.reasoning_content.unwrap_or_default(),
        refusal: piece.refusal.unwrap_or_default(),
        tool_calls: piece.tool_calls.unwrap_or_default().into_iter().map(tool).collect(),
        frame: Bytes::new(),
    }
}

/// What an answer says that is no stream.
pub(super) async fn whole(body: Body, verbatim: bool) -> Result<Vec<Say>, Status> {
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(|_| Status::unavailable("the answer broke off, or is too large"))?.to_bytes();
    let mut reader = Reader::new(verbatim);
    let mut says = if verbatim {
        vec![frame(body)]
    } else {
        reader.spell(serde_json::from_slice(&body).unwrap_or_default())
    };
    says.push(Say::Finish(reader.finish));
    Ok(says)
}

/// The status of a call whose request was refused.
pub(super) async fn refusal(response: Response) -> Status {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, 64 << 10).collect().await.map(Collected::to_bytes).unwrap_or_default();
    let fault = serde_json::from_slice::<Chunk>(&body).unwrap_or_default().error.unwrap_or_default();
    let retry = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let reason = fault.code();
    Status::new(code_of(head.status), fault.message).because(&reason, retry.map(Duration::from_secs))
}

fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 | 413 | 415 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        410 => Code::OutOfRange,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_deltas_usage_and_an_end() {
        let mut reader = Reader::new(false);
        let mut read = |payload: &str| reader.read(&Event::data(payload));
        let text = |text: &str| Say::Delta(Delta { text: text.into(), ..Delta::default() });
        assert_eq!(read(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#), []);
        assert_eq!(read(r#"{"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}"#), [text("hi")]);
        assert_eq!(read(r#"{"choices":[{"index":0,"text":"ho"}]}"#), [text("ho")]);
        assert_eq!(read(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#), []);
        let usage = Usage { prompt_tokens: 1, completion_tokens: 2 };
        assert_eq!(
            read(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#),
            [Say::Usage(usage)]
        );
        assert_eq!(read("[DONE]"), [Say::Finish(Finish { reason: "length".into(), ..Finish::default() })]);
        let error = Error { code: "idle_timeout".into(), message: "m".into() };
        assert_eq!(read(r#"{"error":{"code":"idle_timeout","message":"m"}}"#), [Say::Error(error)]);
    }

    #[test]
    fn payloads_pass_as_they_are_where_that_is_wanted() {
        let mut reader = Reader::new(true);
        let payload = "{ \"choices\": [] }";
        assert_eq!(reader.read(&Event::data(payload)), [frame(Bytes::from_static(payload.as_bytes()))]);
        assert!(matches!(&reader.read(&Event::data(r#"{"error":{"message":"m"}}"#))[..], [Say::Error(_)]));
        assert!(reader.read(&Event::ping()).is_empty());
    }
}
