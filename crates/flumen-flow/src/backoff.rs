use std::time::Duration;

/// How often something is tried, and how long to wait in between: exponentially longer, with full jitter, as in
/// "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    attempts: u32,
    first: Duration,
    longest: Duration,
    jitter: bool,
}

impl Backoff {
    /// At most this many tries in all, with pauses from 100 ms up to 10 s.
    pub fn attempts(attempts: u32) -> Self {
        Self {
            attempts: attempts.max(1),
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            jitter: true,
        }
    }

    /// Tries without end.
    pub fn endless() -> Self {
        Self::attempts(u32::MAX)
    }

    /// The pause after the first failure, and the longest one; it doubles from the one to the other.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest.max(first));
        self
    }

    /// Waits exactly these pauses, not a random part of them.
    pub fn exact(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// The pause after the given try (from 1) failed, or `None` when that was the last.
    pub fn pause(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << (attempt - 1).min(20)).min(self.longest);
        Some(if self.jitter { doubled.mul_f64(fastrand::f64()) } else { doubled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let ms = Duration::from_millis;
        let backoff = Backoff::attempts(5).pauses(ms(10), ms(35)).exact();
        let pauses: Vec<_> = (1..6).map(|attempt| backoff.pause(attempt)).collect();
        assert_eq!(pauses, [Some(ms(10)), Some(ms(20)), Some(ms(35)), Some(ms(35)), None]);
        assert_eq!(Backoff::endless().exact().pause(1_000_000), Some(Duration::from_secs(10)));
    }

    #[test]
    fn jitter_shortens_only() {
        let backoff = Backoff::attempts(3);
        assert!((0..100).all(|_| backoff.pause(1).unwrap() <= Duration::from_millis(100)));
    }
}
