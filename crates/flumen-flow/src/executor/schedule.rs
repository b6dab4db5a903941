//! Who is next: queues with waiting work take turns by virtual time.
//!
//! This is stride scheduling (Waldspurger and Weihl, 1995) over named queues. Each queue has a pass, the service it
//! has had divided by its weight; a queue with waiting work holds one ticket, ordered by pass, and the lowest pass goes
//! next. A turn costs 1 ([`Policy::Count`]: the queues take turns round robin) or its measured time
//! ([`Policy::Time`]). A queue that comes back from idling starts at the pass of the last turn: it has not saved up.
//!
//! Nothing here knows threads or clocks: the caller holds the lock and says what time it is.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque, binary_heap::PeekMut},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use super::{
    config::{Policy, QueueConfig},
    stats::{Counts, QueueStats},
};

/// Index of a queue.
pub(super) type QueueId = usize;

/// What a turn of cost 1 adds to the pass of a queue of weight 1.
const STRIDE: u64 = 1 << 32;

/// Turns below this are tiny, in nanoseconds.
const TINY: u64 = 2_000;

/// A ticket's place: pass, then the order in which tickets were handed in.
type Key = (u128, u64);

#[derive(Debug)]
pub(super) struct Schedule<E> {
    policy: Policy,
    queues: Vec<Option<QueueState<E>>>,
    /// The tickets of each priority, the most urgent first.
    tickets: BTreeMap<Reverse<u8>, Group>,
    handed_in: u64,
    /// Entries that came so far.
    numbers: u64,
    /// Tickets in all groups.
    ready: usize,
}

#[derive(Debug, Default)]
struct Group {
    /// Among them some that were taken back: their queues have another key, or none.
    tickets: BinaryHeap<Reverse<(Key, QueueId)>>,
    /// Pass of the last turn.
    now: u128,
}

#[derive(Debug)]
pub(super) struct QueueState<E> {
    name: String,
    config: QueueConfig,
    /// In the order of their numbers.
    entries: VecDeque<Slot<E>>,
    /// Cancelled entries whose slots still stand among the others.
    dead: usize,
    /// Whoever waits for room outside, and for how many of them a place is kept.
    blocked: usize,
    kept: usize,
    /// Where those wait.
    room: Arc<Semaphore>,
    running: usize,
    /// What a turn of cost 1 adds to the pass.
    stride: u64,
    pass: u128,
    ticket: Option<Key>,
    /// What a turn is expected to take, in nanoseconds: a moving average.
    expected: u64,
    pub(super) counts: Counts,
    /// Nobody holds the queue any more: it goes when its work is done.
    pub(super) abandoned: bool,
}

#[derive(Debug)]
struct Slot<E> {
    number: u64,
    since: Instant,
    /// `None`: it was cancelled.
    entry: Option<E>,
}

/// A place in a queue has become free for somebody who waits outside: to be told without the lock.
#[derive(Debug)]
pub(super) struct Grant(Arc<Semaphore>);

impl Grant {
    pub(super) fn tell(self) {
        self.0.add_permits(1);
    }
}

/// A turn that was handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) queue: QueueId,
    /// How long the entry stood in the queue.
    pub(super) waited: Duration,
    /// What was charged for it in advance.
    charged: u64,
}

impl<E> Schedule<E> {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, queues: Vec::new(), tickets: BTreeMap::new(), handed_in: 0, ready: 0, numbers: 0 }
    }

    pub(super) fn add(&mut self, name: &str, config: QueueConfig) -> QueueId {
        let pass = self.tickets.get(&Reverse(config.priority)).map_or(0, |group| group.now);
        let state = QueueState {
            name: name.to_owned(),
            config,
            entries: VecDeque::new(),
            dead: 0,
            blocked: 0,
            kept: 0,
            room: Arc::new(Semaphore::new(0)),
            running: 0,
            stride: STRIDE / u64::from(config.weight),
            pass,
            ticket: None,
            expected: 0,
            counts: Counts::default(),
            abandoned: false,
        };
        if let Some(id) = self.queues.iter().position(Option::is_none) {
            self.queues[id] = Some(state);
            return id;
        }
        self.queues.push(Some(state));
        self.queues.len() - 1
    }

    pub(super) fn queue(&mut self, id: QueueId) -> &mut QueueState<E> {
        self.queues[id].as_mut().expect("a queue lives as long as its handles and its work")
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &QueueState<E>> {
        self.queues.iter().flatten()
    }

    /// Queues that could go now.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Whether an entry may come to a queue now.
    pub(super) fn has_room(&mut self, id: QueueId) -> bool {
        let queue = self.queue(id);
        queue.blocked == 0 && queue.taken() < queue.config.capacity
    }

    /// Somebody is to wait for room. The semaphore has a permit when a place is kept.
    pub(super) fn block(&mut self, id: QueueId) -> Arc<Semaphore> {
        let queue = self.queue(id);
        queue.blocked += 1;
        Arc::clone(&queue.room)
    }

    /// Somebody who waited for room has got a place, or has left.
    pub(super) fn unblock(&mut self, id: QueueId, placed: bool) -> Option<Grant> {
        let queue = self.queue(id);
        queue.blocked -= 1;
        if placed {
            queue.kept -= 1;
            return None;
        }
        if queue.kept > queue.blocked
            && let Ok(permit) = queue.room.try_acquire()
        {
            permit.forget();
            queue.kept -= 1;
        }
        queue.grant()
    }

    /// Puts an entry at the end of a queue, room or not. It is told its number.
    pub(super) fn push(&mut self, id: QueueId, now: Instant, entry: impl FnOnce(u64) -> E) {
        self.numbers += 1;
        let slot = Slot { number: self.numbers, since: now, entry: Some(entry(self.numbers)) };
        self.queue(id).entries.push_back(slot);
        self.hand_in(id);
    }

    /// Hands in the ticket of a queue that has live work, room to run it, and no ticket.
    fn hand_in(&mut self, id: QueueId) {
        let handed_in = self.handed_in;
        let queue = self.queues[id].as_mut().expect("a queue lives as long as its handles and its work");
        if queue.ticket.is_some() || queue.live() == 0 || queue.running >= queue.config.concurrency {
            return;
        }
        let group = self.tickets.entry(Reverse(queue.config.priority)).or_default();
        queue.pass = queue.pass.max(group.now);
        let key = (queue.pass, handed_in);
        queue.ticket = Some(key);
        group.tickets.push(Reverse((key, id)));
        self.handed_in += 1;
        self.ready += 1;
    }

    fn take_back(&mut self, id: QueueId) {
        let Self { queues, tickets, ready, .. } = self;
        let Some(queue) = queues[id].as_mut() else { return };
        if queue.ticket.take().is_none() {
            return;
        }
        *ready -= 1;
        let Some(group) = tickets.get_mut(&Reverse(queue.config.priority)) else { return };
        if group.tickets.len() > 2 * queues.len() + 16 {
            group.tickets.retain(|Reverse((key, id))| holds(queues, *id, *key));
        }
    }

    /// The next entry to run.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Turn, E, Option<Grant>)> {
        if self.ready == 0 {
            return None;
        }
        let Self { queues, tickets, handed_in, ready, policy, .. } = self;
        for group in tickets.values_mut() {
            while let Some(mut top) = group.tickets.peek_mut() {
                let Reverse((key, id)) = *top;
                let Some(queue) = queues[id].as_mut().filter(|queue| queue.ticket == Some(key)) else {
                    PeekMut::pop(top);
                    continue;
                };
                group.now = key.0;
                let charged = if *policy == Policy::Time { queue.expected } else { 1 };
                let (entry, waited) = queue.begin(now, charged);
                let grant = queue.grant();
                if queue.is_ready() {
                    // The same as handing the ticket in again, in one step.
                    let key = (queue.pass, *handed_in);
                    *handed_in += 1;
                    queue.ticket = Some(key);
                    *top = Reverse((key, id));
                } else {
                    queue.ticket = None;
                    *ready -= 1;
                    PeekMut::pop(top);
                }
                return Some((Turn { queue: id, waited, charged }, entry, grant));
            }
        }
        None
    }

    /// Whether turns of this queue take next to no time, as far as is known.
    pub(super) fn is_tiny(&self, id: QueueId) -> bool {
        self.queues[id].as_ref().is_some_and(|queue| (1..TINY).contains(&queue.expected))
    }

    /// Accounts for a turn that is over.
    pub(super) fn finished(&mut self, turn: Turn, took: Duration, done: bool) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let time = self.policy == Policy::Time;
        let queue = self.queue(turn.queue);
        queue.running -= 1;
        queue.counts.ended(took, done);
        queue.expected = if queue.expected == 0 { nanos } else { (queue.expected * 7 + nanos) / 8 };
        if time {
            let stride = u128::from(queue.stride);
            let actual = queue.pass + u128::from(nanos) * stride;
            queue.pass = actual.saturating_sub(u128::from(turn.charged) * stride);
            self.take_back(turn.queue);
        }
        self.hand_in(turn.queue);
        self.collect(turn.queue);
    }

    /// Takes the entry of a number out of a queue, if it still stands there.
    pub(super) fn cancel(&mut self, id: QueueId, number: u64) -> Option<(E, Option<Grant>)> {
        let queue = self.queues.get_mut(id)?.as_mut()?;
        let at = queue.entries.binary_search_by_key(&number, |slot| slot.number).ok()?;
        let entry = queue.entries[at].entry.take()?;
        queue.dead += 1;
        queue.counts.cancelled += 1;
        if queue.dead * 2 > queue.entries.len() {
            queue.entries.retain(|slot| slot.entry.is_some());
            queue.dead = 0;
        }
        let grant = queue.grant();
        if queue.live() == 0 {
            self.take_back(id);
        }
        self.collect(id);
        Some((entry, grant))
    }

    /// Removes a queue that nobody holds and that has no work.
    pub(super) fn collect(&mut self, id: QueueId) {
        let queue = self.queue(id);
        if queue.abandoned && queue.running == 0 && queue.live() == 0 {
            self.take_back(id);
            self.queues[id] = None;
        }
    }

    /// Takes all waiting entries out.
    pub(super) fn clear(&mut self) -> Vec<E> {
        let ids: Vec<QueueId> = (0..self.queues.len()).filter(|&id| self.queues[id].is_some()).collect();
        let mut entries = Vec::new();
        for id in ids {
            self.take_back(id);
            let queue = self.queue(id);
            queue.dead = 0;
            queue.room.close();
            let before = entries.len();
            entries.extend(std::mem::take(&mut queue.entries).into_iter().filter_map(|slot| slot.entry));
            queue.counts.cancelled += (entries.len() - before) as u64;
        }
        entries
    }
}

/// Whether this is the ticket that the queue holds.
fn holds<E>(queues: &[Option<QueueState<E>>], id: QueueId, key: Key) -> bool {
    queues[id].as_ref().is_some_and(|queue| queue.ticket == Some(key))
}

impl<E> QueueState<E> {
    /// Whether it has live work and may run it.
    fn is_ready(&self) -> bool {
        self.live() > 0 && self.running < self.config.concurrency
    }

    /// Takes the first live entry out for a turn that is charged in advance.
    fn begin(&mut self, now: Instant, charged: u64) -> (E, Duration) {
        let (entry, since) = loop {
            let slot = self.entries.pop_front().expect("a ticket stands for a live entry");
            match slot.entry {
                Some(entry) => break (entry, slot.since),
                None => self.dead -= 1,
            }
        };
        self.running += 1;
        self.pass += u128::from(charged) * u128::from(self.stride);
        let waited = now.saturating_duration_since(since);
        self.counts.began(waited);
        (entry, waited)
    }

    /// Entries that wait.
    fn live(&self) -> usize {
        self.entries.len() - self.dead
    }

    /// Places that are taken or kept.
    fn taken(&self) -> usize {
        self.live() + self.kept
    }

    /// Keeps a place that has become free for the one who has waited longest.
    fn grant(&mut self) -> Option<Grant> {
        if self.blocked <= self.kept || self.taken() >= self.config.capacity {
            return None;
        }
        self.kept += 1;
        Some(Grant(Arc::clone(&self.room)))
    }

    pub(super) fn stats(&self) -> QueueStats {
        self.counts.stats(&self.name, self.entries.len() - self.dead, self.running)
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
