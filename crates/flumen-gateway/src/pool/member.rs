//! What is known of one upstream, whichever pools it belongs to.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::breaker::{Breaker, Rules, Trial};
use crate::config::Health;

/// One upstream as all pools and cores see it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    concurrency: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    breaker: Breaker,
    /// What the last active check said.
    well: bool,
    draining: bool,
    ejected: Option<Instant>,
    ejections: u32,
    /// When it came back.
    recovered: Option<Instant>,
    /// Moving average of the time to the first token, in seconds.
    first_token: Option<f64>,
    window: Window,
    /// The one before.
    over: Window,
}

/// What comes of asking for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was taken; the request may be the one that finds out whether all is well.
    Place(Option<Trial>),
    /// All are taken.
    Full,
    /// The breaker lets nobody go, or no more than the one that another core has just sent.
    Barred,
}

/// What happened since the last judgement of outliers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub since: Instant,
    /// Requests that ended.
    pub requests: u32,
    /// Those that failed.
    pub failures: u32,
}

/// What the outside sees of an upstream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Standing {
    pub name: String,
    pub state: &'static str,
    pub breaker: &'static str,
    pub in_flight: usize,
    pub concurrency: Option<usize>,
    pub requests: u64,
    pub failures: u64,
    pub first_token_ms: Option<f64>,
}

/// The share of a new observation in the moving average.
const NEW: f64 = 0.2;
/// What an upstream that has just recovered gets of its share.
const LEAST_SHARE: f64 = 0.1;

impl Member {
    pub(crate) fn new(name: &str, concurrency: Option<usize>, health: Health) -> Self {
        let window = Window { since: Instant::now(), requests: 0, failures: 0 };
        let state = State {
            health,
            breaker: Breaker::default(),
            well: true,
            draining: false,
            ejected: None,
            ejections: 0,
            recovered: None,
            first_token: None,
            window,
            over: window,
        };
        let concurrency = AtomicUsize::new(concurrency.unwrap_or(usize::MAX));
        let (in_flight, requests, failures) = Default::default();
        Self { name: name.to_owned(), in_flight, requests, failures, concurrency, state: Mutex::new(state) }
    }

    /// Takes over what a new configuration says.
    pub(crate) fn configure(&self, concurrency: Option<usize>, health: Health) {
        self.concurrency.store(concurrency.unwrap_or(usize::MAX), Relaxed);
        self.state().health = health;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers that it may give at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.load(Relaxed)
    }

    /// Answers in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Whether requests may go there, and with which part of its weight.
    pub(crate) fn share(&self, now: Instant) -> Option<f64> {
        let state = self.state();
        let usable = state.well
            && !state.draining
            && state.breaker.admits(now)
            && state.ejected.is_none_or(|until| until <= now);
        usable.then(|| state.share(now))
    }

    /// Whether requests may go there when every upstream is unwell: better a try than a refusal. What somebody took out
    /// stays out.
    pub(crate) fn is_last_resort(&self) -> bool {
        let state = self.state();
        !state.draining && !state.breaker.is_held()
    }

    /// How long its first token is likely to take, in seconds; nothing where none has come yet.
    pub(crate) fn likely_first_token(&self) -> Option<f64> {
        self.state().first_token
    }

    /// Takes a place, unless all are taken. What the breaker says counts at this moment, and not as a last resort.
    pub(crate) fn take(&self, now: Instant, last_resort: bool) -> Taken {
        let mut state = self.state();
        let barred = if last_resort { state.breaker.is_held() } else { !state.breaker.admits(now) };
        if barred {
            return Taken::Barred;
        }
        let limit = self.concurrency();
        let more = |count: usize| (count < limit).then_some(count + 1);
        if self.in_flight.fetch_update(Relaxed, Relaxed, more).is_err() {
            return Taken::Full;
        }
        self.requests.fetch_add(1, Relaxed);
        Taken::Place(state.breaker.begin())
    }

    /// Gives the place back.
    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// A first token came. Whoever was tried has shown by it that all is well: its answer may take long.
    pub(crate) fn first_token(&self, trial: Option<Trial>, took: Duration) {
        let mut state = self.state();
        let took = took.as_secs_f64();
        state.first_token = Some(state.first_token.map_or(took, |old| old + NEW * (took - old)));
        if state.breaker.is_tried_by(trial) && state.breaker.succeeded(trial) {
            state.recovered = Some(Instant::now());
        }
    }

    /// An exchange went well.
    pub(crate) fn succeeded(&self, trial: Option<Trial>) {
        let mut state = self.state();
        state.window.requests += 1;
        if state.breaker.succeeded(trial) {
            state.recovered = Some(Instant::now());
        }
    }

    /// An exchange failed by the upstream's fault.
    pub(crate) fn failed(&self, trial: Option<Trial>, may_open: bool) {
        self.failures.fetch_add(1, Relaxed);
        let mut state = self.state();
        state.window.requests += 1;
        state.window.failures += 1;
        let health = state.health;
        let rules = Rules { failures: health.failures, open: health.open, longest: health.open_longest };
        state.breaker.failed(trial, Instant::now(), &rules, may_open);
    }

    /// An exchange ended without saying anything about the upstream.
    pub(crate) fn abandoned(&self, trial: Option<Trial>) {
        self.state().breaker.abandoned(trial, Instant::now());
    }

    /// What an active check found.
    pub(crate) fn checked(&self, well: bool) {
        let mut state = self.state();
        if well && !state.well {
            state.recovered = Some(Instant::now());
        }
        state.well = well;
    }

    /// What happened in the last interval that was over. A member of several pools is judged in each by the same.
    pub(crate) fn window(&self, now: Instant) -> (Window, Option<f64>) {
        let mut state = self.state();
        if now.saturating_duration_since(state.window.since) >= state.health.outlier_interval {
            state.over = state.window;
            state.window = Window { since: now, requests: 0, failures: 0 };
        }
        (state.over, state.first_token)
    }

    /// Whether it is left out as an outlier.
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        self.state().ejected.is_some_and(|until| until > now)
    }

    /// Leaves it out for a while, each time for longer.
    pub(crate) fn eject(&self, now: Instant) {
        let mut state = self.state();
        state.ejections = (state.ejections + 1).min(10);
        let span =
            state.health.open.saturating_mul(1 << (state.ejections - 1)).min(state.health.open_longest);
        state.ejected = Some(now + span);
        state.recovered = Some(now + span);
        // It is judged anew by what it does then.
        state.first_token = None;
        (state.window.requests, state.window.failures) = (0, 0);
        state.over = state.window;
    }

    /// A judgement found nothing wrong.
    pub(crate) fn acquit(&self) {
        let ejections = &mut self.state().ejections;
        *ejections = ejections.saturating_sub(1);
    }

    /// Lets no new request there, or lets them again.
    pub(crate) fn drain(&self, drain: bool) {
        self.state().draining = drain;
    }

    /// Keeps the breaker open, or closes it.
    pub(crate) fn hold(&self, open: bool) {
        let mut state = self.state();
        if open {
            state.breaker.hold();
        } else {
            state.breaker.close();
            state.ejected = None;
        }
    }

    /// What the outside sees.
    pub(crate) fn standing(&self) -> Standing {
        let (now, state) = (Instant::now(), self.state());
        let name = if state.draining {
            "draining"
        } else if !state.well {
            "unwell"
        } else if state.ejected.is_some_and(|until| until > now) {
            "ejected"
        } else if !state.breaker.admits(now) {
            "broken"
        } else if state.share(now) < 1.0 {
            "slow-start"
        } else {
            "up"
        };
        Standing {
            name: self.name.clone(),
            state: name,
            breaker: state.breaker.as_str(now),
            in_flight: self.in_flight(),
            concurrency: Some(self.concurrency()).filter(|limit| *limit < usize::MAX),
            requests: self.requests.load(Relaxed),
            failures: self.failures.load(Relaxed),
            first_token_ms: state.first_token.map(|seconds| (seconds * 1e6).round() / 1e3),
        }
    }
}

impl State {
    /// Slow start: an upstream that came back gets its share little by little.
    fn share(&self, now: Instant) -> f64 {
        let Some(since) = self.recovered else { return 1.0 };
        let back = now.saturating_duration_since(since);
        (back.as_secs_f64() / self.health.slow_start.as_secs_f64()).clamp(LEAST_SHARE, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(member: &Member) -> Taken {
        member.take(Instant::now(), false)
    }

    #[tokio::test(start_paused = true)]
    async fn what_recovers_gets_its_share_little_by_little() {
        let member = Member::new("a", None, Health::default());
        let share = || member.share(Instant::now());
        assert_eq!(share(), Some(1.0));
        for _ in 0..5 {
            member.failed(None, true);
        }
        assert_eq!(share(), None);
        tokio::time::advance(Duration::from_secs(6)).await;
        let Taken::Place(trial @ Some(_)) = take(&member) else { panic!("no trial") };
        assert_eq!((share(), take(&member)), (None, Taken::Barred), "one tries");
        member.succeeded(None);
        assert_eq!(share(), None, "another one");
        member.succeeded(trial);
        assert_eq!(share(), Some(LEAST_SHARE));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(share(), Some(0.5));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(share(), Some(1.0));
        assert_eq!(member.standing().state, "up");
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded() {
        let member = Member::new("a", Some(2), Health::default());
        let taken = || take(&member);
        let place = Taken::Place(None);
        assert_eq!([taken(), taken(), taken()], [place, place, Taken::Full]);
        member.release();
        assert_eq!(taken(), place);
        member.configure(None, Health::default());
        assert_eq!(taken(), place);
    }
}
