//! What waits and runs now, for the operator: who it is for, how far it is, and a way to stop it.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use flumen_stream::Cause;
use futures_util::task::AtomicWaker;

use http::StatusCode;

use crate::{error::Failure, observe::Record};

/// All requests to models that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    next: AtomicU64,
    /// Several, so that cores seldom meet.
    shards: [Mutex<BTreeMap<u64, Arc<Entry>>>; 16],
}

/// One request, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Live {
    roll: Arc<Roll>,
    entry: Arc<Entry>,
}

/// What is known of a request that has not ended.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) pool: String,
    record: Weak<Record>,
    phase: AtomicU8,
    position: AtomicUsize,
    events: AtomicU64,
    stopped: AtomicBool,
    waker: AtomicWaker,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It waits for its turn.
    Queued,
    /// It waits for its first token.
    Waiting,
    /// The answer comes.
    Streaming,
}

impl Phase {
    /// The name for operators.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Streaming => "streaming",
        }
    }
}

impl Roll {
    /// Enters a request.
    pub(crate) fn enter(self: &Arc<Self>, record: &Arc<Record>, pool: &str) -> Live {
        let id = self.next.fetch_add(1, Relaxed) + 1;
        let entry = Arc::new(Entry {
            id,
            pool: pool.to_owned(),
            record: Arc::downgrade(record),
            phase: AtomicU8::new(Phase::Queued as u8),
            position: AtomicUsize::default(),
            events: AtomicU64::default(),
            stopped: AtomicBool::default(),
            waker: AtomicWaker::new(),
        });
        self.shard(id).insert(id, Arc::clone(&entry));
        Live { roll: Arc::clone(self), entry }
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = (0..self.shards.len() as u64)
            .flat_map(|id| self.shard(id).values().cloned().collect::<Vec<_>>())
            .collect();
        all.sort_unstable_by_key(|entry| entry.id);
        all
    }

    /// One of them.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Entry>> {
        self.shard(id).get(&id).cloned()
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of sixteen")]
    fn shard(&self, id: u64) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        let shard = &self.shards[(id % self.shards.len() as u64) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// It is so far now.
    pub(crate) fn is(&self, phase: Phase) {
        self.entry.phase.store(phase as u8, Relaxed);
    }

    /// So many are ahead of it.
    pub(crate) fn behind(&self, position: usize) {
        self.entry.position.store(position, Relaxed);
    }

    /// So many events came.
    pub(crate) fn came(&self, events: u64) {
        self.entry.events.fetch_add(events, Relaxed);
    }

    /// What others know of it.
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

/// What becomes of a request that an operator stopped before its answer began. Clients do not try that again by themselves.
pub(crate) fn stopped() -> Failure {
    let failure = Failure::rejected(StatusCode::FORBIDDEN, "stopped", "the operator stopped the request");
    Failure { cause: Cause::Stopped, ..failure }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.roll.shard(self.entry.id).remove(&self.entry.id);
    }
}

impl Entry {
    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Queued,
            1 => Phase::Waiting,
            _ => Phase::Streaming,
        }
    }

    /// How many are ahead of it while it waits for its turn.
    pub(crate) fn position(&self) -> usize {
        self.position.load(Relaxed)
    }

    /// Events that came.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Relaxed)
    }

    /// Waits until somebody stops it. Cancel-safe; for one task at a time.
    pub(crate) async fn stopped(&self) {
        poll_fn(|cx| self.poll_stopped(cx)).await;
    }

    /// The poll form of [`stopped`](Self::stopped).
    pub(crate) fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stopped.load(Relaxed) {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.stopped.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The same for a task that looks with every event.
    pub(crate) fn stop_signal(self: &Arc<Self>) -> StopSignal {
        StopSignal { entry: Arc::clone(self), waker: None }
    }

    /// Its record, unless it has just ended.
    pub(crate) fn record(&self) -> Option<Arc<Record>> {
        self.record.upgrade()
    }

    /// Ends it as soon as its task runs.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.waker.wake();
    }
}

/// Somebody's wish that a request stops, cheap to look at again and again from the same task.
pub(crate) struct StopSignal {
    entry: Arc<Entry>,
    /// Who was to be woken when it was looked at before.
    waker: Option<Waker>,
}

impl StopSignal {
    /// Ready when somebody has stopped it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return if self.entry.stopped.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending };
        }
        self.waker = Some(cx.waker().clone());
        self.entry.poll_stopped(cx)
    }
}
