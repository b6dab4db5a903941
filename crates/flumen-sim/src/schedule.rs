//! When each event of an answer is due.

use std::time::Duration;

use tokio::time::Instant;

use crate::{directives::Plan, hash};

/// The due times of an answer's events, counted from the first one so that no delay adds up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    first: Instant,
    /// Seconds from event to event.
    interval: f64,
    jitter: f64,
    seed: u64,
}

impl Schedule {
    /// The schedule of a request that came at `started` and whose header may go now.
    pub(crate) fn new(plan: &Plan, started: Instant, seed: u64) -> Self {
        let by_rate = if plan.rate > 0.0 { f64::from(plan.chunk) / plan.rate } else { 0.0 };
        let interval = plan.interval.map_or(by_rate, |interval| interval.as_secs_f64());
        Self { first: (started + plan.first_token).max(Instant::now()), interval, jitter: plan.jitter, seed }
    }

    /// When the event of this number, counted from 0, is due.
    #[allow(clippy::cast_precision_loss, reason = "an answer of 2^52 events is never reached")]
    pub(crate) fn due(&self, event: u64) -> Instant {
        if event == 0 || self.interval <= 0.0 {
            return self.first;
        }
        // Around a fixed grid by half the jitter each way: a gap varies by the jitter, the rate stays exact.
        let wobble = (hash::unit(self.seed ^ event) - 0.5) * self.jitter;
        self.first + Duration::from_secs_f64((event as f64 + wobble) * self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[tokio::test(start_paused = true)]
    async fn gaps_vary_by_the_jitter_and_do_not_drift() {
        let settings = Settings { tokens_per_second: 100.0, jitter: 0.5, ..Settings::default() };
        let start = Instant::now();
        let schedule = Schedule::new(&Plan::new(&settings, "sim", "").unwrap(), start, 3);
        assert_eq!(schedule.due(0) - start, Duration::from_millis(200));
        let gaps = (0..1000).map(|event| (schedule.due(event + 1) - schedule.due(event)).as_secs_f64());
        assert!(gaps.clone().all(|gap| (0.005..=0.015).contains(&gap)));
        assert!(gaps.clone().any(|gap| gap < 0.008) && gaps.clone().any(|gap| gap > 0.012));
        let end = (schedule.due(1000) - start).as_secs_f64();
        assert!((end - 10.2).abs() < 0.003, "{end}");
    }
}
