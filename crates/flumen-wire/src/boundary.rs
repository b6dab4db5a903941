//! Where a message begins and ends in a stream of bytes, as codecs of [`tokio_util::codec`].
//!
//! [`Lines`], [`Delimited`] and [`LengthPrefixed`] are the usual three. [`ChunkMarked`] is for transfers that come in parts and
//! may break off: every part has a sequence number and a checksum, and the transfer has a beginning and an end, so
//! that a partial one is seen as such and can go on after its last good part ([`Assembler`]).

pub use tokio_util::codec::{
    AnyDelimiterCodec as Delimited, LengthDelimitedCodec as LengthPrefixed, LinesCodec as Lines,
};

mod assemble;
mod chunk;

pub use assemble::{Assembler, Received, TransferError};
pub use chunk::{Chunk, ChunkError, ChunkKind, ChunkMarked};
