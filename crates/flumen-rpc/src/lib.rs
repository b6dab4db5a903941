//! Streaming RPC: one pair of bounded streams, whichever of three protocols carries it.
//!
//! * [`grpc`]: gRPC over HTTP/2, with messages in protocol buffers or in Thrift (Kitex's `application/grpc+thrift`).
//! * [`ttheader`]: Kitex's TTHeader Streaming, and unary Thrift, over plain TCP.
//! * [`thrift`]: Thrift's binary protocol.
//! * [`generation`]: what Flumen and model services say to each other, over any of these.
//! * [`service`]: for authors of model services: one trait to implement.
//!
//! A call is an [`Exchange`]: what goes out waits for the peer, and what comes in makes the peer wait when it is not read.

pub mod generation;
pub mod grpc;
pub mod service;
pub mod thrift;
pub mod ttheader;

mod call;
mod cancel;
mod client;
mod exchange;
mod services;
mod status;

pub use call::{Call, Encoding, Metadata};
pub use cancel::{Cancel, Cancellation};
pub use client::{Client, Unreachable};
pub use exchange::{Exchange, Inbound, Outbound};
pub use services::{Handling, Incoming, Services};
pub use status::{Business, Code, Status};

pub(crate) use exchange::{In, Letter, Out};
