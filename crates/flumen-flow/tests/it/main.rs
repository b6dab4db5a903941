//! What the crate promises, one file per behaviour.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::too_many_lines, reason = "a table of cases is as long as it is")]

mod compose;
mod executor;
mod files;
mod laws;
mod leak;
mod lifecycle;
mod streaming;
mod waits;
