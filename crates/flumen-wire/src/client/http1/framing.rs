//! Body framing, stripped in place.

use crate::client::{Error, ErrorKind};

/// How a body is delimited, and how far it has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunked (RFC 9112, section 7.1).
    Chunked(Chunked),
    /// The body ends where the connection ends.
    UntilClose,
}

/// Where within the chunked coding the next byte belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// In the size line: value so far, number of digits.
    Size(u64, u8),
    /// In spaces or a chunk extension after the size: the size, and the extension's length so far.
    Extension(u64, u16),
    /// The LF of the size line comes next.
    SizeLf(u64),
    /// So many bytes of the chunk are still to come.
    Data(u64),
    /// The CR after the data comes next.
    DataCr,
    /// The LF after the data comes next.
    DataLf,
    /// In the trailers: their length so far, and the length of the current line.
    Trailer(usize, usize),
    /// The LF of a trailer line comes next.
    TrailerLf(usize, usize),
    /// The last byte has been read.
    Done,
}

/// What one call of [`Framing::strip`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripped {
    /// Length of the payload, which now stands at the beginning of the buffer.
    pub payload: usize,
    /// How much of the buffer belonged to the message.
    pub consumed: usize,
}

/// Longest chunk extension. Nobody uses them; they only serve to waste a reader's time.
const MAX_EXTENSION: u16 = 1024;

impl Framing {
    /// A body of so many bytes.
    pub fn length(bytes: u64) -> Self {
        Self::Length(bytes)
    }

    /// A chunked body, at its beginning.
    pub fn chunked() -> Self {
        Self::Chunked(Chunked::Size(0, 0))
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Done))
    }

    /// Removes the framing from what was received: the payload of all its chunks is moved to the front of the buffer.
    ///
    /// # Errors
    /// A protocol error at a malformed chunk; the message cannot be read any further.
    pub fn strip(&mut self, received: &mut [u8], max_trailers: usize) -> Result<Stripped, Error> {
        match self {
            Self::UntilClose => Ok(Stripped { payload: received.len(), consumed: received.len() }),
            Self::Length(left) => {
                let payload = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                *left -= payload as u64;
                Ok(Stripped { payload, consumed: payload })
            }
            Self::Chunked(state) => state.strip(received, max_trailers),
        }
    }

    /// Says that the connection has ended.
    ///
    /// # Errors
    /// When the body had not.
    pub fn end_of_input(&self) -> Result<(), Error> {
        if self.is_done() || *self == Self::UntilClose {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Truncated, "the connection ended before the end of the response"))
    }
}

impl Chunked {
    fn strip(&mut self, received: &mut [u8], max_trailers: usize) -> Result<Stripped, Error> {
        let (mut at, mut payload) = (0, 0);
        while at < received.len() {
            if let Self::Data(left) = self {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len() - at);
                received.copy_within(at..at + take, payload);
                at += take;
                payload += take;
                *left -= take as u64;
                if *left == 0 {
                    *self = Self::DataCr;
                }
                continue;
            }
            if *self == Self::Done {
                break;
            }
            *self = self.step(received[at], max_trailers).map_err(Error::protocol)?;
            at += 1;
        }
        Ok(Stripped { payload, consumed: at })
    }

    /// One byte of framing.
    fn step(&self, byte: u8, max_trailers: usize) -> Result<Self, &'static str> {
        Ok(match (self, byte) {
            (Self::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                // 15 digits are 2^60 bytes: more than any body, and no overflow.
                if *digits == 15 {
                    return Err("a chunk size is too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size(size * 16 + u64::from(digit), digits + 1)
            }
            (Self::Size(size, 1..) | Self::Extension(size, _), b'\r') => Self::SizeLf(*size),
            (Self::Size(size, 1..), b';' | b' ' | b'\t') => Self::Extension(*size, 0),
            (Self::Extension(size, length), _) if byte != b'\n' && *length < MAX_EXTENSION => {
                Self::Extension(*size, length + 1)
            }
            (Self::SizeLf(0), b'\n') => Self::Trailer(0, 0),
            (Self::SizeLf(size), b'\n') => Self::Data(*size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::Trailer(total, line), b'\r') => Self::TrailerLf(*total, *line),
            (Self::Trailer(..), b'\n') => return Err("a trailer line is malformed"),
            (Self::Trailer(total, line), _) => {
                if *total >= max_trailers {
                    return Err("the trailers are too large");
                }
                Self::Trailer(total + 1, line + 1)
            }
            (Self::TrailerLf(_, 0), b'\n') => Self::Done,
            (Self::TrailerLf(total, _), b'\n') => Self::Trailer(*total, 0),
            _ => return Err("a chunk is malformed"),
        })
    }
}
