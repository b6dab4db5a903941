//! TTHeader Streaming and unary Thrift between our client and our server, and between our server and frames made by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "ttheader/bad_input.rs"]
mod bad_input;
#[path = "ttheader/cancel.rs"]
mod cancel;
#[path = "ttheader/multiplexed.rs"]
mod multiplexed;
#[path = "ttheader/pressure.rs"]
mod pressure;
#[path = "ttheader/server.rs"]
mod server;
#[path = "ttheader/streams.rs"]
mod streams;
#[path = "ttheader/unary.rs"]
mod unary;
