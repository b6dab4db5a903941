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

use crate::error::Failure;

/// Larger answers are none that could be passed on in one message, in bytes.
const LARGEST: usize = 16 << 20;

/// A chunk or an answer. Everything may be missing or null: upstreams differ.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Spent>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: Option<u32>,
    delta: Option<Piece>,
    message: Option<Piece>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Piece {
    content: Option<String>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Tool>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tool {
    index: Option<u32>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spent {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// The code and the words of an error object, or of what stands in its place.
fn fault(error: &Value) -> (String, String) {
    let code = error["code"].as_str().unwrap_or("upstream_error").to_owned();
    let message = error["message"].as_str().or(error.as_str()).unwrap_or("the upstream reported an error");
    (code, message.to_owned())
}

fn unreadable(error: &serde_json::Error) -> Status {
    Status::new(Code::Internal, format!("the answer cannot be put into deltas; ask with `raw`: {error}"))
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
    ///
    /// # Errors
    /// When it says something that the contract's own messages cannot say. Nothing is left out without a word.
    pub(super) fn read(&mut self, event: &Event) -> Result<Vec<Say>, Status> {
        let payload = event.payload();
        if !event.has_data() {
            return Ok(Vec::new());
        }
        if payload.starts_with(b"[DONE]") {
            return Ok(vec![Say::Finish(std::mem::take(&mut self.finish))]);
        }
        if crate::sink::is_error(event) {
            let chunk: Chunk = serde_json::from_slice(&payload).unwrap_or_default();
            let (code, message) = fault(&chunk.error.unwrap_or_default());
            return Ok(vec![Say::Error(Error { code, message })]);
        }
        if self.verbatim {
            return Ok(vec![frame(Bytes::copy_from_slice(&payload))]);
        }
        serde_json::from_slice(&payload).map(|chunk| self.spell(chunk)).map_err(|error| unreadable(&error))
    }

    fn spell(&mut self, chunk: Chunk) -> Vec<Say> {
        let mut says = Vec::new();
        for choice in chunk.choices.unwrap_or_default() {
            let index = choice.index.unwrap_or_default();
            if let Some(reason) = choice.finish_reason {
                self.finish = Finish { reason, index, ..Finish::default() };
            }
            let said = choice.delta.or(choice.message).unwrap_or_default();
            let delta = delta(index, said, choice.text.unwrap_or_default());
            if delta != (Delta { index, ..Delta::default() }) {
                says.push(Say::Delta(delta));
            }
        }
        says.extend(chunk.usage.map(|spent| {
            Say::Usage(Usage {
                prompt_tokens: spent.prompt_tokens.unwrap_or_default(),
                completion_tokens: spent.completion_tokens.unwrap_or_default(),
            })
        }));
        says
    }
}

fn frame(frame: Bytes) -> Say {
    Say::Delta(Delta { frame, ..Delta::default() })
}

fn delta(index: u32, piece: Piece, text: String) -> Delta {
    let tool = |tool: Tool| {
        let Function { name, arguments } = tool.function.unwrap_or_default();
        ToolCallDelta {
            index: tool.index.unwrap_or_default(),
            id: tool.id.unwrap_or_default(),
            name: name.unwrap_or_default(),
            arguments: arguments.unwrap_or_default(),
        }
    };
    Delta {
        index,
        text: piece.content.unwrap_or(text),
        reasoning: piece.reasoning_content.or(piece.reasoning).unwrap_or_default(),
        refusal: piece.refusal.unwrap_or_default(),
        tool_calls: piece.tool_calls.unwrap_or_default().into_iter().map(tool).collect(),
        frame: Bytes::new(),
    }
}

/// Callers take messages of 4 MiB, by default; a larger answer comes in several.
const FRAME: usize = 1 << 20;

/// What an answer says that is no stream.
pub(super) async fn whole(body: Body, verbatim: bool) -> Result<Vec<Say>, Status> {
    let body = Limited::new(body, LARGEST).collect().await;
    let mut body = body.map_err(|_| Status::unavailable("the answer broke off, or is too large"))?.to_bytes();
    let mut reader = Reader::new(verbatim);
    let mut says = Vec::new();
    if verbatim {
        while !body.is_empty() {
            says.push(frame(body.split_to(body.len().min(FRAME))));
        }
    } else {
        says = reader.spell(serde_json::from_slice(&body).map_err(|error| unreadable(&error))?);
    }
    says.push(Say::Finish(reader.finish));
    Ok(says)
}

/// The status of a call whose request was refused.
pub(super) async fn refusal(response: Response) -> Status {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, 64 << 10).collect().await.map(Collected::to_bytes).unwrap_or_default();
    if head.status.is_success() {
        return Status::new(Code::Internal, format!("HTTP status {} is no answer to a call", head.status));
    }
    let chunk = serde_json::from_slice::<Chunk>(&body).unwrap_or_default();
    let (code, message) = fault(&chunk.error.unwrap_or_default());
    let retry = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Status::new(code_of(head.status), message).because(&code, retry.map(Duration::from_secs))
}

/// The status of a call that was refused before it was looked at.
pub(super) fn refused(failure: &Failure) -> Status {
    let retry = failure.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
    Status::new(code_of(failure.status), failure.message.clone()).because(failure.code, retry)
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
        let mut read = |payload: &str| reader.read(&Event::data(payload)).unwrap();
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
    fn what_upstreams_leave_out_or_say_twice_loses_no_token() {
        let mut reader = Reader::new(false);
        let mut read = |payload: &str| reader.read(&Event::data(payload));
        let nulls = r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":null,"function":
            {"name":null,"arguments":"{"}}]}}],"usage":{"prompt_tokens":null}}"#
            .replace('\n', "");
        let says = read(&nulls).unwrap();
        assert!(matches!(&says[0], Say::Delta(delta) if delta.tool_calls[0].arguments == "{"), "{says:?}");
        let twice = r#"{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r"}}]}"#;
        assert!(matches!(&read(twice).unwrap()[0], Say::Delta(delta) if delta.reasoning == "r"));
        assert_eq!(read(r#"{"choices":null}"#).unwrap(), []);
        assert!(read(r#"{"choices":"none"}"#).is_err() && read("no json").is_err());
    }

    #[test]
    fn payloads_pass_as_they_are_where_that_is_wanted() {
        let mut reader = Reader::new(true);
        let payload = "{ \"choices\": [] }";
        assert_eq!(
            reader.read(&Event::data(payload)).unwrap(),
            [frame(Bytes::from_static(payload.as_bytes()))]
        );
        assert!(matches!(
            &reader.read(&Event::data(r#"{"error":{"message":"m"}}"#)).unwrap()[..],
            [Say::Error(_)]
        ));
        assert!(reader.read(&Event::ping()).unwrap().is_empty());
    }
}
