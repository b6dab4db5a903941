//! Server-sent events (WHATWG HTML, section 9.2.6), read without copying.

use bytes::{Buf, Bytes, BytesMut};

use crate::Event;

/// Finds events in a byte stream that arrives in pieces of any size.
///
/// Bytes go in with [`push`](Self::push), events come out of [`next`](Self::next). An event that lies within one
/// piece is a slice of it; only one that is split between pieces is copied, once. Comment blocks come out as events
/// without data ([`Event::has_data`]). The concatenated [wire forms](Event::wire) equal the input, save for a byte
/// order mark, blank lines before an event, and an unterminated event at the end of input, which the specification
/// discards.
///
/// ```
/// use flumen_stream::codec::sse::Decoder;
///
/// let mut decoder = Decoder::new(1024 * 1024);
/// decoder.push("data: hel".into());
/// assert!(decoder.next().is_none());
/// decoder.push("lo\n\n".into());
/// assert_eq!(&*decoder.next().unwrap().unwrap().payload(), b"hello");
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// The piece that is being read.
    input: Bytes,
    /// The beginning of an event whose end has not come yet.
    carry: BytesMut,
    scan: Scanner,
    bom: Bom,
    max_event: usize,
    failed: bool,
}

/// An event longer than the decoder accepts. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit} bytes")]
pub struct EventTooLong {
    /// The longest event accepted, in bytes.
    pub limit: usize,
}

#[derive(Debug, PartialEq)]
enum Bom {
    /// This many of its three bytes have been seen.
    Seen(usize),
    Past,
}

const BOM: &[u8; 3] = b"\xef\xbb\xbf";

impl Decoder {
    /// A decoder that accepts events of up to `max_event` bytes on the wire.
    pub fn new(max_event: usize) -> Self {
        Self {
            input: Bytes::new(),
            carry: BytesMut::new(),
            scan: Scanner::default(),
            bom: Bom::Seen(0),
            max_event,
            failed: false,
        }
    }

    /// Takes the next piece of input. Read all events out first: a piece that is still unread is copied.
    pub fn push(&mut self, piece: Bytes) {
        if self.input.is_empty() {
            self.input = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len() + piece.len());
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&piece);
            self.input = joined.freeze();
        }
    }

    /// The next whole event, or `None` until more input comes.
    ///
    /// # Errors
    /// [`EventTooLong`], once; after it the decoder yields nothing more. No more than the limit is held in memory.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: None means 'not yet'")]
    pub fn next(&mut self) -> Option<Result<Event, EventTooLong>> {
        if self.failed {
            return None;
        }
        if self.bom != Bom::Past {
            self.skip_bom();
        }
        if self.carry.is_empty() {
            let blank = self.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.input.advance(blank);
        }
        if self.input.is_empty() {
            return None;
        }
        let end = self.scan.event_end(&self.input);
        let taken = end.unwrap_or(self.input.len());
        if self.carry.len() + taken > self.max_event {
            self.failed = true;
            self.carry = BytesMut::new();
            self.input = Bytes::new();
            return Some(Err(EventTooLong { limit: self.max_event }));
        }
        if self.carry.is_empty() && end.is_some() {
            return Some(Ok(Event::parse(self.input.split_to(taken))));
        }
        self.carry.extend_from_slice(&self.input[..taken]);
        self.input.advance(taken);
        // The rest of the piece must not be pinned by an empty slice of it.
        if self.input.is_empty() {
            self.input = Bytes::new();
        }
        end.map(|_| Ok(self.take_carry()))
    }

    /// The end of input: yields an event only if its blank line had come in full (a lone CR that might have become
    /// CRLF). Anything unterminated is discarded, as the specification demands.
    pub fn finish(&mut self) -> Option<Event> {
        let whole = self.scan.blank_cr && !self.failed;
        self.scan = Scanner::default();
        whole.then(|| self.take_carry())
    }

    /// Bytes held of an event whose end has not come.
    pub fn pending(&self) -> usize {
        self.carry.len() + self.input.len()
    }

    fn take_carry(&mut self) -> Event {
        Event::parse(std::mem::take(&mut self.carry).freeze())
    }

    fn skip_bom(&mut self) {
        while let Bom::Seen(seen) = self.bom {
            let Some(&byte) = self.input.first() else { return };
            if byte == BOM[seen] {
                self.input.advance(1);
                self.bom = if seen + 1 == BOM.len() { Bom::Past } else { Bom::Seen(seen + 1) };
            } else {
                // Not a mark after all: what was taken belongs to the first line.
                self.carry.extend_from_slice(&BOM[..seen]);
                self.scan.in_line = seen > 0;
                self.bom = Bom::Past;
            }
        }
    }
}

/// Finds the blank line that ends an event, across pieces. It starts at an event's first byte.
#[derive(Debug, Default)]
struct Scanner {
    /// The current line has bytes.
    in_line: bool,
    /// The last byte was the CR of a line end, so a LF that follows belongs to it.
    after_cr: bool,
    /// The blank line's CR has come, and as this event ends its lines with CRLF, its LF is waited for.
    blank_cr: bool,
    /// The last line end was CRLF.
    crlf: bool,
}

impl Scanner {
    /// The length of the part of `piece` that belongs to the event, if the event ends in it.
    fn event_end(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.blank_cr {
            *self = Self::default();
            return Some(usize::from(piece[0] == b'\n'));
        }
        if self.after_cr {
            self.after_cr = false;
            self.crlf = piece[0] == b'\n';
            at = usize::from(self.crlf);
        }
        while let Some(offset) = memchr::memchr2(b'\r', b'\n', &piece[at..]) {
            let blank = offset == 0 && !self.in_line;
            let end = at + offset;
            at = end + 1;
            self.in_line = false;
            if piece[end] == b'\n' {
                self.crlf = false;
            } else if piece.get(at) == Some(&b'\n') {
                at += 1;
                self.crlf = true;
            } else if at < piece.len() {
                self.crlf = false;
            } else if blank && self.crlf {
                self.blank_cr = true;
                return None;
            } else if !blank {
                self.after_cr = true;
            }
            if blank {
                *self = Self::default();
                return Some(at);
            }
        }
        self.in_line |= at < piece.len();
        None
    }
}

#[cfg(test)]
mod tests;
