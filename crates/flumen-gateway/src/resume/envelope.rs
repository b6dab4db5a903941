//! One event as JSON, for every transport but the event stream itself.

use bytes::Bytes;
use flumen_store::EventId;
use flumen_stream::Event;
use serde::de::IgnoredAny;

/// Appends the fields of an envelope, without the braces: `"id":"…","seq":12,"data":…`.
pub(super) fn put(event: &Event, id: Option<EventId>, out: &mut Vec<u8>) {
    if let Some(id) = id {
        out.extend_from_slice(format!(r#""id":"{id}","seq":{},"#, id.at.seq).as_bytes());
    }
    if let Some(name) = event.name() {
        out.extend_from_slice(b"\"event\":");
        put_text(name, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"data\":");
    let payload = event.payload();
    // A string among the payloads would look like a payload that is none.
    let is_text = payload.trim_ascii_start().starts_with(b"\"");
    if !is_text && serde_json::from_slice::<IgnoredAny>(&payload).is_ok() {
        // In JSON a line end can only stand between tokens, where a space means the same.
        out.extend(payload.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    } else {
        put_text(&payload, out);
    }
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    // A string is always JSON.
    out.extend_from_slice(&serde_json::to_vec(&String::from_utf8_lossy(text)).unwrap_or_default());
}

/// An envelope as a line.
pub(super) fn line(event: &Event, id: Option<EventId>) -> Bytes {
    let mut out = Vec::with_capacity(event.wire().len() + 80);
    out.push(b'{');
    put(event, id, &mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use flumen_store::{Position, StreamId};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn payloads_stay_as_they_are_and_what_is_no_json_becomes_a_string() {
        let id = EventId { stream: StreamId::from_u128(5), at: Position { epoch: 1, seq: 7 } };
        let text = |event: &Event, id| String::from_utf8(line(event, id).to_vec()).unwrap();
        let number = Event::data("{\"n\": 1.0e5}");
        assert_eq!(text(&number, None), "{\"data\":{\"n\": 1.0e5}}\n");
        assert_eq!(
            text(&Event::data("\"x\""), None),
            "{\"data\":\"\\\"x\\\"\"}\n",
            "a string stays apart from text"
        );
        let whole: Value = serde_json::from_str(&text(&Event::data("[DONE]"), Some(id))).unwrap();
        assert_eq!(whole, json!({"id": id.to_string(), "seq": 7, "data": "[DONE]"}));
        let named = Event::builder().name("a\"b").data("{\n\"x\":\n1}").build().unwrap();
        let line = text(&named, None);
        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!({"event": "a\"b", "data": {"x": 1}}));
    }
}
