use std::num::NonZeroUsize;

/// What a turn costs its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// One: queues with waiting work get equal numbers of turns, whatever a turn takes. Classes of equal counts and
    /// unequal costs finish together.
    #[default]
    Count,
    /// The time it takes: queues with waiting work get equal thread time, so short work does not wait for long work
    /// of others. What runs is not interrupted; a [concurrency cap](QueueConfig::concurrency) on the long queues keeps
    /// threads free.
    Time,
}

/// What happens to work that comes to a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Whoever brings it waits for room.
    #[default]
    Wait,
    /// It is refused.
    Refuse,
}

/// How a queue is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub(super) weight: u32,
    pub(super) priority: u8,
    pub(super) concurrency: usize,
    pub(super) capacity: usize,
    pub(super) when_full: WhenFull,
}

impl Default for QueueConfig {
    /// Weight 1, priority 0, no cap on concurrency, room for 65,536 waiting items, wait when full.
    fn default() -> Self {
        Self { weight: 1, priority: 0, concurrency: usize::MAX, capacity: 65_536, when_full: WhenFull::Wait }
    }
}

impl QueueConfig {
    /// The queue's share, relative to the other queues of its priority: from 1 to 65,536.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 65_536);
        self
    }

    /// Queues of a higher priority go before all queues of a lower one, however long these wait.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// How many of its items may run at the same time.
    pub fn concurrency(mut self, cap: NonZeroUsize) -> Self {
        self.concurrency = cap.get();
        self
    }

    /// How many of its items may wait; at least 1.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// What happens to work that comes when it is full.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }
}
