//! The gateway as its users meet it: the real binary over real sockets. One file per behaviour.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::too_many_lines, reason = "a table of cases is as long as it is")]

mod admin;
mod backpressure;
mod bad_input;
mod bench;
mod chaos;
mod chat;
mod client;
mod configuration;
mod continuation;
mod cors;
mod crash;
mod drain;
mod errors;
mod failover;
mod fairness;
mod faults;
mod front;
mod health;
mod http2;
mod kept;
mod keys;
mod leaving;
mod limits;
mod names;
mod observation;
mod page_tokens;
mod playground;
mod pools;
mod relay;
mod restart;
mod resume;
mod rpc;
mod rpc_faults;
mod rpc_tls;
mod simulator;
mod socket;
mod support;
mod timeouts;
mod tls;
mod tokens;
mod top;
mod transports;
