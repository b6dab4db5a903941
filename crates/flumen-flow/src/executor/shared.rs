//! What the threads of an executor and the handles of its users share: the schedule under one lock.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::{
    QueueConflict, QueueStats,
    config::{Policy, QueueConfig},
    handle::{Owner, Pushed, QueueHandle},
    job::Job,
    schedule::{QueueId, QueueState, Schedule},
    sync::{Condvar, Mutex, MutexGuard},
    worker::Hand,
};
use crate::{Error, ErrorKind, Result};

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) state: Mutex<State>,
    pub(super) work: Condvar,
    /// A thread has ended.
    pub(super) fewer: Notify,
    /// Queues that could go now, for threads that look without the lock.
    pub(super) ready: AtomicUsize,
}

pub(super) struct State {
    pub(super) schedule: Schedule<Arc<dyn Job>>,
    pub(super) names: HashMap<String, Weak<QueueHandle>>,
    /// Threads that there are, and that there should be.
    pub(super) threads: usize,
    pub(super) wanted: usize,
    /// Threads that sleep, and how many of them were woken and are not up yet.
    pub(super) asleep: usize,
    pub(super) waking: usize,
    /// Threads that look for work: they need no waking.
    pub(super) looking: usize,
    pub(super) hands: Vec<Arc<Hand>>,
    pub(super) over: bool,
}

impl State {
    pub(super) fn enqueue(&mut self, queue: QueueId, job: Arc<dyn Job>, now: Instant) {
        self.schedule.push(queue, now, |number| {
            job.tag().queued(number);
            job
        });
    }
}

pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Refused, "the executor has ended")
}

impl Shared {
    pub(super) fn new(name: String, threads: usize, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::new(State {
                schedule: Schedule::new(policy),
                names: HashMap::new(),
                threads: 0,
                wanted: threads.max(1),
                asleep: 0,
                waking: 0,
                looking: 0,
                hands: Vec::new(),
                over: false,
            }),
            work: Condvar::new(),
            fewer: Notify::new(),
            ready: AtomicUsize::new(0),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the caller's runs under the lock, so a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self, state: &State) {
        self.ready.store(state.schedule.ready(), Relaxed);
    }

    pub(super) fn someone_is_ready(&self) -> bool {
        self.ready.load(Relaxed) > 0
    }

    pub(super) fn queue(
        owner: &Arc<Owner>,
        name: &str,
        config: Option<QueueConfig>,
    ) -> Result<Arc<QueueHandle>, QueueConflict> {
        let mut state = owner.shared.lock();
        if let Some(handle) = state.names.get(name).and_then(Weak::upgrade) {
            let same = config.is_none_or(|config| config == handle.config);
            // Released before the handle may be dropped, which locks again.
            drop(state);
            return if same { Ok(handle) } else { Err(QueueConflict { name: name.to_owned() }) };
        }
        let config = config.unwrap_or_default();
        let id = state.schedule.add(name, config);
        let handle = Arc::new(QueueHandle { owner: Arc::clone(owner), id, name: name.to_owned(), config });
        state.names.insert(name.to_owned(), Arc::downgrade(&handle));
        Ok(handle)
    }

    /// Brings a job to a queue, if there is room; if not, and it is to `wait`, registers it for the next free place.
    pub(super) fn push(self: &Arc<Self>, queue: QueueId, job: Arc<dyn Job>, wait: bool) -> Result<Pushed> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.over {
            drop(state);
            return Err(ended());
        }
        if !state.schedule.has_room(queue) {
            return Ok(if wait { Pushed::Blocked(job, state.schedule.block(queue)) } else { Pushed::Full });
        }
        state.enqueue(queue, job, now);
        self.publish(&state);
        self.call_thread(state);
        Ok(Pushed::Done)
    }

    /// Brings a job for which a place was kept. The place is given up in the same step.
    pub(super) fn push_placed(self: &Arc<Self>, queue: QueueId, job: Arc<dyn Job>) -> Result<()> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.over {
            drop(state);
            return Err(ended());
        }
        state.schedule.unblock(queue, true);
        state.enqueue(queue, job, now);
        self.publish(&state);
        self.call_thread(state);
        Ok(())
    }

    pub(super) fn wake_job(self: &Arc<Self>, queue: QueueId, job: Arc<dyn Job>) {
        let now = Instant::now();
        let mut state = self.lock();
        if !job.tag().wake() {
            return;
        }
        if state.over {
            drop(state);
            job.discard(ended());
            return;
        }
        state.enqueue(queue, job, now);
        self.publish(&state);
        self.call_thread(state);
    }

    /// Sees to it that somebody takes a ticket that has just come: a thread that looks will, else one is woken or made.
    pub(super) fn call_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.looking > 0 || state.schedule.ready() == 0 {
            return;
        }
        if state.asleep > state.waking {
            state.waking += 1;
            drop(state);
            self.work.notify_one();
        } else if state.threads < state.wanted {
            state.threads += 1;
            drop(state);
            self.spawn();
        }
    }

    /// Changes how many threads there are: further ones start at once if there is work, superfluous ones end after the
    /// turn that they are in.
    pub(super) fn set_threads(self: &Arc<Self>, threads: usize) {
        let mut state = self.lock();
        state.wanted = threads.max(1);
        let more = state.wanted.saturating_sub(state.threads).min(state.schedule.ready());
        state.threads += more;
        let fewer = state.threads > state.wanted;
        drop(state);
        (0..more).for_each(|_| self.spawn());
        if fewer {
            self.work.notify_all();
        }
    }

    pub(super) fn wanted_threads(&self) -> usize {
        self.lock().wanted
    }

    pub(super) fn stats(&self) -> Vec<QueueStats> {
        let state = self.lock();
        let mut stats: Vec<QueueStats> = state.schedule.queues().map(QueueState::stats).collect();
        drop(state);
        stats.sort_by(|one, other| one.name.cmp(&other.name));
        stats
    }

    pub(super) fn stats_of(&self, queue: QueueId) -> QueueStats {
        self.lock().schedule.queue(queue).stats()
    }

    /// Ends the threads after the turns that they are in, and the waiting work without a turn.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        let left = state.schedule.clear();
        self.publish(&state);
        drop(state);
        self.work.notify_all();
        for job in left {
            job.discard(ended());
        }
    }

    /// Waits until no thread is left.
    pub(super) async fn ended(&self) {
        loop {
            let fewer = self.fewer.notified();
            if self.lock().threads == 0 {
                return;
            }
            fewer.await;
        }
    }
}
