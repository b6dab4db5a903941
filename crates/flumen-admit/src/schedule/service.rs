//! Service: what tokens cost, and how it is counted.

use std::time::Duration;

/// What tokens cost. Both are clamped to 0 ..= 1,000,000; one that is not a number counts as 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Service per token that is read.
    pub input: f64,
    /// Service per token that is written.
    pub output: f64,
}

impl Default for Weights {
    /// 1 and 2, as in the paper: a token that is written occupies the model longer than one that is read.
    fn default() -> Self {
        Self { input: 1.0, output: 2.0 }
    }
}

/// Counters are fixed point: this is one unit of service at weight 1.
///
/// Sums of integers lose nothing however large they grow. Counters have 128 bits, 96 of them before the point: a tenant
/// of weight 0.001 that is served a million tokens of weight 1,000,000 a second gets there after some 2 million years.
const ONE: f64 = 4_294_967_296.0;

/// What a token adds to a counter, in units of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Rates {
    /// Rates of whoever has this weight.
    pub(super) fn new(weights: Weights, weight: f64) -> Self {
        let weight = tame(weight);
        Self { input: rate(weights.input / weight), output: rate(weights.output / weight) }
    }
}

/// A weight as it is used.
pub(super) fn tame(weight: f64) -> f64 {
    if weight.is_nan() { 1.0 } else { weight.clamp(0.001, 1000.0) }
}

impl Weights {
    /// Weights as they are used.
    pub(super) fn tame(self) -> Self {
        let tame = |weight: f64| if weight.is_nan() { 0.0 } else { weight.clamp(0.0, 1e6) };
        Self { input: tame(self.input), output: tame(self.output) }
    }
}

/// Never 0, or somebody could be served for ever without its being seen.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ..= 1e9 * 2^32, below 2^62")]
fn rate(service: f64) -> u64 {
    ((service * ONE).round() as u64).max(1)
}

pub(super) fn cost(tokens: u64, rate: u64) -> u128 {
    u128::from(tokens) * u128::from(rate)
}

/// A counter for people to read.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(super) fn shown(counter: u128) -> f64 {
    counter as f64 / ONE
}

/// A sum that forgets: what was added a minute ago counts for 1/e of what is added now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    sum: f64,
    at: Duration,
}

impl Recent {
    const SPAN: f64 = 60.0;

    pub(crate) fn add(&mut self, now: Duration, amount: f64) {
        // Not at every call: the exponential would cost more than all the rest.
        if now.saturating_sub(self.at) >= Duration::from_millis(500) {
            self.sum = self.get(now);
            self.at = now;
        }
        self.sum += amount;
    }

    pub(crate) fn get(&self, now: Duration) -> f64 {
        self.sum * (-now.saturating_sub(self.at).as_secs_f64() / Self::SPAN).exp()
    }

    /// Per second, if it began at 0.
    pub(crate) fn per_second(&self, now: Duration, began: Duration) -> f64 {
        let age = now.saturating_sub(began).as_secs_f64().max(0.1);
        self.get(now) / (Self::SPAN * (1.0 - (-age / Self::SPAN).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_weights_do_no_harm() {
        for weight in [f64::NAN, 0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE] {
            let rates = Rates::new(Weights { input: weight, output: weight }.tame(), weight);
            assert!(rates.input > 0 && rates.output > 0);
        }
        let most = Rates::new(Weights { input: 1e6, output: 1e6 }, 0.001);
        assert!(cost(u64::MAX, most.output) < u128::MAX / 2);
    }

    #[test]
    fn a_steady_rate_is_measured() {
        let mut recent = Recent::default();
        for n in 0..600 {
            recent.add(Duration::from_millis(n * 100), 1.0);
        }
        let rate = recent.per_second(Duration::from_mins(1), Duration::ZERO);
        assert!((9.0..11.0).contains(&rate), "{rate}");
    }
}
