//! What the crate promises, one file per behaviour.

mod compose;
mod executor;
mod files;
mod laws;
mod leak;
mod lifecycle;
mod streaming;
mod waits;
