//! One server-sent event that keeps the bytes it travels as.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

/// One server-sent event (WHATWG HTML, section 9.2), together with its wire form.
///
/// An event from a [`Decoder`](crate::codec::sse::Decoder) keeps the bytes it came with, so relaying it means
/// writing [`wire`](Self::wire): nothing is encoded again. An event made here is encoded once, when it is made.
/// The fields are spans of the same buffer; cloning an event copies no payload.
#[derive(Clone)]
pub struct Event {
    wire: Bytes,
    data: Span,
    data_lines: u32,
    name: Option<Span>,
    id: Option<Span>,
    retry: Option<Duration>,
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Event {
    /// An event with just this payload. `\r\n` and lone `\r` become `\n`, since the format cannot carry them.
    pub fn data(payload: impl AsRef<[u8]>) -> Self {
        let builder = Self::builder().data(payload);
        Self::parse(builder.encode())
    }

    /// Starts an event with more than a payload.
    pub fn builder() -> EventBuilder {
        EventBuilder::default()
    }

    /// The comment line `: ping`, **without** a blank line after it.
    ///
    /// It keeps a quiet connection alive. A blank line would end an event, and a widely used client raises an
    /// error on an empty event once it has seen an id.
    pub fn ping() -> Self {
        Self::parse(Bytes::from_static(b": ping\n"))
    }

    /// Reads the fields of one event from its wire form.
    pub(crate) fn parse(wire: Bytes) -> Self {
        let mut event = Self {
            wire: Bytes::new(),
            data: Span::default(),
            data_lines: 0,
            name: None,
            id: None,
            retry: None,
        };
        for line in Lines::new(&wire) {
            let (field, value) = split_field(&wire, line);
            match field {
                b"data" => {
                    if event.data_lines == 0 {
                        event.data = value;
                    }
                    event.data_lines += 1;
                }
                b"event" => event.name = Some(value),
                b"id" if !value.of(&wire).contains(&0) => event.id = Some(value),
                b"retry" => event.retry = digits(value.of(&wire)).or(event.retry),
                _ => {}
            }
        }
        event.wire = wire;
        event
    }

    /// The bytes of the event on the wire, with the blank line that ends it.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// Turns the event into its wire form.
    pub fn into_wire(self) -> Bytes {
        self.wire
    }

    /// The payload: the values of the `data` lines, joined by `\n`. Borrowed when there is one line.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        if self.data_lines <= 1 {
            return Cow::Borrowed(self.data.of(&self.wire));
        }
        let mut joined = Vec::with_capacity(self.wire.len());
        for line in Lines::new(&self.wire) {
            let (field, value) = split_field(&self.wire, line);
            if field == b"data" {
                joined.extend_from_slice(value.of(&self.wire));
                joined.push(b'\n');
            }
        }
        joined.pop();
        Cow::Owned(joined)
    }

    /// Whether the event has a `data` line. A client dispatches nothing for one that has none (a comment, a lone
    /// `retry` or `id`).
    pub fn has_data(&self) -> bool {
        self.data_lines > 0
    }

    /// The event's type as sent in its `event` line; `None` means `message`.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.map(|span| span.of(&self.wire)).filter(|name| !name.is_empty())
    }

    /// The event's id. `Some(b"")` resets the client's last event id.
    pub fn id(&self) -> Option<&[u8]> {
        self.id.map(|span| span.of(&self.wire))
    }

    /// How long a client is asked to wait before it reconnects.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }
}

/// Two events are equal when a client would see the same: payload, type, id and retry. The wire form may differ.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.has_data() == other.has_data()
            && self.payload() == other.payload()
            && self.name() == other.name()
            && self.id() == other.id()
            && self.retry == other.retry
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl From<&str> for Event {
    fn from(payload: &str) -> Self {
        Self::data(payload)
    }
}

impl From<String> for Event {
    fn from(payload: String) -> Self {
        Self::data(payload)
    }
}

impl From<char> for Event {
    fn from(payload: char) -> Self {
        Self::data(payload.encode_utf8(&mut [0; 4]))
    }
}

/// Puts an event together; see [`Event::builder`].
#[derive(Clone, Debug, Default)]
pub struct EventBuilder {
    name: Option<String>,
    data: Option<Vec<u8>>,
    id: Option<String>,
    retry: Option<Duration>,
}

impl EventBuilder {
    /// Sets the event's type.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the payload. `\r\n` and lone `\r` become `\n`, since the format cannot carry them.
    pub fn data(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.data = Some(payload.as_ref().to_vec());
        self
    }

    /// Sets the id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Asks clients to wait this long before they reconnect; whole milliseconds.
    pub fn retry(mut self, wait: Duration) -> Self {
        self.retry = Some(wait);
        self
    }

    /// Makes the event.
    ///
    /// # Errors
    /// When the type or the id holds a line end, or the id a NUL: the format has no way to carry them.
    pub fn build(self) -> Result<Event, InvalidField> {
        for (field, value) in [("event", &self.name), ("id", &self.id)] {
            if value.as_ref().is_some_and(|v| v.contains(['\r', '\n', '\0'])) {
                return Err(InvalidField { field });
            }
        }
        Ok(Event::parse(self.encode()))
    }

    /// The `id` line comes last: a widely used client takes an id over as soon as it has read its line, and would
    /// skip the event on reconnect when the connection broke before the rest came.
    fn encode(&self) -> Bytes {
        let payload = self.data.as_deref().unwrap_or_default();
        let mut wire = BytesMut::with_capacity(payload.len() + 32);
        let mut line = |field: &[u8], value: &[u8]| {
            wire.put_slice(field);
            wire.put_slice(b": ");
            wire.put_slice(value);
            wire.put_u8(b'\n');
        };
        if let Some(name) = &self.name {
            line(b"event", name.as_bytes());
        }
        if let Some(wait) = self.retry {
            line(b"retry", wait.as_millis().to_string().as_bytes());
        }
        if self.data.is_some() {
            let mut rest = payload;
            while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
                line(b"data", &rest[..at]);
                let crlf = rest[at..].starts_with(b"\r\n");
                rest = &rest[at + if crlf { 2 } else { 1 }..];
            }
            line(b"data", rest);
        }
        if let Some(id) = &self.id {
            line(b"id", id.as_bytes());
        }
        wire.put_u8(b'\n');
        wire.freeze()
    }
}

/// A field value that server-sent events cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the `{field}` of an event must not contain line ends or NUL")]
pub struct InvalidField {
    /// The field's name on the wire.
    pub field: &'static str,
}

impl Span {
    #[expect(clippy::cast_possible_truncation, reason = "an event is bounded far below 4 GiB")]
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    fn of(self, wire: &[u8]) -> &[u8] {
        &wire[self.start as usize..self.end as usize]
    }
}

/// The lines of an event as spans, without their ends (CR, LF or CRLF).
struct Lines<'a> {
    wire: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(wire: &'a [u8]) -> Self {
        Self { wire, at: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let start = self.at;
        let rest = &self.wire[start..];
        let len = memchr::memchr2(b'\r', b'\n', rest)?;
        self.at += len + if rest[len..].starts_with(b"\r\n") { 2 } else { 1 };
        Some(Span::new(start, start + len))
    }
}

/// Splits a line into field name and value; one space after the colon is not part of the value.
fn split_field(wire: &[u8], line: Span) -> (&[u8], Span) {
    let text = line.of(wire);
    match memchr::memchr(b':', text) {
        None => (text, Span { start: line.end, end: line.end }),
        Some(colon) => {
            let space = usize::from(text[colon + 1..].starts_with(b" "));
            let start = line.start as usize + colon + 1 + space;
            (&text[..colon], Span::new(start, line.end as usize))
        }
    }
}

fn digits(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Digits that do not fit are still digits: "wait for ever" is the honest reading.
    Some(Duration::from_millis(str::from_utf8(value).ok()?.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(wire: &'static str) -> Event {
        Event::parse(Bytes::from_static(wire.as_bytes()))
    }

    #[test]
    fn id_is_written_last() {
        let event =
            Event::builder().id("7").name("n").retry(Duration::from_secs(3)).data("a\nb").build().unwrap();
        assert_eq!(event.wire(), "event: n\nretry: 3000\ndata: a\ndata: b\nid: 7\n\n");
    }

    #[test]
    fn line_ends_in_data_become_lines() {
        assert_eq!(&*Event::data("a\r\nb\rc\n").payload(), b"a\nb\nc\n");
        assert_eq!(Event::data("").wire(), "data: \n\n");
        assert!(Event::data("").has_data());
    }

    #[test]
    fn fields_that_cannot_be_carried_are_refused() {
        assert_eq!(Event::builder().id("a\nb").build(), Err(InvalidField { field: "id" }));
        assert_eq!(Event::builder().id("a\0b").build(), Err(InvalidField { field: "id" }));
        assert_eq!(Event::builder().name("a\r").build(), Err(InvalidField { field: "event" }));
    }

    #[test]
    fn fields_are_read_to_the_letter() {
        let event = parse("data:  two spaces\nevent:x\nid\nretry: 12x\nunknown: y\n:comment\n\n");
        assert_eq!(&*event.payload(), b" two spaces");
        assert_eq!(event.name(), Some(&b"x"[..]));
        assert_eq!(event.id(), Some(&b""[..]));
        assert_eq!(event.retry(), None);
        assert_eq!(parse("id: a\nid: b\0\n\n").id(), Some(&b"a"[..]));
        assert_eq!(
            parse("retry: 99999999999999999999999\n\n").retry(),
            Some(Duration::from_millis(u64::MAX))
        );
        assert_eq!(parse("event:\ndata\n\n").name(), None);
        assert_eq!(&*parse("data\ndata\n\n").payload(), b"\n");
        assert!(!Event::ping().has_data());
    }
}
