//! A limit on requests in flight that finds its own height.
//!
//! Nothing here knows threads or clocks. Both ways watch the time to the first token, and both grow only from samples that were taken
//! while the limit was in use: an idle pool answers quickly, which says nothing about what it can carry.

use std::time::Duration;

/// How the limit on requests in flight adapts. The limit starts at `min` and stays within `min ..= max`, both at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adaptive {
    /// Additive increase, multiplicative decrease: like the congestion window of TCP (Chiu and Jain, 1989).
    Aimd {
        /// Least limit.
        min: usize,
        /// Greatest limit.
        max: usize,
        /// Time to first token that is good; a later one counts as overload. `None`: only signs of overload count.
        target: Option<Duration>,
        /// What a whole limit's worth of good samples adds.
        increase: f64,
        /// What the limit is multiplied with at overload, 0.1 ..= 0.99; at most once per `pause`.
        decrease: f64,
        /// How long the effect of a decrease is waited for.
        pause: Duration,
    },
    /// The ratio of the usual to the present time to first token, after the `gradient2` limit of Netflix's concurrency-limits.
    /// It answers to sudden slowness; what is slow for `window` samples becomes usual, so `max` should be one that does no harm.
    Gradient {
        /// Least limit.
        min: usize,
        /// Greatest limit.
        max: usize,
        /// How many times the usual time counts as no slower, at least 1.
        tolerance: f64,
        /// By how many requests the limit grows at each step while nothing is slower.
        room: f64,
        /// How much of a step is taken, 0.01 ..= 1.
        smoothing: f64,
        /// Over how many samples the usual time is averaged.
        window: u32,
    },
}

impl Adaptive {
    /// Additive increase by 1, decrease by a tenth at most every second.
    pub fn aimd(min: usize, max: usize, target: Option<Duration>) -> Self {
        Self::Aimd { min, max, target, increase: 1.0, decrease: 0.9, pause: Duration::from_secs(1) }
    }

    /// A gradient with the values that are usual: tolerance 1.5, room 4, smoothing 0.2, window 600.
    pub fn gradient(min: usize, max: usize) -> Self {
        Self::Gradient { min, max, tolerance: 1.5, room: 4.0, smoothing: 0.2, window: 600 }
    }

    fn bounds(&self) -> (f64, f64) {
        let (Self::Aimd { min, max, .. } | Self::Gradient { min, max, .. }) = *self;
        let min = min.max(1);
        (as_f64(min), as_f64(max.max(min)))
    }
}

/// Decrease at signs of overload, for the gradient.
const BACK_OFF: f64 = 0.9;

/// How long the gradient waits for the effect of a decrease.
const PAUSE: Duration = Duration::from_secs(1);

/// The limit as it is now.
#[derive(Debug)]
pub(crate) struct Limit {
    rule: Adaptive,
    height: f64,
    /// When it was last lowered for overload.
    lowered: Option<Duration>,
    /// The usual time to first token, in seconds, and how many samples it is made of.
    usual: f64,
    samples: u32,
}

impl Limit {
    pub(crate) fn new(rule: Adaptive) -> Self {
        Self { rule, height: rule.bounds().0, lowered: None, usual: 0.0, samples: 0 }
    }

    /// Other parameters; the height that was found stays, within the new bounds.
    pub(crate) fn configure(&mut self, rule: Adaptive) {
        self.rule = rule;
        self.set(self.height);
    }

    /// Whether a rule is of the same kind.
    pub(crate) fn is_like(&self, rule: Adaptive) -> bool {
        std::mem::discriminant(&self.rule) == std::mem::discriminant(&rule)
    }

    /// Requests that may be in flight.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between bounds that are counts"
    )]
    pub(crate) fn get(&self) -> usize {
        self.height as usize
    }

    /// A first token came after this time, with so many requests in flight.
    pub(crate) fn first_token(&mut self, now: Duration, after: Duration, in_flight: usize) {
        match self.rule {
            Adaptive::Aimd { target: Some(target), .. } if after > target => self.overload(now),
            Adaptive::Aimd { increase, .. } => {
                if self.is_used(in_flight) {
                    self.set(self.height + increase.max(0.0) / self.height);
                }
            }
            Adaptive::Gradient { tolerance, room, smoothing, window, .. } => {
                let short = after.as_secs_f64().max(1e-6);
                // The first samples are averaged evenly, or the very first would weigh for minutes.
                self.samples = self.samples.saturating_add(1).min(window.max(1));
                self.usual += (short - self.usual) / f64::from(self.samples);
                // After a long time of overload the usual time has become long itself: let it come back quickly.
                if self.usual > 2.0 * short {
                    self.usual *= 0.95;
                }
                let gradient = (tolerance.max(1.0) * self.usual / short).clamp(0.5, 1.0);
                let wanted = self.height * gradient + room.max(0.0);
                if wanted < self.height || self.is_used(in_flight) {
                    self.set(self.height + (wanted - self.height) * smoothing.clamp(0.01, 1.0));
                }
            }
        }
    }

    /// The upstream was overloaded.
    pub(crate) fn overload(&mut self, now: Duration) {
        let (decrease, pause) = match self.rule {
            Adaptive::Aimd { decrease, pause, .. } => (decrease.clamp(0.1, 0.99), pause),
            Adaptive::Gradient { .. } => (BACK_OFF, PAUSE),
        };
        // All that were in flight fail together: that is one sign.
        if self.lowered.is_some_and(|at| now.saturating_sub(at) < pause) {
            return;
        }
        self.lowered = Some(now);
        self.set(self.height * decrease);
    }

    /// Whether nearly all that the limit allows is in flight.
    fn is_used(&self, in_flight: usize) -> bool {
        as_f64(in_flight) >= self.height.floor() * 0.9
    }

    fn set(&mut self, limit: f64) {
        let (min, max) = self.rule.bounds();
        self.height = if limit.is_nan() { min } else { limit.clamp(min, max) };
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// A server that keeps up with `carries` requests and answers proportionally later beyond.
    fn run(rule: Adaptive, carries: usize, seconds: u32, demand: usize) -> Limit {
        let mut limit = Limit::new(rule);
        for second in 0..seconds {
            for sample in 0..20_u32 {
                let in_flight = limit.get().min(demand);
                let load =
                    u32::try_from(in_flight.max(carries)).unwrap() * 100 / u32::try_from(carries).unwrap();
                limit.first_token(SECOND * second + MS * 50 * sample, MS * load, in_flight);
            }
        }
        limit
    }

    #[test]
    fn additive_increase_finds_the_height_and_stays_about_it() {
        let rule = Adaptive::aimd(2, 1000, Some(MS * 120));
        let limit = run(rule, 50, 600, usize::MAX).get();
        assert!((45..=62).contains(&limit), "{limit}");
    }

    #[test]
    fn the_gradient_grows_while_nothing_is_slower_and_falls_when_it_is() {
        let mut limit = run(Adaptive::gradient(2, 100), 1000, 30, usize::MAX);
        assert_eq!(limit.get(), 100);
        (0..10).for_each(|_| limit.first_token(SECOND * 30, MS * 300, limit.get()));
        assert!((20..=60).contains(&limit.get()), "{}", limit.get());
        (0..100).for_each(|_| limit.first_token(SECOND * 31, MS * 100, limit.get()));
        assert_eq!(limit.get(), 100);
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_grow() {
        for rule in [Adaptive::aimd(10, 1000, None), Adaptive::gradient(10, 1000)] {
            assert_eq!(run(rule, 50, 100, 5).get(), 10, "{rule:?}");
            assert!(run(rule, 50, 100, 40).get() <= 45, "{rule:?}");
        }
    }

    #[test]
    fn what_fails_together_counts_once() {
        for rule in [Adaptive::aimd(1, 100, None), Adaptive::gradient(1, 100)] {
            let mut limit = Limit::new(rule);
            limit.set(100.0);
            (0..50).for_each(|n| limit.overload(SECOND + MS * n));
            assert_eq!(limit.get(), 90);
            limit.overload(SECOND * 3);
            assert_eq!(limit.get(), 81);
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut limit = Limit::new(Adaptive::aimd(0, 0, None));
        limit.overload(SECOND);
        assert_eq!(limit.get(), 1);
        (0..100).for_each(|_| limit.first_token(SECOND, MS, 1));
        assert_eq!(limit.get(), 1);
        limit.configure(Adaptive::aimd(7, 9, None));
        assert_eq!(limit.get(), 7);
    }
}
