//! The library as its users meet it: real sockets, and the examples as they are run.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::too_many_lines, reason = "a table of cases is as long as it is")]

mod examples;
mod files;
mod http;
mod proxy;
mod push;
mod redis;
mod rpc;
mod serve;
mod support;
