//! When a producer pauses and when it goes on.

/// The two marks of a buffer, in bytes: at `high` its producer is paused, at `low` it goes on.
///
/// The distance between the two keeps a stream from flapping between pause and resume at every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    high: usize,
    low: usize,
}

impl Watermarks {
    /// The usual marks for a buffer of `capacity` bytes: pause at 80 %, go on at 50 %.
    pub fn new(capacity: usize) -> Self {
        Self::at(capacity / 5 * 4 + capacity % 5 * 4 / 5, capacity / 2)
    }

    /// Marks at exactly these numbers of bytes. `high` is at least 1 and `low` is kept below `high`.
    pub fn at(high: usize, low: usize) -> Self {
        let high = high.max(1);
        Self { high, low: low.min(high - 1) }
    }

    /// The mark at which the producer is paused, in bytes.
    pub const fn high(self) -> usize {
        self.high
    }

    /// The mark at which the producer goes on, in bytes.
    pub const fn low(self) -> usize {
        self.low
    }

    /// The pressure after a buffer that was under `before` has come to hold `bytes`.
    pub const fn judge(self, before: Pressure, bytes: usize) -> Pressure {
        match before {
            Pressure::Flowing if bytes >= self.high => Pressure::Paused,
            Pressure::Paused if bytes <= self.low => Pressure::Flowing,
            unchanged => unchanged,
        }
    }
}

/// Whether a producer may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// There is room.
    Flowing,
    /// The buffer reached its high mark and has not yet come down to its low mark.
    Paused,
}

#[cfg(test)]
mod tests {
    use super::{Pressure::*, *};

    #[test]
    fn pauses_at_high_and_resumes_at_low_only() {
        let marks = Watermarks::new(100);
        assert_eq!((marks.high(), marks.low()), (80, 50));
        assert_eq!(marks.judge(Flowing, 79), Flowing);
        assert_eq!(marks.judge(Flowing, 80), Paused);
        assert_eq!(marks.judge(Paused, 51), Paused);
        assert_eq!(marks.judge(Paused, 50), Flowing);
    }

    #[test]
    fn senseless_marks_are_mended() {
        assert_eq!(Watermarks::at(0, 9), Watermarks { high: 1, low: 0 });
        assert_eq!(Watermarks::new(0), Watermarks { high: 1, low: 0 });
        assert_eq!(Watermarks::new(usize::MAX).low(), usize::MAX / 2);
    }
}
