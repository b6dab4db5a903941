use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// One part of a transfer.
///
/// On the wire, all numbers big-endian: kind (1 byte), transfer (8), number (8), length of the content (4), CRC-32 of
/// everything before it and the content (4), content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What it is.
    pub kind: ChunkKind,
    /// Which transfer it belongs to.
    pub transfer: u64,
    /// Its number within the transfer: the begin has that of the first part to come, the parts count on from it, and
    /// the end has the number after the last part.
    pub number: u64,
    /// What it carries: anything in a begin (a name, say), the bytes of a part, the reason in an abort.
    pub content: Bytes,
}

/// What a [`Chunk`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// A transfer begins, or goes on at its number.
    Begin,
    /// A part of it.
    Part,
    /// It is complete.
    End,
    /// It will not be completed.
    Abort,
}

/// Bytes that are no chunk. The connection cannot be read on after it.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// There is no such kind.
    #[error("no chunk begins with the byte {0:#04x}")]
    UnknownKind(u8),
    /// It announces more than is allowed; nothing of it was read.
    #[error("a chunk announces {announced} bytes, and {allowed} are allowed")]
    TooLong {
        /// What it says.
        announced: usize,
        /// The limit.
        allowed: usize,
    },
    /// The checksum does not fit the content.
    #[error("chunk {number} of transfer {transfer} was damaged on the way")]
    Damaged {
        /// The transfer that it says it belongs to.
        transfer: u64,
        /// The number that it says it has.
        number: u64,
    },
    /// The connection ended within a chunk, or broke.
    #[error("the connection broke within a chunk: {0}")]
    Io(#[from] io::Error),
}

const HEAD: usize = 1 + 8 + 8 + 4 + 4;

/// The codec of [`Chunk`]s.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use flumen_wire::boundary::{Chunk, ChunkKind, ChunkMarked};
/// use tokio_util::codec::{Decoder, Encoder};
///
/// let part = Chunk { kind: ChunkKind::Part, transfer: 7, number: 0, content: Bytes::from_static(b"water") };
/// let (mut codec, mut wire) = (ChunkMarked::default(), BytesMut::new());
/// codec.encode(part.clone(), &mut wire).unwrap();
/// assert_eq!(codec.decode(&mut wire).unwrap(), Some(part));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ChunkMarked {
    longest: usize,
}

impl Default for ChunkMarked {
    /// Chunks of up to 1 MiB.
    fn default() -> Self {
        Self { longest: 1024 * 1024 }
    }
}

impl ChunkMarked {
    /// Chunks of up to this many bytes of content.
    pub fn up_to(longest: usize) -> Self {
        Self { longest: longest.min(u32::MAX as usize) }
    }
}

impl Encoder<Chunk> for ChunkMarked {
    type Error = ChunkError;

    fn encode(&mut self, chunk: Chunk, wire: &mut BytesMut) -> Result<(), ChunkError> {
        let too_long = ChunkError::TooLong { announced: chunk.content.len(), allowed: self.longest };
        let length = u32::try_from(chunk.content.len()).ok().filter(|_| chunk.content.len() <= self.longest);
        let Some(length) = length else { return Err(too_long) };
        wire.reserve(HEAD + chunk.content.len());
        let start = wire.len();
        wire.put_u8(match chunk.kind {
            ChunkKind::Begin => b'B',
            ChunkKind::Part => b'P',
            ChunkKind::End => b'E',
            ChunkKind::Abort => b'A',
        });
        wire.put_u64(chunk.transfer);
        wire.put_u64(chunk.number);
        wire.put_u32(length);
        wire.put_u32(checksum(&wire[start..], &chunk.content));
        wire.put(chunk.content);
        Ok(())
    }
}

impl Decoder for ChunkMarked {
    type Item = Chunk;
    type Error = ChunkError;

    fn decode(&mut self, wire: &mut BytesMut) -> Result<Option<Chunk>, ChunkError> {
        let Some(&first) = wire.first() else { return Ok(None) };
        let kind = match first {
            b'B' => ChunkKind::Begin,
            b'P' => ChunkKind::Part,
            b'E' => ChunkKind::End,
            b'A' => ChunkKind::Abort,
            other => return Err(ChunkError::UnknownKind(other)),
        };
        if wire.len() < HEAD {
            return Ok(None);
        }
        let mut head = &wire[1..HEAD];
        let (transfer, number, length) = (head.get_u64(), head.get_u64(), head.get_u32() as usize);
        let announced = head.get_u32();
        if length > self.longest {
            return Err(ChunkError::TooLong { announced: length, allowed: self.longest });
        }
        if wire.len() < HEAD + length {
            // No more is reserved than the limit allows, whatever the peer announces.
            wire.reserve(HEAD + length - wire.len());
            return Ok(None);
        }
        let head = wire.split_to(HEAD);
        let content = wire.split_to(length).freeze();
        if checksum(&head[..HEAD - 4], &content) != announced {
            return Err(ChunkError::Damaged { transfer, number });
        }
        Ok(Some(Chunk { kind, transfer, number, content }))
    }

    fn decode_eof(&mut self, wire: &mut BytesMut) -> Result<Option<Chunk>, ChunkError> {
        match self.decode(wire)? {
            None if !wire.is_empty() => Err(ChunkError::Io(io::ErrorKind::UnexpectedEof.into())),
            chunk => Ok(chunk),
        }
    }
}

fn checksum(head: &[u8], content: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(content);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk() -> impl Strategy<Value = Chunk> {
        let kind = prop_oneof![
            Just(ChunkKind::Begin),
            Just(ChunkKind::Part),
            Just(ChunkKind::End),
            Just(ChunkKind::Abort)
        ];
        (kind, any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(
            |(kind, transfer, number, content)| Chunk { kind, transfer, number, content: content.into() },
        )
    }

    proptest! {
        #[test]
        fn chunks_survive_any_split(chunks in prop::collection::vec(chunk(), 1..6), step in 1_usize..40) {
            let (mut codec, mut wire) = (ChunkMarked::default(), BytesMut::new());
            for chunk in &chunks {
                codec.encode(chunk.clone(), &mut wire).unwrap();
            }
            let (mut arrived, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                arrived.extend_from_slice(piece);
                while let Some(chunk) = codec.decode(&mut arrived).unwrap() {
                    decoded.push(chunk);
                }
            }
            prop_assert!(codec.decode_eof(&mut arrived).unwrap().is_none());
            prop_assert_eq!(decoded, chunks);
        }

        #[test]
        fn a_flipped_bit_is_never_taken_for_a_chunk(chunk in chunk(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let (mut codec, mut wire) = (ChunkMarked::up_to(1000), BytesMut::new());
            codec.encode(chunk, &mut wire).unwrap();
            let at = at.index(wire.len());
            wire[at] ^= 1_u8 << bit;
            prop_assert!(!matches!(codec.decode_eof(&mut wire), Ok(Some(_))));
        }
    }

    #[test]
    fn a_length_that_lies_reserves_nothing() {
        let mut wire = BytesMut::from(&b"P"[..]);
        wire.put_bytes(0, 16);
        wire.put_u32(u32::MAX);
        wire.put_u32(0);
        let error = ChunkMarked::up_to(100).decode(&mut wire).unwrap_err();
        assert!(matches!(error, ChunkError::TooLong { announced: 4_294_967_295, allowed: 100 }), "{error}");
        assert!(wire.capacity() < 1000);
    }
}
