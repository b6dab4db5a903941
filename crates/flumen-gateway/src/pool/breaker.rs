//! The circuit breaker of one upstream (Nygard, *Release It!*, 2007).

use std::time::Duration;

use tokio::time::Instant;

/// Closed while all is well; open after failures in a row; then one request at a time finds out whether all is well again.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// In a row.
    failures: u32,
    /// Times that it opened since it was last closed.
    trips: u32,
    /// Trials so far, which tells them apart.
    trials: u64,
}

/// The request that finds out whether all is well. Others that began before the breaker opened, or as a last resort, say
/// nothing of how the upstream is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trial(u64);

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// One request is on its way.
    Trying(Trial),
    /// Somebody said so, and only they end it.
    Held,
}

/// When breakers open, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Failures in a row.
    pub failures: u32,
    /// The first time.
    pub open: Duration,
    /// At most.
    pub longest: Duration,
}

impl Breaker {
    /// Whether a request may go.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => until <= now,
            State::Trying(_) | State::Held => false,
        }
    }

    /// A request goes, and whether it is a trial.
    pub(crate) fn begin(&mut self) -> Option<Trial> {
        let State::Open { .. } = self.state else { return None };
        self.trials += 1;
        let trial = Trial(self.trials);
        self.state = State::Trying(trial);
        Some(trial)
    }

    /// A request went well. Whether this closed the breaker.
    pub(crate) fn succeeded(&mut self, trial: Option<Trial>) -> bool {
        let closes = self.is_tried_by(trial);
        if closes {
            (self.state, self.trips) = (State::Closed, 0);
        }
        if self.state == State::Closed {
            self.failures = 0;
        }
        closes
    }

    /// A request failed. `may_open` is false when no other upstream would be left.
    pub(crate) fn failed(&mut self, trial: Option<Trial>, now: Instant, rules: &Rules, may_open: bool) {
        let is_trial = self.is_tried_by(trial);
        if !is_trial && self.state != State::Closed {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if !is_trial && self.failures < rules.failures {
            return;
        }
        if !may_open {
            self.state = State::Closed;
            return;
        }
        let doubled = rules.open.saturating_mul(1 << self.trips.min(16)).min(rules.longest);
        // Breakers that opened together must not try together.
        let span = doubled.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.trips = self.trips.saturating_add(1);
        self.state = State::Open { until: now + span };
    }

    /// A request ended without saying anything about the upstream.
    pub(crate) fn abandoned(&mut self, trial: Option<Trial>, now: Instant) {
        if self.is_tried_by(trial) {
            self.state = State::Open { until: now };
        }
    }

    /// Whether it is this request that finds out whether all is well.
    pub(crate) fn is_tried_by(&self, trial: Option<Trial>) -> bool {
        trial.is_some_and(|trial| self.state == State::Trying(trial))
    }

    /// Keeps it open until [`close`](Self::close).
    pub(crate) fn hold(&mut self) {
        self.state = State::Held;
    }

    /// Closes it.
    pub(crate) fn close(&mut self) {
        *self = Self { trials: self.trials, ..Self::default() };
    }

    /// Whether somebody keeps it open.
    pub(crate) fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// The name of where it stands.
    pub(crate) fn as_str(&self, now: Instant) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { until } if until <= now => "half-open",
            State::Trying(_) => "half-open",
            State::Open { .. } | State::Held => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { failures: 3, open: Duration::from_secs(10), longest: Duration::from_mins(1) };

    #[tokio::test(start_paused = true)]
    async fn it_opens_tries_one_and_closes() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..2 {
            breaker.failed(None, start, &RULES, true);
        }
        breaker.succeeded(None);
        for _ in 0..3 {
            assert!(breaker.admits(start));
            breaker.failed(None, start, &RULES, true);
        }
        assert!(!breaker.admits(start + Duration::from_millis(7999)));
        let later = start + Duration::from_secs(13);
        assert!(breaker.admits(later));
        let trial = breaker.begin();
        assert!(!breaker.admits(later) && breaker.begin().is_none(), "one at a time");
        breaker.abandoned(trial, later);
        assert!(breaker.admits(later));
        let trial = breaker.begin();
        assert!(breaker.succeeded(trial));
        assert_eq!(breaker.as_str(later), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_it_stays_open_for_longer_up_to_a_bound() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            breaker.failed(None, now, &RULES, true);
        }
        for least in [8, 16, 32, 48, 48] {
            assert!(!breaker.admits(now + Duration::from_millis(least * 1000 - 1)), "{least}");
            now += Duration::from_secs(72);
            assert!(breaker.admits(now));
            let trial = breaker.begin();
            breaker.failed(trial, now, &RULES, true);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_its_trial_says_how_the_upstream_is_now() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let open = |breaker: &mut Breaker, now| {
            for _ in 0..3 {
                breaker.failed(None, now, &RULES, true);
            }
        };
        open(&mut breaker, start);
        assert!(!breaker.succeeded(None), "it began before the breaker opened");
        assert!(!breaker.admits(start));
        let later = start + Duration::from_secs(13);
        let trial = breaker.begin();
        breaker.failed(None, later, &RULES, true);
        breaker.abandoned(None, later);
        assert!(!breaker.admits(later), "the trial still runs");
        assert!(!breaker.succeeded(None) && breaker.succeeded(trial));
        open(&mut breaker, later);
        assert!(breaker.begin().is_some());
        breaker.failed(trial, later, &RULES, true);
        assert!(!breaker.succeeded(trial), "the trial of another time");
        assert_eq!(breaker.as_str(later), "half-open");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_one_stays_closed_and_a_held_one_open() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..9 {
            breaker.failed(None, now, &RULES, false);
            assert!(breaker.admits(now));
        }
        breaker.hold();
        breaker.succeeded(None);
        assert!(!breaker.admits(now + Duration::from_hours(1)));
        breaker.close();
        assert!(breaker.admits(now));
    }
}
