use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

const DAY: Duration = Duration::from_hours(24);

/// Tells the wall clock's time by tokio's, so that tests can pause it.
#[derive(Debug)]
pub struct Clock {
    anchor: Mutex<(Instant, Duration)>,
}

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What never jumps.
    pub instant: Instant,
    /// Since the Unix epoch.
    pub wall: Duration,
}

impl Clock {
    /// A clock that shows this time now.
    pub fn new(now: SystemTime) -> Self {
        Self { anchor: Mutex::new((Instant::now(), since_epoch(now))) }
    }

    /// Sets it: the two clocks drift apart, and the wall's may be set.
    pub fn set(&self, now: SystemTime) {
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), since_epoch(now));
    }

    /// What it shows.
    pub fn now(&self) -> Moment {
        let instant = Instant::now();
        let (at, wall) = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        Moment { instant, wall: wall + instant.saturating_duration_since(at) }
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Moment {
    /// The number of the day, in UTC.
    pub fn day(self) -> u64 {
        self.wall.as_secs() / DAY.as_secs()
    }

    /// How long the day lasts.
    pub fn rest_of_day(self) -> Duration {
        DAY.saturating_sub(Duration::new(self.wall.as_secs() % DAY.as_secs(), self.wall.subsec_nanos()))
    }
}
