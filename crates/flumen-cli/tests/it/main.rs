//! The gateway as its users meet it: the real binary over real sockets. One file per behaviour.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::too_many_lines, reason = "a table of cases is as long as it is")]

mod backpressure;
mod bad_input;
mod bench;
mod chat;
mod client;
mod configuration;
mod cors;
mod crash;
mod drain;
mod errors;
mod http2;
mod kept;
mod leaving;
mod observation;
mod playground;
mod relay;
mod restart;
mod resume;
mod simulator;
mod socket;
mod support;
mod timeouts;
mod tls;
mod top;
mod transports;
