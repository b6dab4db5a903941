//! How many retries a pool may make: a share of its requests and some besides, so that retries never become a storm.

use tokio::time::Instant;

/// What a request adds.
const SHARE: f64 = 0.2;
/// What a second adds.
const PER_SECOND: f64 = 10.0;
/// What can be saved up.
const MOST: f64 = 100.0;

/// A budget of 20 % of the requests and 10 a second.
#[derive(Debug)]
pub(crate) struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    /// A budget that begins with what a second adds.
    pub(crate) fn new() -> Self {
        Self { left: PER_SECOND, at: Instant::now() }
    }

    /// Counts a request.
    pub(crate) fn request(&mut self) {
        self.left = (self.left + SHARE).min(MOST);
    }

    /// Takes one retry, if there is one left.
    pub(crate) fn take(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + (now - self.at).as_secs_f64() * PER_SECOND).min(MOST);
        self.at = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_requests_and_ten_a_second() {
        let mut budget = Budget::new();
        let taken = |budget: &mut Budget| std::iter::from_fn(|| budget.take().then_some(())).count();
        assert_eq!(taken(&mut budget), 10);
        for _ in 0..101 {
            budget.request();
        }
        assert_eq!(taken(&mut budget), 20);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(taken(&mut budget), 30);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(taken(&mut budget), 100);
    }
}
