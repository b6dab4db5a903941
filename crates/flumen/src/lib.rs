//! Streaming services in ten lines.
//!
//! ```no_run
#![doc = include_str!("../examples/typewriter.rs")]
//! ```
//!
//! * [`stream`]: events, the SSE codec, the bounded log, pacing, heartbeat, deadlines.
//! * [`wire`]: the listener, the metered HTTP client, responders ([`Sse`], [`Ndjson`], [`Chunked`]).
//! * [`serve`]: a router on an address, under sane limits, drained on SIGTERM.
//!
//! [`axum`] and [`futures_util`] are re-exported in the versions that fit.

use std::{io, net::SocketAddr, sync::Arc};

pub use axum::{self, Router, routing::get, routing::post};
pub use flumen_stream::{self as stream, Event, Pace, StreamTools, Watermarks, log};
use flumen_wire::listen::{Gate, Limits, Listener, Shutdown};
pub use flumen_wire::{
    self as wire,
    transport::{Chunked, Ndjson, Sse},
};
pub use futures_util::{self, stream::iter};
use tokio::signal::unix::{SignalKind, signal};

/// Serves a router until SIGTERM or SIGINT, then stops accepting, lets running requests finish, and returns; a second
/// signal ends them. Connections are held to [`Limits::default`].
///
/// # Errors
/// When the address is malformed or cannot be bound.
pub async fn serve(address: &str, router: Router) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(|error| {
        let hint = format!("`{address}` is not an address such as 127.0.0.1:8080: {error}");
        io::Error::new(io::ErrorKind::InvalidInput, hint)
    })?;
    let listener = Listener::bind(address, false)?;
    let shutdown = Shutdown::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = shutdown.clone();
    let signals = tokio::spawn(async move {
        for step in [Shutdown::drain, Shutdown::abort] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            step(&stop);
        }
    });
    let served =
        listener.serve(router, Arc::new(Limits::default()), Arc::new(Gate::default()), None, shutdown).await;
    signals.abort();
    served
}

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
