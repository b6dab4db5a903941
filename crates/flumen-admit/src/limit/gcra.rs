use std::time::Duration;

use tokio::time::Instant;

use super::leak::Leak;

/// Requests: so many in a period, so many of them at once (the generic cell rate algorithm).
#[derive(Clone, Debug)]
pub struct Gcra {
    leak: Leak,
    burst: u64,
}

impl Gcra {
    /// `count` requests in every `per`, `burst` of them at once.
    pub fn new(count: u64, per: Duration, burst: u64, now: Instant) -> Self {
        Self { leak: Leak::new(count, per, now), burst: burst.max(1) }
    }

    /// Another rate. What was used stays used.
    pub fn set(&mut self, count: u64, per: Duration, burst: u64, now: Instant) {
        self.leak.set(count, per, now);
        self.burst = burst.max(1);
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one, to the nanosecond.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        match self.wait(now) {
            Duration::ZERO => {
                self.leak.add(1, now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// How long until there is one.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.leak.until(1, self.burst, now)
    }

    /// Gives one back that was not used after all.
    pub fn give_back(&mut self, now: Instant) {
        self.leak.give_back(1, now);
    }

    /// How many there are at once.
    pub fn remaining(&mut self, now: Instant) -> u64 {
        self.leak.left(self.burst, now)
    }

    /// How long until all are back.
    pub fn reset(&mut self, now: Instant) -> Duration {
        self.leak.until(self.burst, self.burst, now)
    }

    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.leak.is_idle(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_minute_has_its_requests_to_the_exact_one() {
        let start = Instant::now();
        // 60 s are no whole number of 7ths.
        let mut gcra = Gcra::new(7, MINUTE, 7, start);
        for left in (0..7).rev() {
            assert_eq!(gcra.take(start), Ok(()));
            assert_eq!(gcra.remaining(start), left);
        }
        let wait = gcra.take(start).unwrap_err();
        assert_eq!(wait, Duration::from_nanos(60_000_000_000_u64.div_ceil(7)));
        assert!(gcra.take(start + wait - Duration::from_nanos(1)).is_err());
        assert_eq!(gcra.take(start + wait), Ok(()));
        assert!(gcra.take(start + wait).is_err());
        assert_eq!(
            gcra.reset(start + MINUTE),
            wait.max(Duration::from_nanos(60_000_000_000_u64.div_ceil(7)))
        );
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let now = Instant::now();
        let mut gcra = Gcra::new(1, MINUTE, 1, now);
        assert_eq!(gcra.take(now), Ok(()));
        gcra.give_back(now);
        assert_eq!((gcra.take(now), gcra.take(now)), (Ok(()), Err(MINUTE)));
    }

    #[test]
    fn another_rate_keeps_what_was_used() {
        let now = Instant::now();
        let mut gcra = Gcra::new(10, MINUTE, 10, now);
        for _ in 0..6 {
            gcra.take(now).unwrap();
        }
        gcra.set(8, MINUTE, 8, now);
        assert_eq!(gcra.remaining(now), 2);
        gcra.set(4, MINUTE, 4, now);
        assert_eq!((gcra.remaining(now), gcra.wait(now)), (0, MINUTE / 4 * 3));
    }

    proptest! {
        /// In any span there are as many as its share and the burst, never one more; and whoever waits as long as it was
        /// told gets one.
        #[test]
        fn never_more_than_the_rate_and_the_burst(
            count in 1_u64..500,
            per in 1_u64..120_000,
            burst in 1_u64..50,
            gaps in prop::collection::vec(0_u64..2_000_000_000, 1..200),
        ) {
            let (start, per) = (Instant::now(), Duration::from_millis(per));
            let mut gcra = Gcra::new(count, per, burst, start);
            let (mut now, mut taken) = (start, 0_u128);
            for gap in gaps {
                now += Duration::from_nanos(gap);
                let most = (now - start).as_nanos() * u128::from(count) / per.as_nanos() + u128::from(burst);
                let before = gcra.remaining(now);
                match gcra.take(now) {
                    Ok(()) => {
                        taken += 1;
                        prop_assert_eq!(gcra.remaining(now), before - 1);
                    }
                    Err(wait) => {
                        prop_assert_eq!(before, 0);
                        prop_assert!(gcra.clone().take(now + wait).is_ok());
                        prop_assert!(gcra.clone().take(now + wait - Duration::from_nanos(1)).is_err());
                    }
                }
                prop_assert!(taken <= most);
            }
        }
    }
}
