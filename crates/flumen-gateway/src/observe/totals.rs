use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flumen_stream::Cause;

use super::record::Facts;

/// What there was since the start, over all models.
#[derive(Debug, Default)]
pub(super) struct Totals {
    requests: AtomicU64,
    failed: AtomicU64,
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
}

/// The same, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub requests: u64,
    pub failed: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

impl Totals {
    pub(super) fn settle(&self, facts: &Facts, cause: Cause) {
        self.requests.fetch_add(1, Relaxed);
        if cause != Cause::Complete {
            self.failed.fetch_add(1, Relaxed);
        }
        let usage = facts.usage.unwrap_or_default();
        self.tokens_in.fetch_add(usage.prompt_tokens, Relaxed);
        // Without usage an event counts as a token.
        let told = facts.usage.map_or(facts.meter.frames(), |usage| usage.completion_tokens);
        self.tokens_out.fetch_add(told, Relaxed);
    }

    pub(super) fn sums(&self) -> Sums {
        let [requests, failed, tokens_in, tokens_out] =
            [&self.requests, &self.failed, &self.tokens_in, &self.tokens_out].map(|sum| sum.load(Relaxed));
        Sums { requests, failed, tokens_in, tokens_out }
    }
}
