//! What was measured, as numbers and as a table.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    Load, Plan,
    leave::Cancels,
    process::Sample,
    tally::{Failures, Tally},
};

/// The result of a run. Rates, gaps, delays and the processes' numbers are those of the measured time; first tokens
/// and errors are those of the whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked.
    pub target: String,
    /// The model.
    pub model: String,
    /// The load, in words.
    pub load: String,
    /// Measured time, in seconds.
    pub seconds: f64,
    /// Streams that were begun.
    pub streams_begun: u64,
    /// Streams open at the end of the measured time.
    pub streams_open: usize,
    /// Streams read to their end, per second.
    pub streams_per_second: f64,
    /// Events, per second.
    pub events_per_second: f64,
    /// Bytes of bodies, per second.
    pub bytes_per_second: f64,
    /// Events in the measured time.
    pub events: u64,
    /// From the (planned) start to the first token.
    pub first_token: Option<Quantiles>,
    /// Between two arrivals of tokens in a stream.
    pub gap: Option<Quantiles>,
    /// From the making of an event to its arrival; only the simulator tells.
    pub one_way_delay: Option<Quantiles>,
    /// From the cut of a connection to the next event, over another one.
    pub resume: Option<Quantiles>,
    /// From leaving a stream to its abort at the simulator.
    pub cancel: Option<Quantiles>,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// The first message of each kind.
    pub error_examples: BTreeMap<String, String>,
    /// What the watched processes used.
    pub process: Option<Process>,
}

/// How a time was distributed, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// Half were shorter.
    pub p50: f64,
    /// One in a hundred was longer.
    pub p99: f64,
    /// One in a thousand was longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// How many there were.
    pub count: u64,
}

/// What the watched processes used.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Process {
    /// CPU time per event that arrived here, in microseconds.
    pub cpu_us_per_event: f64,
    /// Share of one core.
    pub cpu_percent: f64,
    /// Memory more than before the run, per open stream at the end of the measured time, in KiB.
    pub kib_per_stream: f64,
    /// Resident memory at that time, in KiB.
    pub resident_kib: u64,
    /// Resident memory before the run, in KiB.
    pub resident_before_kib: u64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) at: Instant,
    pub(crate) completed: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) open: usize,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
impl Report {
    pub(crate) fn new(
        plan: &Plan,
        tally: &Tally,
        begun: u64,
        [from, to]: [Window; 2],
        [before, start, end]: [Sample; 3],
        cancels: Option<Cancels>,
    ) -> Self {
        let seconds = (to.at - from.at).as_secs_f64().max(f64::EPSILON);
        let rate = |from: u64, to: u64| (to - from) as f64 / seconds;
        let events = to.events - from.events;
        let process = (!plan.pids.is_empty()).then(|| {
            let cpu = (end.cpu - start.cpu) as f64 / 1000.0;
            Process {
                cpu_us_per_event: cpu / events.max(1) as f64,
                cpu_percent: cpu / 10_000.0 / seconds,
                kib_per_stream: end.resident.saturating_sub(before.resident) as f64 / to.open.max(1) as f64,
                resident_kib: end.resident,
                resident_before_kib: before.resident,
            }
        });
        let mut failures = tally.failures.clone();
        if let Some(missed) = cancels.as_ref().map(|cancels| cancels.missed).filter(|missed| *missed > 0) {
            let example = "a stream was left, and the simulator did not see it".to_owned();
            failures.insert("not cancelled".to_owned(), Failures { count: missed, example });
        }
        Self {
            target: plan.endpoint.to_string(),
            model: plan.model.clone(),
            load: match plan.load {
                Load::Closed { streams } => format!("{streams} concurrent streams"),
                Load::Open { per_second } => format!("{per_second} new streams per second"),
            },
            seconds,
            streams_begun: begun,
            streams_open: to.open,
            streams_per_second: rate(from.completed, to.completed),
            events_per_second: rate(from.events, to.events),
            bytes_per_second: rate(from.bytes, to.bytes),
            events,
            first_token: Quantiles::of(&tally.first_token),
            gap: Quantiles::of(&tally.gap),
            one_way_delay: Quantiles::of(&tally.delay),
            resume: Quantiles::of(&tally.resume),
            cancel: cancels.and_then(|cancels| Quantiles::of(&cancels.latency)),
            errors: failures.iter().map(|(kind, failures)| (kind.clone(), failures.count)).collect(),
            error_examples: failures.into_iter().map(|(kind, failures)| (kind, failures.example)).collect(),
            process,
        }
    }

    /// Whether something was measured and nothing failed.
    pub fn is_good(&self) -> bool {
        self.errors.is_empty() && (self.first_token.is_some() || self.cancel.is_some())
    }
}

#[expect(clippy::cast_precision_loss, reason = "times far below 2^52 microseconds")]
impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
            count: histogram.len(),
        })
    }
}

/// A table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, model {}, {}, {:.1} s measured", self.target, self.model, self.load, self.seconds)?;
        writeln!(f)?;
        writeln!(
            f,
            "  streams/s        {:>14.1}   ({} begun, {} open at the end)",
            self.streams_per_second, self.streams_begun, self.streams_open
        )?;
        writeln!(f, "  events/s         {:>14.0}", self.events_per_second)?;
        writeln!(f, "  MB/s             {:>14.2}", self.bytes_per_second / 1e6)?;
        writeln!(f)?;
        writeln!(f, "  milliseconds              p50        p99      p99.9        max")?;
        for (name, quantiles) in [
            ("first token", self.first_token),
            ("gap", self.gap),
            ("one-way delay", self.one_way_delay),
            ("resume", self.resume),
            ("cancel", self.cancel),
        ] {
            if let Some(Quantiles { p50, p99, p999, max, .. }) = quantiles {
                writeln!(f, "  {name:<16} {p50:>12.2} {p99:>10.2} {p999:>10.2} {max:>10.2}")?;
            }
        }
        if let Some(resume) = self.resume {
            writeln!(f, "  resumes          {:>14}", resume.count)?;
        }
        if let Some(process) = &self.process {
            writeln!(f)?;
            writeln!(
                f,
                "  CPU µs/event     {:>14.2}   ({:.0} % of a core)",
                process.cpu_us_per_event, process.cpu_percent
            )?;
            writeln!(
                f,
                "  KiB/open stream  {:>14.1}   ({} KiB resident, {} before)",
                process.kib_per_stream, process.resident_kib, process.resident_before_kib
            )?;
        }
        writeln!(f)?;
        if self.errors.is_empty() {
            return writeln!(f, "  errors           {:>14}", 0);
        }
        for (kind, count) in &self.errors {
            writeln!(f, "  error: {kind}: {count} ({})", self.error_examples[kind])?;
        }
        Ok(())
    }
}
