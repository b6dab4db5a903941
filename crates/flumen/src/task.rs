//! Tasks that need the network, for flows.
//!
//! Other people's asynchronous clients need no wrapping: a function that awaits them is a task as it is. `examples/`
//! shows that for `PostgreSQL`, `MySQL` and Kafka.

pub mod dns;
pub mod http;
#[cfg(feature = "redis")]
pub mod redis;
pub mod rpc;
pub mod tcp;
