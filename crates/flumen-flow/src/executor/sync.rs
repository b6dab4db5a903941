//! The primitives under the executor: the standard library's, or the model checker's.

#[cfg(feature = "shuttle")]
pub(super) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread, thread_local,
};
#[cfg(not(feature = "shuttle"))]
pub(super) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread, thread_local,
};
