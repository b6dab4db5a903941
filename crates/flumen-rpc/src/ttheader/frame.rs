//! One frame of TTHeader, and how frames are found in what a connection brings.
//!
//! ```text
//! u32 length of what follows | u16 0x1000 | u16 flags | i32 id | u16 size of the header in words | header | payload
//! ```

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes};

use super::{
    Error, Info,
    info::{self, STRUCT},
};

/// What tells TTHeader from everything else, in bytes 5 and 6.
pub(super) const MAGIC: u16 = 0x1000;
/// The flag of a stream's frames.
pub const STREAMING: u16 = 0x0002;
/// The largest frame that the protocol has, in bytes.
pub(super) const LARGEST: usize = 0x3fff_ffff;
/// The fixed part of a frame, with the length before it.
const FIXED: usize = 14;

/// Numbers of entries that a header has.
pub(super) mod key {
    pub(crate) const TRANSPORT: u16 = 1;
    pub(crate) const FROM_SERVICE: u16 = 3;
    pub(crate) const TO_SERVICE: u16 = 6;
    pub(crate) const METHOD: u16 = 9;
    /// In milliseconds.
    pub(crate) const TIMEOUT: u16 = 12;
    pub(crate) const MESSAGE_TYPE: u16 = 22;
    pub(crate) const FRAME_TYPE: u16 = 27;
}

/// What a frame of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Something about the stream that no version of Kitex says yet.
    Meta,
    /// The beginning of a direction.
    Header,
    /// A message.
    Data,
    /// The end of a direction.
    Trailer,
    /// The end of both directions.
    Reset,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "1",
            Self::Header => "2",
            Self::Data => "3",
            Self::Trailer => "4",
            Self::Reset => "5",
        }
    }

    fn of(text: Option<&[u8]>) -> Option<Self> {
        Some(match text? {
            b"1" => Self::Meta,
            b"2" => Self::Header,
            b"3" => Self::Data,
            b"4" => Self::Trailer,
            b"5" => Self::Reset,
            _ => return None,
        })
    }
}

/// A frame: of a stream, or a whole unary message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// [`STREAMING`] and others that do not matter here.
    pub flags: u16,
    /// The stream, or what pairs an answer with its request.
    pub id: i32,
    /// What the header says.
    pub info: Info,
    /// The payload.
    pub payload: Bytes,
}

impl Frame {
    /// A frame of a stream, with entries by name.
    pub fn of_stream<'a>(
        id: i32,
        kind: Kind,
        method: &str,
        named: impl IntoIterator<Item = (&'a str, &'a str)>,
        payload: Bytes,
    ) -> Self {
        let numbered = [(key::FRAME_TYPE, kind.as_str()), (key::METHOD, method)];
        Self { flags: STREAMING, id, info: Info::new(STRUCT, &numbered, named), payload }
    }

    /// What it is, if it is one of a stream.
    pub fn kind(&self) -> Option<Kind> {
        if self.flags & STREAMING == 0 { None } else { Kind::of(self.info.numbered(key::FRAME_TYPE)) }
    }

    /// The method; empty if it is not told.
    pub fn method(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.info.numbered(key::METHOD).unwrap_or_default())
    }

    /// Adds the frame to these bytes.
    pub fn write(&self, to: &mut Vec<u8>) {
        self.write_head(to, self.payload.len());
        to.put_slice(&self.payload);
    }

    /// Everything that stands before a payload of so many bytes.
    fn write_head(&self, to: &mut Vec<u8>, payload: usize) {
        let info = self.info.as_bytes();
        // No header is larger than its size can tell, and no frame longer than is checked before.
        let (words, length) =
            (u16::try_from(info.len() / 4), u32::try_from(FIXED - 4 + info.len() + payload));
        to.put_u32(length.unwrap_or(u32::MAX));
        to.put_u16(MAGIC);
        to.put_u16(self.flags);
        to.put_i32(self.id);
        to.put_u16(words.unwrap_or(u16::MAX));
        to.put_slice(info);
    }
}

/// What all messages of one direction of a stream begin with: a frame without its payload. Only the length is missing.
#[derive(Debug)]
pub(super) struct Template {
    head: Box<[u8]>,
}

impl Template {
    pub(super) fn new(id: i32, method: &str) -> Self {
        let mut head = Vec::new();
        Frame::of_stream(id, Kind::Data, method, [], Bytes::new()).write_head(&mut head, 0);
        Self { head: head.into() }
    }

    /// Bytes that come on top of a message.
    pub(super) fn size(&self) -> usize {
        self.head.len()
    }

    /// Adds a message. It is not longer than a frame may be.
    pub(super) fn write(&self, message: &[u8], to: &mut Vec<u8>) {
        to.reserve(self.head.len() + message.len());
        let length = u32::try_from(self.head.len() - 4 + message.len());
        to.put_u32(length.unwrap_or(u32::MAX));
        to.put_slice(&self.head[4..]);
        to.put_slice(message);
    }
}

/// How large a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Bytes of payload.
    pub(super) message: usize,
    /// Bytes of header.
    pub(super) header: usize,
}

/// A frame that is all there, by what stands before its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) flags: u16,
    pub(super) id: i32,
    pub(super) kind: Option<Kind>,
    /// Bytes before the header, before the payload, and in all.
    pub(super) parts: (usize, usize, usize),
}

impl Head {
    /// Finds a frame at the beginning of `bytes` and checks it; `None` is one that is not all there yet.
    pub(super) fn find(bytes: &[u8], allowed: Allowed) -> Result<Option<Self>, Error> {
        let Some(mut fixed) = bytes.get(..FIXED) else { return Ok(None) };
        let length = fixed.get_u32() as usize;
        let (_magic, flags, id) = (fixed.get_u16(), fixed.get_u16(), fixed.get_i32());
        let header = usize::from(fixed.get_u16()) * 4;
        let payload = length.checked_sub(FIXED - 4 + header).filter(|_| header >= 4);
        let payload = payload.ok_or(Error::HeaderSize { header, frame: length })?;
        within("header", header, allowed.header)?;
        within("payload", payload, allowed.message)?;
        let (start, end) = (FIXED + header, FIXED + header + payload);
        if bytes.len() < end {
            return Ok(None);
        }
        let kind = check(flags, id, &bytes[FIXED..start])?;
        Ok(Some(Self { flags, id, kind, parts: (FIXED, start, end) }))
    }
}

fn check(flags: u16, id: i32, header: &[u8]) -> Result<Option<Kind>, Error> {
    Info::check(header)?;
    if flags & STREAMING == 0 {
        return Ok(None);
    }
    if id == 0 {
        return Err(Error::StreamZero);
    }
    Kind::of(info::numbered(header, key::FRAME_TYPE)).ok_or(Error::Kind).map(Some)
}

pub(super) fn within(part: &'static str, length: usize, limit: usize) -> Result<(), Error> {
    if length > limit { Err(Error::TooLong { part, length, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
