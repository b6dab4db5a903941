//! Calls between a client and a server of ours, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod bad_input;
mod calls;
mod pressure;
mod service;
