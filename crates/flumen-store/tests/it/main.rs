//! Every store keeps the same promises.
#![allow(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod disk;
mod pace;
mod support;
