use std::{fmt, hash::Hasher, str::FromStr};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Names a stream: 128 random bits, written as 32 hexadecimal digits. Whoever knows the name can ask for the stream, so
/// it comes from a generator that cannot be guessed, and `Debug` (which is what ends up in logs) shows its beginning only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u128);

impl StreamId {
    /// A new name.
    ///
    /// # Errors
    /// When the system has no random numbers to give.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// The name as a number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The name that is this number.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// As much of the name as may stand in a log: enough to find the stream, too little to read it.
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

/// The system has no random numbers to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random numbers")]
pub struct NoRandomness;

/// Written with every event of a stream, so faster than the standard library writes hexadecimal numbers.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

/// Names are random: they are their own hash. Only names that were given out are ever inserted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, number: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "half of the random bits are enough")]
        let half = number as u64;
        self.0 = half;
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.short())
    }
}

/// A text that names no stream, or no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a stream's event")]
pub struct InvalidId;

impl FromStr for StreamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !digits {
            return Err(InvalidId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidId)
    }
}

/// A place in a stream: who wrote there, and the number of the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Grows with each writer that takes the stream over.
    pub epoch: u64,
    /// Counts events from 1, without gaps, through all epochs.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// What an event's `id` line says: `<stream>.<epoch>-<seq>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The stream.
    pub stream: StreamId,
    /// The place in it.
    pub at: Position,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stream, self.at)
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (stream, at) = text.split_once('.').ok_or(InvalidId)?;
        let (epoch, seq) = at.split_once('-').ok_or(InvalidId)?;
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten().ok_or(InvalidId)
        };
        Ok(Self { stream: stream.parse()?, at: Position { epoch: number(epoch)?, seq: number(seq)? } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is() {
        let stream = StreamId::random().unwrap();
        assert_eq!(stream.to_string(), format!("{:032x}", stream.as_u128()));
        let id = EventId { stream, at: Position { epoch: 3, seq: u64::MAX } };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "7",
            "x.1-1",
            &format!("{stream}.1"),
            &format!("{stream}.+1-2"),
            &format!("{stream}.1-18446744073709551616"),
            &stream.to_string().to_uppercase(),
        ] {
            assert_eq!(wrong.parse::<EventId>(), Err(InvalidId), "{wrong}");
        }
    }

    #[test]
    fn logs_never_show_an_id_in_full() {
        let stream = StreamId::random().unwrap();
        assert!(!format!("{:?}", EventId { stream, at: Position::default() }).contains(&stream.to_string()));
    }
}
