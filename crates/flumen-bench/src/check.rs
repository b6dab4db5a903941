//! Whether a stream is what it should be.

use std::borrow::Cow;

use flumen_stream::Event;
use serde::{Deserialize, de::IgnoredAny};

use crate::exchange::Failure;

/// Follows one stream.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// The number that the next stamped event must have.
    next: u64,
    done: bool,
}

/// What one event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Part of the answer; when it was made, in microseconds since 1970, if it tells.
    Token(Option<u64>),
    /// Something around the answer.
    Frame,
    /// The end mark.
    Done,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
    #[serde(default)]
    sim: Option<Stamp>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(default)]
    tool_calls: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    code: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Deserialize)]
struct Stamp {
    seq: u64,
    at: u64,
}

impl Checker {
    pub(crate) fn look(&mut self, event: &Event) -> Result<Seen, Failure> {
        if !event.has_data() {
            return Ok(Seen::Frame);
        }
        if self.done {
            return Err(Failure::new("out of order", "an event came after [DONE]"));
        }
        let payload = event.payload();
        if *payload == *b"[DONE]" {
            self.done = true;
            return Ok(Seen::Done);
        }
        let chunk: Chunk<'_> = serde_json::from_slice(&payload).map_err(|error| {
            Failure::new("garbage", format!("an event is not what the OpenAI API sends: {error}"))
        })?;
        if let Some(problem) = chunk.error {
            let code = problem.code.unwrap_or("without a code".into());
            let message = problem.message.unwrap_or("it says nothing more".into());
            return Err(Failure::new(
                format!("error event {code}"),
                format!("the server ended the stream: {message}"),
            ));
        }
        if let Some(Stamp { seq, .. }) = chunk.sim {
            if seq != self.next {
                let message = format!("event {seq} came where event {} was due", self.next);
                return Err(Failure::new("out of order", message));
            }
            self.next += 1;
        }
        let said = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|text| !text.is_empty());
        let token = chunk.choices.iter().any(|choice| {
            let delta = choice.delta.as_ref().is_some_and(|delta| {
                said(&delta.content) || said(&delta.reasoning_content) || delta.tool_calls.is_some()
            });
            delta || said(&choice.text)
        });
        Ok(if token { Seen::Token(chunk.sim.map(|stamp| stamp.at)) } else { Seen::Frame })
    }

    /// The end of the body.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        if self.done {
            return Ok(());
        }
        Err(Failure::new("truncated", "a stream ended without its end mark [DONE]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(payloads: &[&str]) -> Result<(), String> {
        let mut checker = Checker::default();
        for payload in payloads {
            checker.look(&Event::data(payload)).map_err(|failure| failure.kind)?;
        }
        checker.end().map_err(|failure| failure.kind)
    }

    #[test]
    fn a_stream_in_order_passes() {
        kinds(&[
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"sim":{"seq":0,"at":1}}"#,
            r#"{"choices":[{"delta":{"content":"b"}}],"sim":{"seq":1,"at":2}}"#,
            r#"{"choices":[],"usage":{}}"#,
            "[DONE]",
        ])
        .unwrap();
    }

    #[test]
    fn what_is_wrong_has_a_kind() {
        let first = r#"{"choices":[],"sim":{"seq":0,"at":1}}"#;
        let third = r#"{"choices":[],"sim":{"seq":2,"at":1}}"#;
        for (payloads, kind) in [
            (vec![first], "truncated"),
            (vec![first, third], "out of order"),
            (vec![first, first], "out of order"),
            (vec!["[DONE]", first], "out of order"),
            (vec!["nonsense"], "garbage"),
            (vec![r#"{"error":{"code":"idle_timeout","message":"m"}}"#], "error event idle_timeout"),
        ] {
            assert_eq!(kinds(&payloads).unwrap_err(), kind);
        }
    }
}
