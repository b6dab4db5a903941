//! The request body: what the gateway reads of it, and the few bytes that it changes.
//!
//! The body is never parsed into a tree and written again. Unknown fields, their order, number formats and spaces
//! arrive at the upstream as the client sent them; edits are spliced into the text.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::Failure;

/// What the gateway needs to know of a request.
#[derive(Debug)]
pub(crate) struct ModelRequest {
    body: Bytes,
    /// The model that was asked for.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    model_at: Range<usize>,
    usage: UsageOption,
    /// What the model may be asked: which of them counts depends on the endpoint.
    prompts: [Range<usize>; 3],
    /// The most tokens that the answer may have, and where the request says so.
    most: Vec<(Range<usize>, Option<u64>)>,
}

/// What of a request is changed on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Edits<'a> {
    /// What the upstream calls the model.
    pub model: Option<&'a str>,
    /// The upstream is to tell the usage.
    pub ask_usage: bool,
    /// The answer is to have so many tokens at most.
    pub most: Option<u64>,
}

/// Where the request stands on usage in streams, and what must be edited to get it.
#[derive(Debug, PartialEq)]
enum UsageOption {
    /// The client asks for it.
    Asked,
    /// Text to put in place of a range.
    Edit(Range<usize>, &'static str),
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_completion_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

/// `null` is a value like any other: it has a place in the text.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl ModelRequest {
    /// Reads what is needed.
    ///
    /// # Errors
    /// 400, saying what is wrong and where.
    pub(crate) fn parse(body: Bytes) -> Result<Self, Failure> {
        let text = str::from_utf8(&body).map_err(|error| {
            Failure::bad_request(format!("the request body is not UTF-8 at byte {}", error.valid_up_to()))
        })?;
        // Derived readers take a list for an object as well.
        if !text.trim_start().starts_with('{') {
            return Err(Failure::bad_request("the request body is not a valid JSON object"));
        }
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| {
            Failure::bad_request(format!("the request body is not a valid JSON object: {error}"))
        })?;
        let missing =
            || Failure::bad_request("the field `model` is required and must be a string").param("model");
        let raw = head.model.ok_or_else(missing)?;
        let model: Cow<'_, str> = serde_json::from_str(raw.get()).map_err(|_| missing())?;
        if model.is_empty() {
            return Err(missing());
        }
        let usage = usage_option(text, head.stream_options)?;
        let (model, model_at) = (model.into_owned(), place(text, raw));
        let prompts = [head.messages, head.prompt, head.input]
            .map(|prompt| prompt.map_or(0..0, |raw| place(text, raw)));
        let most = [head.max_tokens, head.max_completion_tokens].into_iter().flatten();
        let most = most.map(|most| (place(text, most), most.get().parse().ok())).collect();
        Ok(Self { stream: head.stream.unwrap_or(false), model, model_at, usage, prompts, most, body })
    }

    /// What the model is asked, as it is written.
    pub(crate) fn prompt(&self) -> &[u8] {
        let longest = self.prompts.iter().max_by_key(|at| at.len()).cloned();
        &self.body[longest.unwrap_or_default()]
    }

    /// An estimate of the prompt's tokens: four bytes each, as tokenizers make of English text.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        let bytes: usize = self.prompts.iter().map(ExactSizeIterator::len).sum();
        (bytes as u64).div_ceil(4).max(1)
    }

    /// The body for the upstream, edited. Also says whether the option was added that makes the upstream tell the usage, so
    /// that the client must not see its effect.
    pub(crate) fn for_upstream(&self, Edits { model, ask_usage, most }: Edits<'_>) -> (Bytes, bool) {
        let mut edits: Vec<(Range<usize>, Cow<'_, str>)> = Vec::new();
        if let Some(name) = model {
            edits.push((self.model_at.clone(), serde_json::Value::from(name).to_string().into()));
        }
        let mut added = false;
        if ask_usage && let UsageOption::Edit(at, text) = &self.usage {
            edits.push((at.clone(), Cow::Borrowed(text)));
            added = true;
        }
        if let Some(most) = most {
            let above = |asked: &Option<u64>| asked.is_none_or(|asked| asked > most);
            let over = self.most.iter().filter(|(_, asked)| above(asked));
            edits.extend(over.map(|(at, _)| (at.clone(), most.to_string().into())));
            if self.most.is_empty() {
                let open = memchr::memchr(b'{', &self.body).map_or(0, |at| at + 1);
                edits.push((open..open, format!("\"max_tokens\":{most},").into()));
            }
        }
        if edits.is_empty() {
            return (self.body.clone(), false);
        }
        edits.sort_by_key(|(at, _)| (at.start, at.end));
        let mut edited = Vec::with_capacity(self.body.len() + 64);
        let mut done = 0;
        for (at, text) in edits {
            edited.extend_from_slice(&self.body[done..at.start]);
            edited.extend_from_slice(text.as_bytes());
            done = at.end;
        }
        edited.extend_from_slice(&self.body[done..]);
        (edited.into(), added)
    }
}

fn usage_option(text: &str, options: Option<&RawValue>) -> Result<UsageOption, Failure> {
    let inside = |raw: &RawValue| place(text, raw).start + 1;
    Ok(match options {
        None => {
            // The object has a field already, `model`, so a comma is right.
            let open = text.find('{').map_or(0, |at| at + 1);
            UsageOption::Edit(open..open, r#""stream_options":{"include_usage":true},"#)
        }
        Some(raw) if raw.get() == "null" => UsageOption::Edit(place(text, raw), r#"{"include_usage":true}"#),
        Some(raw) if !raw.get().starts_with('{') => {
            let failure = Failure::bad_request("the field `stream_options` must be an object");
            return Err(failure.param("stream_options"));
        }
        Some(raw) => {
            let options: StreamOptions<'_> = serde_json::from_str(raw.get()).map_err(|error| {
                Failure::bad_request(format!("the field `stream_options` must be an object: {error}"))
                    .param("stream_options")
            })?;
            match options.include_usage.map(|value| (value.get(), place(text, value))) {
                Some(("true", _)) => UsageOption::Asked,
                Some((_, at)) => UsageOption::Edit(at, "true"),
                None => {
                    let at = inside(raw)..inside(raw);
                    let empty = raw.get()[1..].trim_start().starts_with('}');
                    let field = if empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
                    UsageOption::Edit(at, field)
                }
            }
        }
    })
}

/// Where a borrowed value stands in the text that it was read from.
fn place(text: &str, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + raw.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<ModelRequest, Failure> {
        ModelRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
    }

    fn edited(body: &str, model: Option<&str>) -> (String, bool) {
        let (bytes, added) = parse(body).unwrap().for_upstream(Edits { model, ask_usage: true, most: None });
        (String::from_utf8(bytes.to_vec()).unwrap(), added)
    }

    #[test]
    fn an_unedited_body_is_the_same_bytes() {
        let body =
            r#" { "x" : 1.0e5, "model" : "a" , "stream_options":{"include_usage": true}, "é":"\u00e9" } "#;
        let request = parse(body).unwrap();
        let (bytes, added) = request.for_upstream(Edits { ask_usage: true, ..Edits::default() });
        assert_eq!((bytes.as_ptr(), bytes.len(), added), (request.body.as_ptr(), body.len(), false));
    }

    #[test]
    fn only_the_model_name_is_rewritten() {
        let body = r#"{"messages":[{"role":"user","content":"model"}],"model":"a\"b","n":1,"stream_options":{"include_usage":true}}"#;
        let (out, _) = edited(body, Some("c\"d"));
        assert_eq!(out, body.replace(r#""a\"b""#, r#""c\"d""#));
    }

    #[test]
    fn usage_is_asked_for_in_every_shape_of_the_option() {
        let case = |options: &str| edited(&format!(r#"{{"model":"m"{options}}}"#), None);
        let added = |text: &str| (text.to_owned(), true);
        assert_eq!(case(""), added(r#"{"stream_options":{"include_usage":true},"model":"m"}"#));
        assert_eq!(
            case(r#","stream_options":null"#),
            added(r#"{"model":"m","stream_options":{"include_usage":true}}"#)
        );
        assert_eq!(
            case(r#","stream_options":{ }"#),
            added(r#"{"model":"m","stream_options":{"include_usage":true }}"#)
        );
        assert_eq!(
            case(r#","stream_options":{"a":1}"#),
            added(r#"{"model":"m","stream_options":{"include_usage":true,"a":1}}"#)
        );
        assert_eq!(
            case(r#","stream_options":{"include_usage": false}"#),
            added(r#"{"model":"m","stream_options":{"include_usage": true}}"#)
        );
        assert!(!case(r#","stream_options":{"include_usage":true}"#).1);
    }

    #[test]
    fn the_length_of_answers_is_clamped() {
        let case = |body: &str| {
            let request = parse(&format!(r#"{{{body}"model":"m"}}"#)).unwrap();
            let (bytes, _) = request.for_upstream(Edits { most: Some(100), ..Edits::default() });
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(case(""), r#"{"max_tokens":100,"model":"m"}"#);
        assert_eq!(case(r#""max_tokens":99,"#), r#"{"max_tokens":99,"model":"m"}"#);
        for over in ["101", "null", "1e9", "-1", "\"x\""] {
            let asked = format!(r#""max_completion_tokens":{over},"#);
            assert_eq!(case(&asked), r#"{"max_completion_tokens":100,"model":"m"}"#, "{over}");
        }
        let both = case(r#""max_tokens":7,"max_completion_tokens":700,"#);
        assert_eq!(both, r#"{"max_tokens":7,"max_completion_tokens":100,"model":"m"}"#);
    }

    #[test]
    fn the_prompt_is_what_the_model_is_asked() {
        let request = parse(r#"{"model":"m","messages":[ {"role":"user","content":"abcd"}]}"#).unwrap();
        assert_eq!(request.prompt(), br#"[ {"role":"user","content":"abcd"}]"#);
        assert_eq!(request.prompt_tokens(), 9);
        assert_eq!(parse(r#"{"model":"m"}"#).unwrap().prompt_tokens(), 1);
        let hidden = parse(r#"{"model":"m","messages":[],"prompt":"0123456789"}"#).unwrap();
        assert_eq!((hidden.prompt(), hidden.prompt_tokens()), (&br#""0123456789""#[..], 4));
    }

    #[test]
    fn bad_bodies_are_told_what_is_wrong() {
        let message = |body: &str| parse(body).unwrap_err().message;
        assert!(message("").contains("not a valid JSON object"));
        assert!(message("{\"model\":\n 5x}").contains("line 2"));
        assert!(message("[]").contains("JSON object"));
        assert!(message("{}").contains("`model` is required"));
        assert!(message(r#"{"model":7}"#).contains("`model`"));
        assert!(message(r#"{"model":""}"#).contains("`model`"));
        assert!(message(r#"{"model":"m","stream":"yes"}"#).contains("boolean"));
        assert!(message(r#"{"model":"m","stream_options":[]}"#).contains("stream_options"));
        assert!(message(r#"{"model":"m","model":"n"}"#).contains("duplicate"));
        assert!(message(r#"{"model":"m"} x"#).contains("trailing"));
        assert!(message(&"[".repeat(100_000)).contains("JSON"));
        assert!(message(&format!(r#"{{"model":"m","x":{}}}"#, "[".repeat(100_000))).contains("JSON"));
        assert!(
            ModelRequest::parse(Bytes::from_static(b"{\"model\":\"\xff\"}"))
                .unwrap_err()
                .message
                .contains("UTF-8")
        );
    }
}
