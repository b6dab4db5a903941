//! The gateway as its users meet it: the real binary over real sockets. One file per behaviour.

mod backpressure;
mod bad_input;
mod configuration;
mod drain;
mod errors;
mod http2;
mod leaving;
mod observation;
mod relay;
mod simulator;
mod support;
mod timeouts;
mod tls;
