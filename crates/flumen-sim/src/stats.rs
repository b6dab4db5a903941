//! Counting requests and how they ended, and watching those that run.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::time::Instant;

/// What a simulator has done so far. `requests` is the sum of `active`, `completed` and `aborted`, except for
/// requests that come or end while they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that came, whatever they asked for, except for these numbers.
    pub requests: u64,
    /// Requests being answered.
    pub active: u64,
    /// Requests answered to the end, be it a planned fault.
    pub completed: u64,
    /// Requests whose reply was dropped before its end.
    pub aborted: u64,
    /// Tokens generated.
    pub tokens: u64,
}

/// What a simulator does at the moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overview {
    #[serde(flatten)]
    totals: Stats,
    /// Answers that fell silent as they were told to.
    stalled: usize,
    /// Answers that are ready to go on, but nobody takes what is due.
    held_up: usize,
    /// The oldest answers that run.
    streams: Vec<Stream>,
    /// The latest that were aborted.
    aborts: Vec<Abort>,
}

/// An answer that runs.
#[derive(Clone, Debug, Serialize)]
struct Stream {
    number: u64,
    model: String,
    user: Option<String>,
    events: u64,
    age_ms: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    Stalled,
    HeldUp,
}

/// An answer that was aborted.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Abort {
    number: u64,
    model: String,
    user: Option<String>,
    events: u64,
    /// Microseconds since 1970.
    at: u64,
}

/// How many running answers and aborts an overview shows.
const SHOWN: usize = 100;
/// How many aborts are kept.
const KEPT_ABORTS: usize = 10_000;
/// What is late by more than this is held up by its reader.
const LATE: Duration = Duration::from_millis(50);

/// Microseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
pub(crate) struct Counters {
    since: Instant,
    requests: AtomicU64,
    completed: AtomicU64,
    aborted: AtomicU64,
    tokens: AtomicU64,
    runs: Mutex<BTreeMap<u64, Arc<Run>>>,
    aborts: Mutex<VecDeque<Abort>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            requests: AtomicU64::default(),
            completed: AtomicU64::default(),
            aborted: AtomicU64::default(),
            tokens: AtomicU64::default(),
            runs: Mutex::default(),
            aborts: Mutex::default(),
        }
    }
}

/// An answer while it runs.
#[derive(Debug)]
struct Run {
    model: String,
    user: Option<String>,
    started: Instant,
    events: AtomicU64,
    /// When the next event is due, in microseconds after the counters' beginning.
    due: AtomicU64,
    stalled: AtomicBool,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        // The ends before the beginnings, so that the difference never falls below zero.
        let (completed, aborted) = (self.completed.load(Relaxed), self.aborted.load(Relaxed));
        let requests = self.requests.load(Relaxed);
        let active = requests.saturating_sub(completed + aborted);
        Stats { requests, active, completed, aborted, tokens: self.tokens.load(Relaxed) }
    }

    pub(crate) fn overview(&self) -> Overview {
        let totals = self.stats();
        let late = self.micros(Instant::now()).saturating_sub(micros(LATE));
        let runs = lock(&self.runs);
        let state = |run: &Run| match run.stalled.load(Relaxed) {
            true => State::Stalled,
            false if run.due.load(Relaxed) < late => State::HeldUp,
            false => State::Running,
        };
        let count = |wanted| runs.values().filter(|run| state(run) == wanted).count();
        let streams = runs.iter().take(SHOWN).map(|(number, run)| Stream {
            number: *number,
            model: run.model.clone(),
            user: run.user.clone(),
            events: run.events.load(Relaxed),
            age_ms: micros(run.started.elapsed()) / 1000,
            state: state(run),
        });
        let aborts = lock(&self.aborts).iter().rev().take(SHOWN).cloned().collect();
        Overview {
            totals,
            stalled: count(State::Stalled),
            held_up: count(State::HeldUp),
            streams: streams.collect(),
            aborts,
        }
    }

    /// The latest aborts, the oldest first.
    pub(crate) fn aborts(&self) -> Vec<Abort> {
        lock(&self.aborts).iter().cloned().collect()
    }

    fn micros(&self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.since))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request in the count: aborted when it is dropped, unless it was completed.
#[derive(Debug)]
pub(crate) struct Ticket {
    counters: Arc<Counters>,
    number: u64,
    run: Option<Arc<Run>>,
    completed: bool,
}

impl Ticket {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        let number = counters.requests.fetch_add(1, Relaxed);
        Self { counters, number, run: None, completed: false }
    }

    /// The number of this request, which no other request to the same simulator has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The request asks for an answer, which is shown from now on.
    pub(crate) fn begin(&mut self, model: &str, user: Option<&str>) {
        let run = Arc::new(Run {
            model: model.to_owned(),
            user: user.map(ToOwned::to_owned),
            started: Instant::now(),
            events: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            stalled: AtomicBool::new(false),
        });
        lock(&self.counters.runs).insert(self.number, Arc::clone(&run));
        self.run = Some(run);
    }

    /// So many events have been handed out; the next is due then.
    pub(crate) fn progress(&self, events: u64, due: Instant) {
        if let Some(run) = &self.run {
            run.events.store(events, Relaxed);
            run.due.store(self.counters.micros(due), Relaxed);
        }
    }

    /// Nothing comes any more, on purpose.
    pub(crate) fn stall(&self) {
        if let Some(run) = &self.run {
            run.stalled.store(true, Relaxed);
        }
    }

    pub(crate) fn generated(&self, tokens: u64) {
        self.counters.tokens.fetch_add(tokens, Relaxed);
    }

    pub(crate) fn complete(&mut self) {
        if !std::mem::replace(&mut self.completed, true) {
            self.counters.completed.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let at = wall_clock();
        if !self.completed {
            self.counters.aborted.fetch_add(1, Relaxed);
        }
        let Some(run) = self.run.take() else { return };
        lock(&self.counters.runs).remove(&self.number);
        if !self.completed {
            let mut aborts = lock(&self.counters.aborts);
            if aborts.len() == KEPT_ABORTS {
                aborts.pop_front();
            }
            aborts.push_back(Abort {
                number: self.number,
                model: run.model.clone(),
                user: run.user.clone(),
                events: run.events.load(Relaxed),
                at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_ends_once() {
        let counters = Arc::new(Counters::default());
        let (mut done, dropped) = (Ticket::new(counters.clone()), Ticket::new(counters.clone()));
        let _open = Ticket::new(counters.clone());
        done.complete();
        done.complete();
        done.generated(5);
        drop((done, dropped));
        let expected = Stats { requests: 3, active: 1, completed: 1, aborted: 1, tokens: 5 };
        assert_eq!(counters.stats(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn running_stalled_and_late_answers_are_told_apart() {
        let counters = Arc::new(Counters::default());
        let mut tickets: Vec<_> = (0..4).map(|_| Ticket::new(counters.clone())).collect();
        for ticket in &mut tickets {
            ticket.begin("m", Some("u"));
        }
        tickets[1].stall();
        tickets[2].progress(3, Instant::now());
        tickets[3].progress(1, Instant::now() + Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(tickets.remove(0));
        let overview = counters.overview();
        let states: Vec<_> = overview.streams.iter().map(|stream| stream.state).collect();
        assert_eq!(states, [State::Stalled, State::HeldUp, State::Running]);
        assert_eq!((overview.stalled, overview.held_up), (1, 1));
        let aborts = counters.aborts();
        assert_eq!((aborts.len(), aborts[0].number, aborts[0].user.as_deref()), (1, 0, Some("u")));
        tickets.iter_mut().for_each(Ticket::complete);
        drop(tickets);
        assert!(counters.overview().streams.is_empty() && counters.aborts().len() == 1);
    }
}
