use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// How a queue does. A turn is accounted for when its thread asks for the next.
#[derive(Clone, Debug, Serialize)]
pub struct QueueStats {
    /// The queue's name.
    pub name: String,
    /// Items that wait.
    pub waiting: usize,
    /// Items that run.
    pub running: usize,
    /// Items that ran to their end, a panic included.
    pub done: u64,
    /// Items that were cancelled while they waited.
    pub cancelled: u64,
    /// Items that found the queue full and were refused.
    pub refused: u64,
    /// Thread time of all turns together.
    pub busy: Duration,
    /// How long items waited for a turn.
    pub wait: Spread,
    /// How long turns took.
    pub run: Spread,
}

/// How durations spread, to within 1 %.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// The median.
    pub p50: Duration,
    /// The 90th percentile.
    pub p90: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// What a queue counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    done: u64,
    pub(super) cancelled: u64,
    pub(super) refused: u64,
    busy: Duration,
    wait: Durations,
    run: Durations,
}

impl Counts {
    pub(super) fn began(&mut self, waited: Duration) {
        self.wait.record(waited);
    }

    pub(super) fn ended(&mut self, took: Duration, done: bool) {
        self.done += u64::from(done);
        self.busy += took;
        self.run.record(took);
    }

    pub(super) fn stats(&self, name: &str, waiting: usize, running: usize) -> QueueStats {
        QueueStats {
            name: name.to_owned(),
            waiting,
            running,
            done: self.done,
            cancelled: self.cancelled,
            refused: self.refused,
            busy: self.busy,
            wait: self.wait.spread(),
            run: self.run.spread(),
        }
    }
}

/// Durations in nanoseconds, in a histogram that is made with the first and grows with the longest.
#[derive(Debug, Default)]
struct Durations {
    histogram: Option<Histogram<u32>>,
}

impl Durations {
    fn record(&mut self, span: Duration) {
        if self.histogram.is_none() {
            let empty = Histogram::new(2).ok();
            self.histogram = empty;
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn spread(&self) -> Spread {
        let Some(histogram) = &self.histogram else { return Spread::default() };
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Spread { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: Duration::from_nanos(histogram.max()) }
    }
}
