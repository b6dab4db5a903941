//! The primitives under the log: the standard library's, or the model checker's.

#[cfg(feature = "shuttle")]
pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};

#[cfg(not(feature = "shuttle"))]
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
