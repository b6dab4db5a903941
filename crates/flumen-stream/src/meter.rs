//! What went through a stream, and when.

use std::time::Duration;

use tokio::time::Instant;

/// Counts frames and bytes and remembers the first, the last and the largest gap.
///
/// Frames that arrive together are recorded together: between them there is no gap.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    frames: u64,
    bytes: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    largest_gap: Duration,
}

impl Meter {
    /// Records frames that came together at `now`, and returns the time since the ones before.
    pub fn record(&mut self, frames: u64, bytes: u64, now: Instant) -> Option<Duration> {
        self.frames += frames;
        self.bytes += bytes;
        self.first.get_or_insert(now);
        let gap = self.last.replace(now).map(|last| now - last);
        self.largest_gap = self.largest_gap.max(gap.unwrap_or_default());
        gap
    }

    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the first frame came.
    pub fn first(&self) -> Option<Instant> {
        self.first
    }

    /// When the last frame came.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// The longest time between two arrivals.
    pub fn largest_gap(&self) -> Duration {
        self.largest_gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_counts_and_gaps() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let ms = Duration::from_millis;
        assert_eq!(meter.record(2, 20, start), None);
        assert_eq!(meter.record(1, 10, start + ms(30)), Some(ms(30)));
        assert_eq!(meter.record(1, 10, start + ms(40)), Some(ms(10)));
        assert_eq!((meter.frames(), meter.bytes(), meter.largest_gap()), (4, 40, ms(30)));
        assert_eq!((meter.first(), meter.last()), (Some(start), Some(start + ms(40))));
    }
}
