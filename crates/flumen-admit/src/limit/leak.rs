use std::time::Duration;

use tokio::time::Instant;

/// What was used and comes back evenly: `amount` in every `per`. Whole numbers, so that nothing is lost to rounding however often
/// it is asked.
#[derive(Clone, Debug)]
pub(super) struct Leak {
    amount: u64,
    per: Duration,
    /// What is used up, in units of which one thing has `per` in nanoseconds, and `amount` come back in a nanosecond.
    used: u128,
    at: Instant,
}

impl Leak {
    pub(super) fn new(amount: u64, per: Duration, now: Instant) -> Self {
        Self { amount: amount.max(1), per: per.max(Duration::from_nanos(1)), used: 0, at: now }
    }

    /// Another rate. What is used stays used.
    pub(super) fn set(&mut self, amount: u64, per: Duration, now: Instant) {
        self.pass(now);
        let before = self.one();
        (self.amount, self.per) = (amount.max(1), per.max(Duration::from_nanos(1)));
        self.used = self.used / before * self.one() + self.used % before * self.one() / before;
    }

    /// One thing.
    fn one(&self) -> u128 {
        self.per.as_nanos()
    }

    fn pass(&mut self, now: Instant) {
        // Of moments that threads took before the lock, a later one may come first.
        let Some(since) = now.checked_duration_since(self.at) else { return };
        self.used = self.used.saturating_sub(since.as_nanos().saturating_mul(self.amount.into()));
        self.at = now;
    }

    /// What is left of `most`, in whole things.
    pub(super) fn left(&mut self, most: u64, now: Instant) -> u64 {
        self.pass(now);
        let left = (u128::from(most) * self.one()).saturating_sub(self.used) / self.one();
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    pub(super) fn add(&mut self, things: u64, now: Instant) {
        self.pass(now);
        self.used = self.used.saturating_add(u128::from(things).saturating_mul(self.one()));
    }

    pub(super) fn give_back(&mut self, things: u64, now: Instant) {
        self.pass(now);
        self.used = self.used.saturating_sub(u128::from(things).saturating_mul(self.one()));
    }

    /// How long until `things` more fit within `most`.
    pub(super) fn until(&mut self, things: u64, most: u64, now: Instant) -> Duration {
        self.pass(now);
        let room = u128::from(most.saturating_sub(things)) * self.one();
        let over = self.used.saturating_sub(room);
        Duration::from_nanos(u64::try_from(over.div_ceil(self.amount.into())).unwrap_or(u64::MAX))
    }

    /// Whether nothing is used.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.pass(now);
        self.used == 0
    }
}
