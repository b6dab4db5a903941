//! What goes over a WebSocket of the subprotocol `flumen.v1`.

use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Fault, Plan, answer::refused, envelope};
use crate::call::is_stream_id;

/// One socket carries one stream here.
pub(super) const REF: u32 = 1;

/// A frame to the server.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Say<'a> {
    Start {
        r#ref: u32,
        path: &'a str,
        body: &'a RawValue,
        credit: usize,
        frames: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<&'a str>,
    },
    Resume {
        r#ref: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_event_id: Option<&'a str>,
        credit: usize,
        frames: &'static str,
    },
    Credit {
        r#ref: u32,
        bytes: usize,
    },
}

impl Say<'_> {
    pub(super) fn text(&self) -> String {
        // Strings, numbers and a document that was read: nothing that JSON cannot write.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The frame that begins the stream, or goes on with it.
pub(super) fn first(plan: &Plan, credit: usize) -> Result<String, Fault> {
    let frames = "verbatim";
    let position = &plan.position;
    if let Some(stream) = position.stream.as_deref() {
        let (stream, after, last_event_id) = match (position.last_seq, &position.last_id) {
            (None, Some(id)) => (None, None, Some(id.as_str())),
            (seq, _) => (Some(stream), Some(seq.unwrap_or(0)), None),
        };
        return Ok(Say::Resume { r#ref: REF, stream, after, last_event_id, credit, frames }.text());
    }
    let body = serde_json::from_slice::<&RawValue>(&plan.ask.body)
        .map_err(|error| Fault::protocol(format!("the body of the request is no JSON: {error}")))?;
    // The gateway knows its own paths, not what a proxy puts before them.
    let before = plan.api_root().len() - "/v1".len();
    let path = plan.ask.target.get(before..).unwrap_or(&plan.ask.target);
    let idempotency_key = plan.ask.key.as_deref();
    Ok(Say::Start { r#ref: REF, path, body, credit, frames, idempotency_key }.text())
}

/// A frame from the server.
#[derive(Debug, Deserialize)]
struct Frame<'a> {
    r#type: String,
    r#ref: Option<u32>,
    stream: Option<String>,
    state: Option<String>,
    status: Option<u16>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    id: Option<String>,
    seq: Option<u64>,
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What a frame from the server means.
#[derive(Debug)]
pub(super) enum Told {
    Open(String),
    Event(flumen_stream::Event, Option<u64>),
    /// Nothing more will come.
    Done,
    /// Nothing more will come over this socket.
    Elsewhere,
    /// Nothing for us.
    Nothing,
}

pub(super) fn read(text: &str) -> Result<Told, Fault> {
    let frame: Frame<'_> = serde_json::from_str(text)
        .map_err(|error| Fault::protocol(format!("an unreadable frame: {error}")))?;
    if frame.r#ref.is_some_and(|of| of != REF) {
        return Ok(Told::Nothing);
    }
    match &*frame.r#type {
        "open" => match frame.stream {
            Some(stream) if is_stream_id(&stream) => Ok(Told::Open(stream)),
            _ => Err(Fault::protocol("the server opened a stream without a name")),
        },
        "event" => {
            let data = frame.data.ok_or_else(|| Fault::protocol("an event without data"))?;
            let event = envelope::event(frame.id, frame.event, data);
            event
                .map(|event| Told::Event(event, frame.seq))
                .map_err(|error| Fault::protocol(error.to_string()))
        }
        "end" if frame.state.as_deref() == Some("open") => Ok(Told::Elsewhere),
        "end" => Ok(Told::Done),
        "error" => {
            let status = frame.status.and_then(|status| StatusCode::from_u16(status).ok());
            let body = frame.error.map(|error| format!("{{\"error\":{}}}", error.get())).unwrap_or_default();
            Err(refused(status.unwrap_or(StatusCode::BAD_REQUEST), &HeaderMap::new(), body.as_bytes()))
        }
        _ => Ok(Told::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn frames_are_read() {
        assert!(matches!(read(r#"{"type":"open","ref":1,"stream":"s"}"#), Ok(Told::Open(id)) if id == "s"));
        assert!(matches!(read(r#"{"type":"end","ref":1,"state":"done"}"#), Ok(Told::Done)));
        assert!(matches!(read(r#"{"type":"end","ref":1,"state":"open"}"#), Ok(Told::Elsewhere)));
        assert!(matches!(read(r#"{"type":"end","ref":2,"state":"done"}"#), Ok(Told::Nothing)));
        assert!(matches!(read(r#"{"type":"later"}"#), Ok(Told::Nothing)));
        let Ok(Told::Event(event, seq)) =
            read(r#"{"type":"event","ref":1,"id":"s.1-3","seq":3,"data":{"a":1}}"#)
        else {
            panic!("no event");
        };
        assert_eq!((event.wire(), seq), (&bytes::Bytes::from("data: {\"a\":1}\nid: s.1-3\n\n"), Some(3)));
        let gone =
            read(r#"{"type":"error","ref":1,"status":410,"error":{"code":"cursor_too_old","first":7}}"#);
        let gone = gone.unwrap_err().error;
        assert_eq!(
            (gone.kind(), gone.code(), gone.seq()),
            (ErrorKind::Gone, Some("cursor_too_old"), Some(7))
        );
        for broken in ["", "{}", r#"{"type":"open","ref":1,"stream":"/"}"#, r#"{"type":"event","ref":1}"#] {
            assert_eq!(read(broken).unwrap_err().error.kind(), ErrorKind::Protocol, "{broken}");
        }
    }

    #[test]
    fn frames_are_written() {
        let body = serde_json::from_str("{\"a\": 1}").unwrap();
        let start = Say::Start {
            r#ref: 1,
            path: "/v1/x",
            body,
            credit: 9,
            frames: "verbatim",
            idempotency_key: None,
        };
        assert_eq!(
            start.text(),
            r#"{"type":"start","ref":1,"path":"/v1/x","body":{"a": 1},"credit":9,"frames":"verbatim"}"#
        );
        assert_eq!(Say::Credit { r#ref: 1, bytes: 7 }.text(), r#"{"type":"credit","ref":1,"bytes":7}"#);
    }
}
