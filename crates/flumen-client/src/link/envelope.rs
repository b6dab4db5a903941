use flumen_stream::{Event, InvalidField};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An event as it travels outside of an event stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope<'a> {
    pub(super) id: Option<String>,
    pub(super) seq: Option<u64>,
    pub(super) event: Option<String>,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

impl Envelope<'_> {
    pub(super) fn event(self) -> Result<Event, InvalidField> {
        event(self.id, self.event, self.data)
    }
}

/// An event with its id last, as it would stand in an event stream.
pub(super) fn event(
    id: Option<String>,
    name: Option<String>,
    data: &RawValue,
) -> Result<Event, InvalidField> {
    let builder = Event::builder();
    let builder = match serde_json::from_str::<String>(data.get()) {
        Ok(text) => builder.data(text),
        Err(_) => builder.data(data.get()),
    };
    let builder = if let Some(name) = name { builder.name(name) } else { builder };
    if let Some(id) = id { builder.id(id) } else { builder }.build()
}

/// How many bytes of an event are the model's: all but the `id` line, which the gateway adds at its end.
pub(super) fn models_bytes(event: &Event) -> usize {
    let wire = event.wire();
    let Some(id) = event.id() else { return wire.len() };
    let line = id.len() + "id: \n".len();
    let added = wire.strip_suffix(b"\n").and_then(|wire| wire.strip_suffix(b"\n"));
    let added = added.and_then(|wire| wire.strip_suffix(id)).is_some_and(|wire| wire.ends_with(b"id: "));
    if added { wire.len() - line } else { wire.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_become_events() {
        let read = |line: &str| serde_json::from_str::<Envelope<'_>>(line).unwrap().event().unwrap();
        let json = read(r#"{"id":"s.1-12","seq":12,"event":"delta","data":{"a": [1]}}"#);
        assert_eq!(json.wire(), "event: delta\ndata: {\"a\": [1]}\nid: s.1-12\n\n");
        assert_eq!(&*read(r#"{"data":"[DONE]"}"#).payload(), b"[DONE]");
        assert_eq!(&*read(r#"{"data":"two\nlines"}"#).payload(), b"two\nlines");
        assert_eq!(&*read(r#"{"data":7}"#).payload(), b"7");
        assert!(serde_json::from_str::<Envelope<'_>>(r#"{"data":1,"model":"m"}"#).is_err());
        assert!(serde_json::from_str::<Envelope<'_>>(r#"{"seq":1}"#).is_err());
    }

    #[test]
    fn the_id_line_is_not_the_models() {
        let event = |wire: &str| {
            let mut decoder = flumen_stream::codec::sse::Decoder::new(1000);
            decoder.push(wire.to_owned().into());
            decoder.next().unwrap().unwrap()
        };
        assert_eq!(models_bytes(&event("data: 1\n\n")), 9);
        assert_eq!(models_bytes(&event("data: 1\nid: s.1-1\n\n")), 9);
        assert_eq!(models_bytes(&event("id: 7\ndata: 1\nid: s.1-1\n\n")), 15);
        // Its own id stands elsewhere, or is written otherwise.
        assert_eq!(models_bytes(&event("id: 7\ndata: 1\n\n")), 15);
    }
}
