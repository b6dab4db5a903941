//! What flows wait on: counters, gates, signals, timers, pools, message queues, mailboxes.
//!
//! Each is an ordinary value that tasks share, and every wait is cancel-safe: a waiter that is dropped leaves nothing
//! behind and takes nothing with it.

mod barrier;
mod mailbox;
mod pool;
mod queue;
mod signal;

pub use barrier::{Counter, Gate};
pub use mailbox::Mailbox;
pub use pool::{Lease, Pool};
pub use queue::{Closed, MessageQueue};
pub use signal::{Fired, Signals, Timers};
