//! A queue as its users hold it: bringing work, waiting for room, cancelling.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{
    config::{QueueConfig, WhenFull},
    job::{Job, Tag},
    schedule::QueueId,
    shared::{Shared, ended},
};
use crate::{Error, ErrorKind, Result};

/// A queue as its users hold it; the last one that goes closes it.
pub(super) struct QueueHandle {
    pub(super) owner: Arc<Owner>,
    pub(super) id: QueueId,
    pub(super) name: String,
    pub(super) config: QueueConfig,
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
        let wait = self.config.when_full == WhenFull::Wait;
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
pub(super) enum Pushed {
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
