//! What the threads of an executor and the handles of its users share: the schedule under one lock.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    QueueConflict, QueueStats,
    config::{Policy, QueueConfig},
    job::{self, Job, Progress, Tag},
    schedule::{Grant, QueueId, QueueState, Schedule, Turn},
    sync::{Condvar, Mutex, MutexGuard, thread},
};
use crate::{Error, ErrorKind, Result};

/// How often an idle thread looks for work before it sleeps. Waking a thread costs some microseconds, so it pays to
/// look for about as long.
const LOOKS: u32 = if cfg!(feature = "shuttle") { 0 } else { 40 };

pub(super) struct Shared {
    name: String,
    state: Mutex<State>,
    work: Condvar,
    /// A thread has ended.
    fewer: Notify,
    /// Queues that could go now, for threads that look without the lock.
    ready: AtomicUsize,
}

struct State {
    schedule: Schedule<Arc<dyn Job>>,
    names: HashMap<String, Weak<QueueHandle>>,
    /// Threads that there are, and that there should be.
    threads: usize,
    wanted: usize,
    /// Threads that sleep, and how many of them were woken and are not up yet.
    asleep: usize,
    waking: usize,
    /// Threads that look for work: they need no waking.
    looking: usize,
    hands: Vec<Arc<Hand>>,
    over: bool,
}

/// Turns that a thread took together, in their fair order, to lock once for many tiny ones. A thread that finds nothing
/// else takes from the hands of others, so none waits behind a turn that turns out to be long.
#[derive(Default)]
struct Hand {
    cards: Mutex<VecDeque<(Turn, Arc<dyn Job>)>>,
}

/// How many turns a thread takes beyond the one it runs.
const HAND: usize = 15;

impl State {
    fn enqueue(&mut self, queue: QueueId, job: Arc<dyn Job>, now: Instant) {
        // The number is noted before anybody can look it up: that takes the lock, too.
        let noted = Arc::clone(&job);
        noted.tag().queued(self.schedule.push(queue, job, now));
    }
}

impl Hand {
    fn cards(&self) -> MutexGuard<'_, VecDeque<(Turn, Arc<dyn Job>)>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(Turn, Arc<dyn Job>)> {
        self.cards().pop_front()
    }
}

/// A queue as its users hold it; the last one that goes closes it.
pub(super) struct QueueHandle {
    pub(super) owner: Arc<Owner>,
    pub(super) id: QueueId,
    pub(super) name: String,
    config: QueueConfig,
}

/// The last user that goes ends the threads.
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        let mut state = self.owner.shared.lock();
        state.schedule.queue(self.id).abandoned = true;
        state.schedule.collect(self.id);
        if state.names.get(&self.name).is_some_and(|handle| handle.strong_count() == 0) {
            state.names.remove(&self.name);
        }
    }
}

impl QueueHandle {
    /// Waits for room and brings a job.
    pub(super) async fn bring(&self, job: Arc<dyn Job>) -> Result<()> {
        let wait = self.config.when_full == super::WhenFull::Wait;
        let (job, room) = match self.owner.shared.push(self.id, job, wait)? {
            Pushed::Done => return Ok(()),
            Pushed::Full => return Err(self.refuse()),
            Pushed::Blocked(job, room) => (job, room),
        };
        let blocked = Blocked { queue: self };
        match room.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(ended()),
        }
        // From here to its end nothing waits, so this cannot be dropped in between.
        std::mem::forget(blocked);
        self.owner.shared.push_placed(self.id, job)
    }

    /// Brings a job if there is room.
    pub(super) fn try_bring(&self, job: Arc<dyn Job>) -> Result<()> {
        match self.owner.shared.push(self.id, job, false)? {
            Pushed::Done => Ok(()),
            Pushed::Full | Pushed::Blocked(..) => Err(self.refuse()),
        }
    }

    fn refuse(&self) -> Error {
        self.owner.shared.lock().schedule.queue(self.id).counts.refused += 1;
        let message = format!("the queue `{}` is full: {} items wait", self.name, self.config.capacity);
        Error::new(ErrorKind::Refused, message).retryable()
    }

    /// Queues a job again that was woken.
    pub(super) fn wake(&self, job: Arc<dyn Job>) {
        self.owner.shared.wake_job(self.id, job);
    }

    /// Asks a job to stop, and takes it out of the queue. Whether nobody else will end it.
    pub(super) fn cancel(&self, tag: &Tag) -> bool {
        let mut state = self.owner.shared.lock();
        let parked = tag.cancel();
        let Some((job, grant)) = state.schedule.cancel(self.id, tag.number()) else { return parked };
        self.owner.shared.publish(&state);
        drop(state);
        drop(job);
        if let Some(grant) = grant {
            grant.tell();
        }
        true
    }
}

/// Somebody who waits for room; gives the place up when dropped.
struct Blocked<'a> {
    queue: &'a QueueHandle,
}

/// What became of a job that was brought.
enum Pushed {
    Done,
    Full,
    /// The semaphore has a permit when a place is kept.
    Blocked(Arc<dyn Job>, Arc<Semaphore>),
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        let grant = self.queue.owner.shared.lock().schedule.unblock(self.queue.id, false);
        if let Some(grant) = grant {
            grant.tell();
        }
    }
}

fn ended() -> Error {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the caller's runs under the lock, so a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
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
    fn push(self: &Arc<Self>, queue: QueueId, job: Arc<dyn Job>, wait: bool) -> Result<Pushed> {
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
    fn push_placed(self: &Arc<Self>, queue: QueueId, job: Arc<dyn Job>) -> Result<()> {
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

    fn wake_job(self: &Arc<Self>, queue: QueueId, job: Arc<dyn Job>) {
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
    fn call_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
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

    fn spawn(self: &Arc<Self>) {
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
            let (job, progress) = job::run(job, turn.waited);
            let ended = Instant::now();
            over.push((turn, ended - now, progress == Progress::Done));
            now = ended;
            if progress == Progress::Pending {
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
