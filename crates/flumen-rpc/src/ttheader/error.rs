use std::io;

/// Why a connection cannot go on, or what is wrong with a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The connection ended in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Truncated,
    /// Neither a TTHeader frame nor a framed Thrift message; bytes 5 and 6 of it.
    #[error("neither TTHeader nor framed Thrift: {0:#06x} where the magic should be")]
    Magic(u16),
    /// A frame is longer than allowed.
    #[error("a frame with {length} bytes of {part}, where {limit} are allowed")]
    TooLong {
        /// Which part of it: `header` or `payload`.
        part: &'static str,
        /// As announced, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A header's size does not fit the frame's.
    #[error("a header of {header} bytes in a frame of {frame}")]
    HeaderSize {
        /// The header's size, in bytes.
        header: usize,
        /// The size of the frame without the length before it, in bytes.
        frame: usize,
    },
    /// A payload protocol that TTHeader does not have.
    #[error("there is no payload protocol {0:#04x}")]
    Protocol(u8),
    /// The payload was transformed (compressed), which nobody does any more.
    #[error("transformed payloads are not supported")]
    Transformed,
    /// A block of the header that TTHeader does not have.
    #[error("there is no header block {0:#04x}")]
    Block(u8),
    /// An entry of the header reaches beyond it.
    #[error("an entry of a header is cut off")]
    Entry,
    /// A frame of a stream that is of no type, or of one that TTHeader Streaming does not have.
    #[error("a frame of an unknown type")]
    Kind,
    /// Stream 0 is for what concerns the whole connection, which is not defined yet.
    #[error("a frame of stream 0")]
    StreamZero,
    /// Not a message of Thrift's.
    #[error(transparent)]
    Thrift(#[from] crate::thrift::Malformed),
    /// A frame that is right in itself came where it has no place.
    #[error("{0}")]
    Unexpected(&'static str),
}
