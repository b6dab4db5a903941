//! gRPC over HTTP/2, with messages in protocol buffers or in Thrift.
//!
//! tonic frames the messages and knows the statuses; connections are ours, since what matters here is who waits for whom:
//!
//! * A stream that is not read holds up its own sender, at a window of 64 KiB, and nobody else: the window of a connection is as
//!   large as HTTP/2 allows, so that no sum of paused streams fills it, and neither do their small frames, of which the `h2` crate
//!   bears as many as half the window would hold (RUSTSEC-2026-0258).
//! * A connection carries a bounded number of streams ([`Options::max_streams`]); beyond it there is one more connection.
//! * Every address of every endpoint gets its share: a call goes where the fewest run.
//!
//! Thrift over gRPC is what Kitex speaks since 0.9.1: content type `application/grpc+thrift`, a bare struct a message.

mod addresses;
mod channel;
mod client;
mod codec;
mod companions;
mod frames;
mod inbound;
mod metadata;
mod server;

pub use channel::Options;
pub use client::Client;
pub use companions::companions;
pub use server::{Limits, listener_limits, refusal, route, router};

pub(crate) use inbound::Inbound;

use crate::Encoding;

/// As much as HTTP/2 allows: what a connection holds unread is bounded by its streams' windows. The `h2` crate's budget for small
/// frames is half of it, and the windows of a hundred streams full of messages of one byte stay far below that.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The content types by which the two sides know what messages are written in.
fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Proto => "application/grpc",
        Encoding::Thrift => "application/grpc+thrift",
    }
}
