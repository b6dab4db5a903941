use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::{
    Error, Frame, Info, Limits,
    frame::{Allowed, Head, Kind, MAGIC, within},
};
use crate::thrift::message::VERSION;

/// A payload of up to so many bytes is copied out, so that it does not pin what came with it; a longer one is not.
const SMALL: usize = 4 * 1024;

/// Frames of TTHeader, for `tokio_util`'s `Framed`. Grows with what comes, not with what is announced.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    allowed: Allowed,
}

impl Codec {
    /// Accepts frames as large as [`Limits::message`] and [`Limits::header`] say.
    pub fn new(limits: &Limits) -> Self {
        Self { allowed: limits.allowed() }
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, Error> {
        let Some(Protocol::TtHeader) = Protocol::of(from)? else { return Ok(None) };
        Ok(Head::find(from, self.allowed)?.map(|head| frame(&head, &from.split_to(head.parts.2).freeze())))
    }

    fn decode_eof(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, Error> {
        match self.decode(from)? {
            None if !from.is_empty() => Err(Error::Truncated),
            frame => Ok(frame),
        }
    }
}

impl Encoder<&Frame> for Codec {
    type Error = Error;

    fn encode(&mut self, frame: &Frame, to: &mut BytesMut) -> Result<(), Error> {
        within("payload", frame.payload.len(), self.allowed.message)?;
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        to.extend_from_slice(&bytes);
        Ok(())
    }
}

fn frame(head: &Head, bytes: &Bytes) -> Frame {
    let (start, payload, end) = head.parts;
    let info = Info::checked(bytes.slice(start..payload));
    Frame { flags: head.flags, id: head.id, info, payload: bytes.slice(payload..end) }
}

/// What the next bytes are in.
enum Protocol {
    TtHeader,
    Framed,
}

impl Protocol {
    /// `None` while there are too few bytes to tell.
    fn of(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&[_, _, _, _, a, b]) = bytes.first_chunk::<6>() else { return Ok(None) };
        match u16::from_be_bytes([a, b]) {
            MAGIC => Ok(Some(Self::TtHeader)),
            VERSION => Ok(Some(Self::Framed)),
            other => Err(Error::Magic(other)),
        }
    }
}

/// Whether a connection begins as TTHeader or framed Thrift do, by its first 8 bytes (6 would do). No HTTP begins so.
pub fn is_preface(first: &[u8]) -> bool {
    matches!(Protocol::of(first), Ok(Some(_)))
}

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Received {
    /// A message of a stream.
    Data { id: i32, payload: Bytes },
    /// Another frame.
    Frame(Frame),
    /// A message of Thrift's with only its length before it.
    Framed(Bytes),
}

/// Where what a connection brings is taken apart. Holds memory only while a frame is not all there.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: BytesMut,
    allowed: Allowed,
}

impl Incoming {
    pub(super) fn new(allowed: Allowed) -> Self {
        Self { bytes: BytesMut::new(), allowed }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Puts by what came and was not taken.
    pub(super) fn keep(&mut self, fresh: &[u8]) {
        self.bytes.extend_from_slice(fresh);
    }

    /// Takes the next frame out of what was put by and `fresh`, which just came. `None`: it is not all there.
    pub(super) fn next(&mut self, fresh: &mut &[u8]) -> Result<Option<Received>, Error> {
        if self.bytes.is_empty() {
            // Most often all that came is whole frames, which then need not be copied first.
            return take(fresh, self.allowed);
        }
        self.bytes.extend_from_slice(fresh);
        *fresh = &[];
        let taken = take(&mut self.bytes, self.allowed);
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        taken
    }
}

/// Takes a frame from the front of what lies in one piece.
fn take(from: &mut impl Buf, allowed: Allowed) -> Result<Option<Received>, Error> {
    match Protocol::of(from.chunk())? {
        None => Ok(None),
        Some(Protocol::TtHeader) => {
            Ok(Head::find(from.chunk(), allowed)?.map(|head| take_frame(&head, from)))
        }
        Some(Protocol::Framed) => {
            let Some(length) = from.chunk().first_chunk() else { return Ok(None) };
            let length = u32::from_be_bytes(*length) as usize;
            within("payload", length, allowed.message)?;
            if from.remaining() - 4 < length {
                return Ok(None);
            }
            from.advance(4);
            Ok(Some(Received::Framed(take_bytes(from, length))))
        }
    }
}

fn take_frame(head: &Head, from: &mut impl Buf) -> Received {
    let (_, payload, end) = head.parts;
    if head.kind == Some(Kind::Data) {
        from.advance(payload);
        return Received::Data { id: head.id, payload: take_bytes(from, end - payload) };
    }
    Received::Frame(frame(head, &take_bytes(from, end)))
}

fn take_bytes(from: &mut impl Buf, length: usize) -> Bytes {
    if length > SMALL {
        return from.copy_to_bytes(length);
    }
    let bytes = Bytes::copy_from_slice(&from.chunk()[..length]);
    from.advance(length);
    bytes
}
