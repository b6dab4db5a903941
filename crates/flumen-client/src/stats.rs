use std::{collections::VecDeque, time::Duration};

use flumen_stream::Meter;
use flumen_wire::client::Timings;
use tokio::time::Instant;

use crate::Transport;

/// What one stream took so far; see [`EventStream::stats`](crate::EventStream::stats).
#[derive(Clone, Debug)]
pub struct Stats {
    /// Connections, or exchanges, that were begun, the first among them. Each poll of a long poll is one.
    pub connections: u64,
    /// Connections that were begun to go on after an earlier one.
    pub resumes: u64,
    /// Events that were handed out.
    pub events: u64,
    /// Bytes of bodies and WebSocket messages that came.
    pub bytes: u64,
    /// Events that came again and were skipped.
    pub repeats: u64,
    /// When the stream was first polled.
    pub started: Option<Instant>,
    /// From then to the first event.
    pub first_event: Option<Duration>,
    /// The longest time between two events.
    pub largest_gap: Duration,
    /// The latest connections, the oldest first; at most [`Stats::LEGS`].
    pub legs: Vec<Leg>,
}

impl Stats {
    /// How many connections are remembered one by one.
    pub const LEGS: usize = 32;
}

/// One connection of a stream.
#[derive(Clone, Debug)]
pub struct Leg {
    /// How it was read.
    pub transport: Transport,
    /// What each phase took, as far as it came; `None` when there was no answer.
    pub timings: Option<Timings>,
    /// New events it brought.
    pub events: u64,
}

/// Keeps what [`Stats`] shows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) repeats: u64,
    started: Option<Instant>,
    resumes: u64,
    connections: u64,
    /// Of the connections that are over.
    bytes: u64,
    meter: Meter,
    legs: VecDeque<Leg>,
}

impl Tally {
    pub(crate) fn connect(&mut self, transport: Transport, resume: bool) {
        self.started.get_or_insert_with(Instant::now);
        self.connections += 1;
        self.resumes += u64::from(resume);
        if self.legs.len() == Stats::LEGS {
            self.legs.pop_front();
        }
        self.legs.push_back(Leg { transport, timings: None, events: 0 });
    }

    pub(crate) fn event(&mut self, bytes: usize) {
        self.meter.record(1, bytes as u64, Instant::now());
        if let Some(leg) = self.legs.back_mut() {
            leg.events += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.meter.frames() == 0
    }

    /// A connection, or an exchange, is over.
    pub(crate) fn over(&mut self, timings: Option<&Timings>) {
        self.bytes += timings.map_or(0, |timings| timings.body_bytes_in);
        if let Some(leg) = self.legs.back_mut() {
            leg.timings = timings.cloned();
        }
    }

    /// `current` is what the open connection took so far.
    pub(crate) fn show(&self, current: Option<&Timings>) -> Stats {
        let mut legs: Vec<_> = self.legs.iter().cloned().collect();
        if let (Some(leg), Some(timings)) = (legs.last_mut(), current) {
            leg.timings = Some(timings.clone());
        }
        Stats {
            connections: self.connections,
            resumes: self.resumes,
            events: self.meter.frames(),
            bytes: self.bytes + current.map_or(0, |timings| timings.body_bytes_in),
            repeats: self.repeats,
            started: self.started,
            first_event: self.meter.first().zip(self.started).map(|(first, started)| first - started),
            largest_gap: self.meter.largest_gap(),
            legs,
        }
    }
}
