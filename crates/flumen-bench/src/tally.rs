//! What was counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::exchange::Failure;

/// What one thread of the generator has seen. Times are in microseconds.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) first_token: Histogram<u64>,
    pub(crate) gap: Histogram<u64>,
    pub(crate) delay: Histogram<u64>,
    /// From a cut to the next event.
    pub(crate) resume: Histogram<u64>,
    pub(crate) failures: BTreeMap<String, Failures>,
    /// Streams that were left, and when by the wall clock.
    pub(crate) left: Vec<(String, u64)>,
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    /// The first one's message.
    pub(crate) example: String,
}

/// A histogram of microseconds with three digits. What is longer than an hour counts as an hour.
pub(crate) fn histogram() -> Histogram<u64> {
    const HOUR: u64 = 3_600_000_000;
    Histogram::new_with_bounds(1, HOUR, 3).expect("bounds in order, and one to five digits")
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            first_token: histogram(),
            gap: histogram(),
            delay: histogram(),
            resume: histogram(),
            failures: BTreeMap::new(),
            left: Vec::new(),
        }
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        let Failure { kind, message } = failure;
        self.failures.entry(kind).or_insert(Failures { count: 0, example: message }).count += 1;
    }

    /// Adds what another thread has seen.
    pub(crate) fn merge(&mut self, other: Self) {
        for (into, from) in [
            (&mut self.first_token, other.first_token),
            (&mut self.gap, other.gap),
            (&mut self.delay, other.delay),
            (&mut self.resume, other.resume),
        ] {
            into.add(from).expect("histograms of the same kind add up");
        }
        for (kind, failures) in other.failures {
            let own = self.failures.entry(kind).or_insert(Failures { count: 0, ..failures });
            own.count += failures.count;
        }
        self.left.extend(other.left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        one.failed(Failure::new("connect", "first"));
        other.failed(Failure::new("connect", "second"));
        other.failed(Failure::new("truncated", "third"));
        one.gap.saturating_record(10);
        other.gap.saturating_record(u64::MAX);
        one.merge(other);
        let counts: Vec<_> = one.failures.iter().map(|(kind, failures)| (&**kind, failures.count)).collect();
        assert_eq!(counts, [("connect", 2), ("truncated", 1)]);
        assert_eq!(one.failures["connect"].example, "first");
        assert_eq!((one.gap.len(), one.gap.min()), (2, 10));
        assert!(one.gap.max() > 3_500_000_000);
    }
}
