//! What the simulator does unless a request says otherwise.

use std::time::Duration;

/// What the simulator does unless a request says otherwise. Values outside their range count as the nearest within.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Tokens per second of one answer; 0 means as fast as possible. Default 50.
    pub tokens_per_second: f64,
    /// Share of the interval by which each gap between events varies, 0 to 1. Default 0.2.
    pub jitter: f64,
    /// Time from a request to the first token of its answer. Default 200 ms.
    pub first_token: Duration,
    /// Tokens of an answer. `None`, the default, is a plausible length: 80 to 240, up to the end of a sentence.
    pub tokens: Option<u32>,
    /// Tokens per event, at least 1. Default 1.
    pub chunk: u32,
    /// Seed of all texts. Default 0.
    pub seed: u64,
    /// The models that `/v1/models` lists; others are answered all the same. Default `sim`.
    pub models: Vec<String>,
}

impl Settings {
    /// The slowest rate that is not a standstill, in tokens per second.
    pub(crate) const SLOWEST: f64 = 0.001;
    /// The most tokens of one event.
    pub(crate) const LARGEST_CHUNK: u32 = 10_000;
    /// The longest of all delays.
    pub(crate) const LONGEST: Duration = Duration::from_hours(24);

    pub(crate) fn within_range(mut self) -> Self {
        let rate = self.tokens_per_second;
        self.tokens_per_second = if rate > 0.0 { rate.clamp(Self::SLOWEST, 1e9) } else { 0.0 };
        self.jitter = if self.jitter > 0.0 { self.jitter.min(1.0) } else { 0.0 };
        self.first_token = self.first_token.min(Self::LONGEST);
        self.chunk = self.chunk.clamp(1, Self::LARGEST_CHUNK);
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokens_per_second: 50.0,
            jitter: 0.2,
            first_token: Duration::from_millis(200),
            tokens: None,
            chunk: 1,
            seed: 0,
            models: vec!["sim".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_counts_as_the_nearest_sense() {
        let settings = Settings { tokens_per_second: f64::NAN, jitter: 7.0, chunk: 0, ..Settings::default() };
        let settings = settings.within_range();
        assert_eq!((settings.tokens_per_second, settings.jitter, settings.chunk), (0.0, 1.0, 1));
    }
}
