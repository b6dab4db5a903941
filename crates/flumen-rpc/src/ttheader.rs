//! TTHeader Streaming, as Kitex speaks it, and unary Thrift beside it.
//!
//! TTHeader Streaming has no flow control: a peer sends as much as TCP takes. What bounds memory here is who reads:
//!
//! * The [`Client`] gives every stream a connection of its own while it runs, so that TCP holds its peer up, and nobody else's.
//!   There is no task behind it: whoever reads or writes moves the bytes.
//! * The server takes many streams on a connection, since Kitex's clients send them so. A stream whose handler does not read holds
//!   up the whole connection when [`Limits::requests`] bytes wait for it. That is all that the protocol leaves to do; handlers
//!   that must not wait for one another need callers with a connection each.
//!
//! Frames are those of `cloudwego/gopkg/protocol/ttheader`; what streams do is that of `kitex/pkg/remote/trans/ttstream` 0.16.3,
//! except that a method that nobody has is refused (Kitex's server says nothing), and that a deadline travels (entry 12, in
//! milliseconds) and ends the handler.

use std::time::Duration;

mod client;
mod code;
mod codec;
mod ending;
mod error;
mod frame;
mod halves;
mod info;
mod server;
mod strings;
mod unary;

pub use client::{Client, Framing, Options};
pub use codec::{Codec, is_preface};
pub use error::Error;
pub use frame::{Frame, Kind, STREAMING};
pub use info::Info;
pub use server::{beside, serve_connection};

pub(crate) use halves::{Inbound, Outbound};

use frame::Allowed;

/// What one connection may hold and how long. Every limit is finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams and unary calls that run at a time. Default 1024.
    pub streams: usize,
    /// Largest message, in bytes. Default 4 MiB.
    pub message: usize,
    /// Largest header of a frame, in bytes. Default 64 KiB.
    pub header: usize,
    /// Requests of one stream that wait for its handler, in bytes. Default 64 KiB, and one message more.
    pub requests: usize,
    /// Answers of all streams that wait for the peer, in bytes. Default 64 KiB, and as much that is being written.
    pub answers: usize,
    /// How long a connection may stay without a call. Default 75 s.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 1024,
            message: 4 << 20,
            header: 64 * 1024,
            requests: 64 * 1024,
            answers: 64 * 1024,
            idle: Duration::from_secs(75),
        }
    }
}

impl Limits {
    fn allowed(&self) -> Allowed {
        Allowed { message: self.message, header: self.header }
    }
}
