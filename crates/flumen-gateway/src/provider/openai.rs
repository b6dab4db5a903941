//! The dialect of OpenAI's chat completions and completions.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use flumen_stream::{End, Event, codec::sse::Decoder};
use memchr::memmem::Finder;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Value, json};

use crate::error::end_body;

/// What an event of a stream means to the gateway. Everything else in it is the client's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Part of the answer.
    Part,
    /// Usage, in an event that carries nothing else.
    Usage(Usage),
    /// Usage, in an event that carries part of the answer as well.
    PartAndUsage(Usage),
    /// The upstream reports an error.
    Error,
    /// The end mark.
    Done,
}

/// Tokens that a request took.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    #[serde(default, deserialize_with = "plausible")]
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    #[serde(default, deserialize_with = "plausible")]
    pub completion_tokens: u64,
}

/// No answer has more tokens: what says so must not settle accounts for ever.
const MOST_TOKENS: u64 = 1 << 40;

fn plausible<'de, D: Deserializer<'de>>(tokens: D) -> Result<u64, D::Error> {
    Option::<u64>::deserialize(tokens).map(|tokens| tokens.unwrap_or(0).min(MOST_TOKENS))
}

/// Looks at one event. Costs two substring searches; JSON is parsed only when they find something.
pub(crate) fn look(event: &Event) -> Look {
    static USAGE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"usage\""));
    static ERROR: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"error\""));

    let payload = event.payload();
    if payload.starts_with(b"[DONE]") {
        return Look::Done;
    }
    // Inside a JSON string the quotes would be escaped, so text of the answer cannot look like a key.
    let usage = USAGE.find(&payload).is_some_and(|at| !is_null(&payload[at + 7..]));
    if !usage && ERROR.find(&payload).is_none() && event.name().is_none() {
        return Look::Part;
    }
    if event.name() == Some(b"error") {
        return Look::Error;
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk>(&payload) else { return Look::Part };
    match chunk.usage {
        _ if chunk.error.is_some() => Look::Error,
        Some(usage) if chunk.choices.is_empty() => Look::Usage(usage),
        Some(usage) => Look::PartAndUsage(usage),
        None => Look::Part,
    }
}

/// Whether the value after a key is `null`, which some servers send in every event.
fn is_null(after_key: &[u8]) -> bool {
    let value = after_key.trim_ascii_start();
    value.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<IgnoredAny>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

/// The usage that a whole (not streamed) answer tells.
pub(crate) fn usage_of(answer: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        usage: Option<Usage>,
    }
    serde_json::from_slice::<Answer>(answer).ok()?.usage
}

/// The usage that stands at the end of a whole answer.
pub(crate) fn usage_at_end(tail: &[u8]) -> Option<Usage> {
    let at = memchr::memmem::rfind(tail, b"\"usage\"")?;
    let value = tail[at + 7..].trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value).into_iter::<Usage>().next()?.ok()
}

/// Whether an event carries something of the answer. The first event of a chat often names only the role: it says
/// that the server is there, not that the model speaks.
pub(crate) fn is_token(event: &Event) -> bool {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, default)]
        delta: Option<Delta<'a>>,
        #[serde(borrow, default)]
        text: Option<Cow<'a, str>>,
        #[serde(default)]
        finish_reason: Option<IgnoredAny>,
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
        refusal: Option<Cow<'a, str>>,
        #[serde(default)]
        tool_calls: Option<IgnoredAny>,
        #[serde(default)]
        function_call: Option<IgnoredAny>,
    }
    let said = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|text| !text.is_empty());
    let payload = event.payload();
    // An event that cannot be read belongs to a dialect we do not know: better a token too early than never one.
    serde_json::from_slice::<Chunk<'_>>(&payload).map_or(true, |chunk| {
        chunk.choices.iter().any(|choice| {
            let delta = choice.delta.as_ref().is_some_and(|delta| {
                said(&delta.content)
                    || said(&delta.reasoning)
                    || said(&delta.reasoning_content)
                    || said(&delta.refusal)
                    || delta.tool_calls.is_some()
                    || delta.function_call.is_some()
            });
            delta || said(&choice.text) || choice.finish_reason.is_some()
        })
    })
}

/// The event that ends a stream in any way but the good one. No end mark follows it.
pub(crate) fn error_event(end: &End) -> Event {
    Event::data(end_body(end))
}

/// The events that end an answer which somebody stopped: a last chunk in the likeness of the ones before, and the end mark.
pub(crate) fn stopped_events(last: Option<&[u8]>) -> Vec<Bytes> {
    let payload = last.and_then(|wire| {
        let mut decoder = Decoder::new(wire.len());
        decoder.push(Bytes::copy_from_slice(wire));
        let event = decoder.next()?.ok()?;
        serde_json::from_slice::<serde_json::Map<String, Value>>(&event.payload()).ok()
    });
    let mut chunk = payload.unwrap_or_else(|| {
        serde_json::Map::from_iter([("object".to_owned(), Value::from("chat.completion.chunk"))])
    });
    let is_text = chunk.get("object").is_some_and(|object| object == "text_completion");
    let choice = if is_text {
        json!({"index": 0, "text": "", "finish_reason": "stopped"})
    } else {
        json!({"index": 0, "delta": {}, "finish_reason": "stopped"})
    };
    chunk.insert("choices".to_owned(), json!([choice]));
    // What belonged to the one event that was copied.
    chunk.remove("usage");
    chunk.remove("sim");
    let events = [Event::data(Value::Object(chunk).to_string()), Event::data("[DONE]")];
    events.map(Event::into_wire).into()
}

/// The text of the first choice in an event: what a reader of plain text gets.
pub(crate) fn text_of(event: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        #[serde(default)]
        index: u32,
        #[serde(default)]
        delta: Option<Delta>,
        #[serde(default)]
        text: Option<String>,
    }
    #[derive(Deserialize)]
    struct Delta {
        #[serde(default)]
        content: Option<String>,
    }
    let chunk: Chunk = serde_json::from_slice(&event.payload()).ok()?;
    let choice = chunk.choices.into_iter().find(|choice| choice.index == 0)?;
    choice.delta.and_then(|delta| delta.content).or(choice.text)
}

#[cfg(test)]
mod tests {
    use flumen_stream::Cause;

    use super::*;

    fn see(payload: &str) -> Look {
        look(&Event::data(payload))
    }

    #[test]
    fn events_are_told_apart() {
        let usage = Usage { prompt_tokens: 3, completion_tokens: 5 };
        assert_eq!(see("[DONE]"), Look::Done);
        assert_eq!(see(r#"{"choices":[{"delta":{"content":"hi"}}],"usage":null}"#), Look::Part);
        assert_eq!(
            see(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#),
            Look::Usage(usage)
        );
        assert_eq!(
            see(r#"{"choices":[{}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#),
            Look::PartAndUsage(usage)
        );
        assert_eq!(see(r#"{"error":{"message":"x"}}"#), Look::Error);
        assert_eq!(
            see(r#"{"choices":[{"delta":{"content":"\"error\" \"usage\": 1"}}],"error":null}"#),
            Look::Part
        );
        assert_eq!(see("not json \"usage\": 7"), Look::Part);
        assert_eq!(look(&Event::builder().name("error").data("x").build().unwrap()), Look::Error);
        assert_eq!(see(r#"{"choices":[],"prompt_filter_results":[]}"#), Look::Part);
    }

    #[test]
    fn the_role_alone_is_not_a_token() {
        let token = |payload: &str| is_token(&Event::data(payload));
        assert!(!token(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#));
        assert!(!token(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#));
        assert!(!token(r#"{"choices":[],"prompt_filter_results":[]}"#));
        assert!(token(r#"{"choices":[{"delta":{"content":"\u00e9"}}]}"#));
        assert!(token(r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#));
        assert!(token(r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#));
        assert!(token(r#"{"choices":[{"text":"x"}]}"#));
        assert!(token(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#));
        assert!(token("whatever"));
    }

    #[test]
    fn usage_is_found_at_the_end_of_an_answer_and_is_plausible() {
        let usage = usage_at_end(br#"...\"usage\": no"}}],"usage" : {"prompt_tokens":3,"completion_tokens":99999999999999999,"x":[]},"id":1}"#);
        assert_eq!(usage, Some(Usage { prompt_tokens: 3, completion_tokens: MOST_TOKENS }));
        for tail in ["", r#""usage""#, r#""usage":"#, r#""usage":null}"#, r#""usage":{"prompt_tokens":-1}}"#]
        {
            assert_eq!(usage_at_end(tail.as_bytes()), None, "{tail}");
        }
    }

    #[test]
    fn an_error_event_is_what_sdks_raise() {
        let event = error_event(&End::new(Cause::IdleTimeout, "silence"));
        assert_eq!(look(&event), Look::Error);
        assert!(event.payload().windows(14).any(|part| part == b"\"idle_timeout\""));
    }

    #[test]
    fn a_stopped_answer_ends_like_its_own_chunks() {
        let last = br#"data: {"id":"c-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}

"#;
        let events = stopped_events(Some(last));
        let text = String::from_utf8(events.concat()).unwrap();
        let chunk: Value =
            serde_json::from_str(text.lines().next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&chunk["id"], &chunk["model"]), (&json!("c-1"), &json!("m")));
        assert_eq!(chunk["choices"], json!([{"index": 0, "delta": {}, "finish_reason": "stopped"}]));
        assert!(text.ends_with("\n\ndata: [DONE]\n\n"));
        assert_eq!(stopped_events(None).len(), 2);
    }

    #[test]
    fn the_text_is_that_of_the_first_choice() {
        let text = |payload: &str| text_of(&Event::data(payload));
        assert_eq!(
            text(r#"{"choices":[{"index":1,"delta":{"content":"x"}},{"index":0,"delta":{"content":"\n"}}]}"#),
            Some("\n".to_owned())
        );
        assert_eq!(text(r#"{"choices":[{"index":0,"text":"a"}]}"#), Some("a".to_owned()));
        assert_eq!(text(r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#), None);
        assert_eq!(text("[DONE]"), None);
    }
}
