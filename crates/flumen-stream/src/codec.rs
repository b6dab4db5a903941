//! Wire formats of streams.

pub mod sse;
