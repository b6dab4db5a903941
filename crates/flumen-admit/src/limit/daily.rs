use std::time::Duration;

use super::clock::Moment;

/// A budget for each day (UTC), paid when it is known: see [`Bucket`](super::Bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daily {
    budget: u64,
    day: u64,
    used: u64,
}

impl Daily {
    /// So much a day.
    pub fn new(budget: u64, now: Moment) -> Self {
        Self { budget: budget.max(1), day: now.day(), used: 0 }
    }

    /// Another budget. What was used today stays used.
    pub fn set(&mut self, budget: u64) {
        self.budget = budget.max(1);
    }

    fn pass(&mut self, now: Moment) {
        // A clock that is set back does not give a day's budget twice.
        if now.day() > self.day {
            (self.day, self.used) = (now.day(), 0);
        }
    }

    /// How long until so much may be reserved: nothing, or until the day is over. More than the budget may be while nothing is
    /// used.
    pub fn wait(&mut self, estimate: u64, now: Moment) -> Duration {
        self.pass(now);
        let fits = self.used.saturating_add(estimate.clamp(1, self.budget)) <= self.budget;
        if fits { Duration::ZERO } else { now.rest_of_day() }
    }

    /// Takes from the budget, whether it is there or not. Returns the day that it was taken from.
    pub fn charge(&mut self, tokens: u64, now: Moment) -> u64 {
        self.pass(now);
        self.used = self.used.saturating_add(tokens);
        self.day
    }

    /// Puts in order what was taken on a day and what was really used. A day that is over is not touched.
    pub fn settle(&mut self, day: u64, taken: u64, used: u64, now: Moment) {
        self.pass(now);
        if day == self.day {
            self.used = self.used.saturating_sub(taken).saturating_add(used);
        }
    }

    /// What is left today.
    pub fn remaining(&mut self, now: Moment) -> u64 {
        self.pass(now);
        self.budget.saturating_sub(self.used)
    }

    pub(super) fn is_idle(&mut self, now: Moment) -> bool {
        self.pass(now);
        self.used == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::limit::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_day_has_its_budget_and_ends_at_midnight() {
        let clock = Clock::new(UNIX_EPOCH + Duration::from_hours(24 * 20_000 + 23));
        let mut daily = Daily::new(100, clock.now());
        assert_eq!(daily.wait(100, clock.now()), Duration::ZERO);
        let day = daily.charge(100, clock.now());
        assert_eq!((daily.remaining(clock.now()), daily.wait(1, clock.now())), (0, Duration::from_hours(1)));
        daily.settle(day, 100, 40, clock.now());
        assert_eq!((daily.wait(60, clock.now()), daily.remaining(clock.now())), (Duration::ZERO, 60));
        assert_eq!(daily.wait(61, clock.now()), Duration::from_hours(1));
        let late = daily.charge(500, clock.now());
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(daily.remaining(clock.now()), 100);
        daily.settle(late, 500, 700, clock.now());
        assert_eq!(daily.remaining(clock.now()), 100, "yesterday is over");
    }
}
