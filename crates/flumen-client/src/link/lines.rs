use bytes::{Buf, BytesMut};

/// Finds lines in bytes that arrive in pieces. Empty lines are left out.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    looked: usize,
    max: usize,
}

/// A line longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), looked: 0, max }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    pub(super) fn next(&mut self) -> Option<Result<BytesMut, TooLong>> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.buffer[self.looked..]) else {
                self.looked = self.buffer.len();
                return (self.looked > self.max).then_some(Err(TooLong));
            };
            let mut line = self.buffer.split_to(self.looked + at);
            self.buffer.advance(1);
            self.looked = 0;
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.len() > self.max {
                return Some(Err(TooLong));
            }
            if !line.is_empty() {
                return Some(Ok(line));
            }
        }
    }

    /// What came after the last line end, at the proper end of the input.
    pub(super) fn finish(&mut self) -> Option<BytesMut> {
        self.looked = 0;
        let rest = std::mem::take(&mut self.buffer);
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_at_every_split() {
        let input = b"{\"a\":1}\r\n\n{\"b\":2}\nlast";
        for at in 0..=input.len() {
            let mut lines = Lines::new(100);
            let mut found = Vec::new();
            for piece in [&input[..at], &input[at..]] {
                lines.push(piece);
                while let Some(line) = lines.next() {
                    found.push(line.unwrap());
                }
            }
            assert_eq!(found, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
            assert_eq!(lines.finish().unwrap(), &b"last"[..]);
            assert_eq!(lines.finish(), None);
        }
    }

    #[test]
    fn long_lines_are_refused_whether_they_end_or_not() {
        for input in ["12345", "12345\n"] {
            let mut lines = Lines::new(4);
            lines.push(input.as_bytes());
            assert_eq!(lines.next(), Some(Err(TooLong)));
        }
        let mut lines = Lines::new(4);
        lines.push(b"1234\n12");
        assert_eq!(lines.next().unwrap().unwrap(), &b"1234"[..]);
        assert_eq!(lines.next(), None);
    }
}
