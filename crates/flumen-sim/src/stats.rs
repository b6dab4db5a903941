//! Counting requests and how they ended.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::Serialize;

/// What a simulator has done so far. `requests` is the sum of `active`, `completed` and `aborted`, except for
/// requests that come or end while they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that came, whatever they asked for, except for these numbers.
    pub requests: u64,
    /// Requests being answered.
    pub active: u64,
    /// Requests answered to the end, be it a planned fault.
    pub completed: u64,
    /// Requests whose reply was dropped before its end.
    pub aborted: u64,
    /// Tokens generated.
    pub tokens: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    completed: AtomicU64,
    aborted: AtomicU64,
    tokens: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        // The ends before the beginnings, so that the difference never falls below zero.
        let (completed, aborted) = (self.completed.load(Relaxed), self.aborted.load(Relaxed));
        let requests = self.requests.load(Relaxed);
        let active = requests.saturating_sub(completed + aborted);
        Stats { requests, active, completed, aborted, tokens: self.tokens.load(Relaxed) }
    }
}

/// One request in the count: aborted when it is dropped, unless it was completed.
#[derive(Debug)]
pub(crate) struct Ticket {
    counters: Arc<Counters>,
    number: u64,
    completed: bool,
}

impl Ticket {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        let number = counters.requests.fetch_add(1, Relaxed);
        Self { counters, number, completed: false }
    }

    /// The number of this request, which no other request to the same simulator has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn generated(&self, tokens: u64) {
        self.counters.tokens.fetch_add(tokens, Relaxed);
    }

    pub(crate) fn complete(&mut self) {
        if !std::mem::replace(&mut self.completed, true) {
            self.counters.completed.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.completed {
            self.counters.aborted.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_ends_once() {
        let counters = Arc::new(Counters::default());
        let (mut done, dropped) = (Ticket::new(counters.clone()), Ticket::new(counters.clone()));
        let _open = Ticket::new(counters.clone());
        done.complete();
        done.complete();
        done.generated(5);
        drop((done, dropped));
        let expected = Stats { requests: 3, active: 1, completed: 1, aborted: 1, tokens: 5 };
        assert_eq!(counters.stats(), expected);
    }
}
