use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::Serialize;

/// What a simulator has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that were answered, with whatever status.
    pub requests: u64,
    /// Answers that are being generated.
    pub active: u64,
    /// Answers that came to their end, a faulty one included.
    pub completed: u64,
    /// Answers that were dropped before their end.
    pub aborted: u64,
    /// Tokens generated.
    pub tokens: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    active: AtomicU64,
    completed: AtomicU64,
    aborted: AtomicU64,
    pub(crate) tokens: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Relaxed),
            active: self.active.load(Relaxed),
            completed: self.completed.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
        }
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Answering {
        self.active.fetch_add(1, Relaxed);
        Answering { counters: Arc::clone(self), complete: false }
    }
}

/// One answer that is being generated; dropped early, it counts as aborted.
#[derive(Debug)]
pub(crate) struct Answering {
    counters: Arc<Counters>,
    complete: bool,
}

impl Answering {
    pub(crate) fn token(&self, count: u64) {
        self.counters.tokens.fetch_add(count, Relaxed);
    }

    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.counters.active.fetch_sub(1, Relaxed);
        let ended = if self.complete { &self.counters.completed } else { &self.counters.aborted };
        ended.fetch_add(1, Relaxed);
    }
}
