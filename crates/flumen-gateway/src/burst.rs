//! Whole events that came together and go on together.

use bytes::Bytes;
use flumen_stream::{Event, Frame};

/// What a stream's log holds: one or more whole events, verbatim, in one slice of what was received. Events that are
/// ready together then cost one entry of the log, one wake and one copy, however many they are.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    /// The events on the wire.
    pub wire: Bytes,
    /// How many they are.
    pub events: u32,
    /// It is one event, and it reports an error.
    pub error: bool,
}

impl From<Event> for Burst {
    fn from(event: Event) -> Self {
        Self { wire: event.into_wire(), events: 1, error: false }
    }
}

impl Frame for Burst {
    fn size(&self) -> usize {
        self.wire.len()
    }
}

/// Collects the events of one received piece, joining those that lie side by side in it.
pub(crate) struct Gather<'a> {
    piece: Bytes,
    start: usize,
    end: usize,
    events: u32,
    apart: bool,
    bursts: &'a mut Vec<Burst>,
}

impl<'a> Gather<'a> {
    /// Collects from this piece.
    pub(crate) fn new(piece: Bytes, bursts: &'a mut Vec<Burst>) -> Self {
        Self { piece, start: 0, end: 0, events: 0, apart: false, bursts }
    }

    /// Leaves each event to itself.
    pub(crate) fn apart(mut self, apart: bool) -> Self {
        self.apart = apart;
        self
    }

    /// Takes the next event.
    pub(crate) fn keep(&mut self, event: Event) {
        if self.apart {
            // What is kept must not hold on to the buffer that it was received in.
            let wire = Bytes::copy_from_slice(event.wire());
            return self.bursts.push(Burst { wire, events: 1, error: false });
        }
        let Some(at) = self.place(event.wire()) else {
            self.finish();
            return self.bursts.push(event.into());
        };
        if self.events == 0 || at != self.end {
            self.finish();
            self.start = at;
        }
        self.end = at + event.wire().len();
        self.events += 1;
    }

    /// Hands over what was joined.
    pub(crate) fn finish(&mut self) {
        if self.events > 0 {
            let wire = self.piece.slice(self.start..self.end);
            self.bursts.push(Burst { wire, events: self.events, error: false });
            self.events = 0;
        }
    }

    /// Where in the piece the bytes lie, unless they are a copy.
    fn place(&self, bytes: &Bytes) -> Option<usize> {
        let at = bytes.as_ptr().addr().checked_sub(self.piece.as_ptr().addr())?;
        (at + bytes.len() <= self.piece.len()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use flumen_stream::codec::sse::Decoder;

    use super::*;

    /// The bursts of the pieces; events with `drop` in them are left out.
    fn bursts(pieces: &[&'static str]) -> Vec<(String, u32)> {
        let (mut decoder, mut bursts) = (Decoder::new(1000), Vec::new());
        for piece in pieces {
            let piece = Bytes::from_static(piece.as_bytes());
            decoder.push(piece.clone());
            let mut gather = Gather::new(piece, &mut bursts);
            while let Some(Ok(event)) = decoder.next() {
                if !event.payload().starts_with(b"drop") {
                    gather.keep(event);
                }
            }
            gather.finish();
        }
        bursts
            .into_iter()
            .map(|burst| (String::from_utf8(burst.wire.to_vec()).unwrap(), burst.events))
            .collect()
    }

    #[test]
    fn neighbours_are_joined_and_nothing_else() {
        let joined = bursts(&["data: 1\n\ndata: 2\n\ndata: drop\n\ndata: 3\n\n\ndata: 4\n\ndata: 5"]);
        let expected = [("data: 1\n\ndata: 2\n\n", 2), ("data: 3\n\n", 1), ("data: 4\n\n", 1)]
            .map(|(wire, n)| (wire.to_owned(), n));
        assert_eq!(joined, expected);
    }

    #[test]
    fn an_event_split_between_pieces_stands_alone() {
        let joined = bursts(&["data: 1\n\nda", "ta: 2\n\ndata: 3\n\ndata: 4\n\n"]);
        let expected = [("data: 1\n\n", 1), ("data: 2\n\n", 1), ("data: 3\n\ndata: 4\n\n", 2)];
        assert_eq!(joined, expected.map(|(wire, n)| (wire.to_owned(), n)));
    }
}
