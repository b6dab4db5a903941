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

/// The first value of a thread's own variable; the checker knows no constant ones.
#[cfg(not(feature = "shuttle"))]
macro_rules! initially {
    ($value:expr) => {
        const { $value }
    };
}
#[cfg(feature = "shuttle")]
macro_rules! initially {
    ($value:expr) => {
        $value
    };
}
pub(super) use initially;
