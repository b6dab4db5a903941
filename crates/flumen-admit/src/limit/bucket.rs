use std::time::Duration;

use tokio::time::Instant;

use super::leak::Leak;

/// Tokens, paid when they are known: an estimate is reserved first, and what comes may exceed it. Then the bucket is below zero, and
/// the next one waits.
#[derive(Clone, Debug)]
pub struct Bucket {
    leak: Leak,
    size: u64,
}

impl Bucket {
    /// `size` tokens in every `per`, all of which may be used at once.
    pub fn new(size: u64, per: Duration, now: Instant) -> Self {
        Self { leak: Leak::new(size, per, now), size: size.max(1) }
    }

    /// Another size. What was used stays used.
    pub fn set(&mut self, size: u64, per: Duration, now: Instant) {
        self.leak.set(size, per, now);
        self.size = size.max(1);
    }

    /// How long until so many may be reserved. More than the bucket holds may be once it is full: nobody knows how long an answer
    /// will be, and a long one must not be impossible.
    pub fn wait(&mut self, estimate: u64, now: Instant) -> Duration {
        self.leak.until(estimate.clamp(1, self.size), self.size, now)
    }

    /// Reserves an estimate, if there is room for it.
    ///
    /// # Errors
    /// How long until there is.
    pub fn check(&mut self, estimate: u64, now: Instant) -> Result<(), Duration> {
        match self.wait(estimate, now) {
            Duration::ZERO => {
                self.charge(estimate, now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Takes tokens beyond what is reserved, whether they are there or not.
    pub fn charge(&mut self, tokens: u64, now: Instant) {
        self.leak.add(tokens, now);
    }

    /// Puts in order what was reserved or charged and what was really used.
    pub fn settle(&mut self, taken: u64, used: u64, now: Instant) {
        match used.checked_sub(taken) {
            Some(more) => self.leak.add(more, now),
            None => self.leak.give_back(taken - used, now),
        }
    }

    /// How many there are; none when it is below zero.
    pub fn remaining(&mut self, now: Instant) -> u64 {
        self.leak.left(self.size, now)
    }

    /// How long until it is full.
    pub fn reset(&mut self, now: Instant) -> Duration {
        self.leak.until(self.size, self.size, now)
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
    fn an_answer_that_is_longer_than_its_estimate_is_paid_by_the_next() {
        let now = Instant::now();
        let mut bucket = Bucket::new(600, MINUTE, now);
        assert_eq!(bucket.check(500, now), Ok(()));
        assert_eq!(bucket.check(101, now), Err(Duration::from_millis(100)));
        bucket.charge(400, now);
        assert_eq!((bucket.remaining(now), bucket.check(1, now)), (0, Err(Duration::from_millis(30_100))));
        bucket.settle(900, 850, now);
        assert_eq!(bucket.check(100, now), Err(Duration::from_secs(35)));
        assert_eq!(bucket.remaining(now + MINUTE), 350);
    }

    #[test]
    fn more_than_it_holds_may_be_reserved_when_it_is_full() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10, MINUTE, now);
        assert_eq!(bucket.check(25, now), Ok(()));
        assert_eq!(bucket.check(25, now), Err(MINUTE * 5 / 2));
        bucket.settle(25, 3, now);
        assert_eq!(bucket.remaining(now), 7);
    }

    proptest! {
        /// Whatever is estimated and used, in the end exactly what was used is missing.
        #[test]
        fn the_books_balance(answers in prop::collection::vec((0_u64..1000, 0_u64..1000, 0_u64..2000), 1..50)) {
            let now = Instant::now();
            let mut bucket = Bucket::new(1_000_000, MINUTE, now);
            let mut used = 0;
            for (estimate, streamed, real) in answers {
                bucket.check(estimate, now).unwrap();
                let more = streamed.saturating_sub(estimate);
                bucket.charge(more, now);
                bucket.settle(estimate + more, real, now);
                used += real;
            }
            prop_assert_eq!(bucket.remaining(now), 1_000_000 - used);
        }
    }
}
