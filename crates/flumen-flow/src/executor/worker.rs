//! The life of an executor's thread.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    job::{self, Job, Progress},
    schedule::{Grant, QueueId, Turn},
    shared::{Shared, State},
    sync::{Mutex, MutexGuard, thread},
};
use crate::Error;

/// How often an idle thread looks for work before it sleeps. Waking a thread costs some microseconds, so it pays to
/// look for about as long.
const LOOKS: u32 = if cfg!(feature = "shuttle") { 0 } else { 40 };

/// Turns that a thread took together, in their fair order, to lock once for many tiny ones. A thread that finds nothing
/// else takes from the hands of others, so none waits behind a turn that turns out to be long.
#[derive(Default)]
pub(super) struct Hand {
    cards: Mutex<VecDeque<(Turn, Arc<dyn Job>)>>,
}

/// How many turns a thread takes beyond the one it runs.
const HAND: usize = 15;

impl Hand {
    fn cards(&self) -> MutexGuard<'_, VecDeque<(Turn, Arc<dyn Job>)>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(Turn, Arc<dyn Job>)> {
        self.cards().pop_front()
    }
}

impl Shared {
    pub(super) fn spawn(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name(self.name.clone());
        if let Err(error) = builder.spawn(move || shared.work()) {
            tracing::error!(%error, executor = self.name, "cannot start a thread");
            self.lock().threads -= 1;
        }
    }

    /// The life of a thread.
    fn work(self: &Arc<Self>) {
        job::enter(self);
        let hand = Arc::new(Hand::default());
        self.lock().hands.push(Arc::clone(&hand));
        let mut now = Instant::now();
        let mut over = Vec::new();
        loop {
            let Some((turn, job)) = hand.take().or_else(|| self.deal(&hand, &mut over, &mut now)) else {
                return;
            };
            // What a job holds is dropped here as well, and may panic as it goes.
            let turned = job::caught(|| match job::run(job, turn.waited) {
                (job, Progress::Pending) => Some(job),
                (_, Progress::Done) => None,
            });
            let ended = Instant::now();
            let paused = turned.unwrap_or_else(|error| {
                tracing::error!(executor = self.name, %error, "work was dropped");
                None
            });
            over.push((turn, ended - now, paused.is_none()));
            now = ended;
            if let Some(job) = paused {
                self.pause(turn.queue, job, now);
            }
        }
    }

    /// Accounts for the turns of a thread that are over, and gives it the next one; while every thread is busy and work
    /// is tiny, some more into its hand. Waits until there is one. `None`: the thread is to end.
    fn deal(
        self: &Arc<Self>,
        hand: &Arc<Hand>,
        over: &mut Vec<(Turn, Duration, bool)>,
        now: &mut Instant,
    ) -> Option<(Turn, Arc<dyn Job>)> {
        let mut state = self.lock();
        loop {
            for (turn, took, done) in over.drain(..) {
                state.schedule.finished(turn, took, done);
            }
            if state.over || state.threads > state.wanted {
                state.threads -= 1;
                state.hands.retain(|other| !Arc::ptr_eq(other, hand));
                drop(state);
                self.fewer.notify_waiters();
                return None;
            }
            if let Some((turn, job, grant)) = state.schedule.next(*now) {
                let mut grants = Vec::from_iter(grant);
                let all_busy = state.looking == 0 && state.asleep == 0 && state.threads == state.wanted;
                let mut tiny = state.schedule.is_tiny(turn.queue);
                let mut cards = hand.cards();
                while all_busy && tiny && cards.len() < HAND {
                    let Some((turn, job, grant)) = state.schedule.next(*now) else { break };
                    tiny = state.schedule.is_tiny(turn.queue);
                    cards.push_back((turn, job));
                    grants.extend(grant);
                }
                drop(cards);
                self.publish(&state);
                self.call_thread(state);
                grants.into_iter().for_each(Grant::tell);
                return Some((turn, job));
            }
            if let Some(stolen) = state.hands.iter().find_map(|other| other.take()) {
                return Some(stolen);
            }
            state = self.rest(state);
            *now = Instant::now();
        }
    }

    /// Puts a job aside whose turn did not end it.
    fn pause(&self, queue: QueueId, job: Arc<dyn Job>, now: Instant) {
        let mut state = self.lock();
        if job.tag().is_cancelled() || state.over {
            drop(state);
            job.discard(Error::cancelled());
        } else if job.tag().park() {
            state.enqueue(queue, job, now);
            self.publish(&state);
        } else {
            // Whoever wakes it holds it. The last reference may go here, which locks again.
            drop(state);
            drop(job);
        }
    }

    /// Looks for work for a while, then sleeps until there is some.
    fn rest<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.looking == 0 && LOOKS > 0 {
            state.looking += 1;
            drop(state);
            for _ in 0..LOOKS {
                if self.someone_is_ready() {
                    break;
                }
                thread::yield_now();
            }
            state = self.lock();
            state.looking -= 1;
        }
        if state.schedule.ready() > 0 || state.over || state.threads > state.wanted {
            return state;
        }
        state.asleep += 1;
        state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.asleep -= 1;
        state.waking = state.waking.saturating_sub(1);
        state
    }
}
