//! Streaming services in ten lines.
//!
//! ```no_run
#![doc = include_str!("../examples/typewriter.rs")]
//! ```
//!
//! * [`flow`]: tasks, and what they compose to: series, parallel, graph, repeat; executors with fair named queues.
//! * [`task`]: tasks that need the network: HTTP, RPC, Redis, TCP, DNS.
//! * [`stream`]: events, the SSE codec, the bounded log, pacing, heartbeat, deadlines.
//! * [`store`]: streams that survive their connections, in memory or on disk. [`client`]: reads a stream over as many connections
//!   as it takes.
//! * [`rpc`]: streaming RPC (gRPC, Thrift over gRPC, TTHeader Streaming), and servers for model services.
//! * [`admit`]: fair admission in front of scarce places, and limits, counted in tokens.
//! * [`wire`]: the listener, the metered HTTP client, responders ([`Sse`], [`Ndjson`], [`Chunked`]).
//! * [`mod@serve`]: a router on an address, under sane limits, drained on SIGTERM; handlers that run a flow per request.
//! * [`push`]: servers of protocols of your own. [`proxy`]: HTTP through to another server, both ways. [`files`]: files over
//!   HTTP, with ranges, uploads that can go on, and tails.
//!
//! [`axum`] and [`futures_util`] are re-exported in the versions that fit.

pub mod files;
mod generating;
pub mod proxy;
pub mod push;
pub mod serve;
pub mod task;

pub use axum::{self, Router, routing::get, routing::post};
pub use bytes::Bytes;
pub use flumen_admit as admit;
pub use flumen_client as client;
pub use flumen_flow as flow;
pub use flumen_rpc as rpc;
pub use flumen_store as store;
pub use flumen_stream::{self as stream, Event, Pace, StreamTools, Watermarks, log};
pub use flumen_wire::{
    self as wire,
    transport::{Chunked, Ndjson, Sse},
};
pub use futures_util::{self, stream::iter};
pub use serve::serve;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The code of the page for users of Sogou Workflow compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from-workflow.md")]
struct ComingFromWorkflow;

/// The code of the page on RPC compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/rpc.md")]
struct RpcPage;
