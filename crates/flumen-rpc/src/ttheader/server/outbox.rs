//! What all handlers of a connection have to say, on its way to the one task that writes.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Status, exchange::over};

/// Frames that wait to be written. Handlers take room for theirs, in the order in which they asked, and get it when others' have
/// been written.
#[derive(Debug)]
pub(super) struct Outbox {
    /// A permit for each byte that may wait.
    room: Semaphore,
    capacity: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<u8>,
    /// Room that these frames have taken.
    taken: usize,
    writer: Option<Waker>,
}

/// Room in an outbox.
pub(super) type Room<'a> = SemaphorePermit<'a>;

impl Outbox {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { room: Semaphore::new(capacity as usize), capacity, waiting: Mutex::default() }
    }

    /// Waits for room for so many bytes; for what is larger than the outbox, until it is empty.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room<'_>, Status> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity);
        self.room.acquire_many(permits).await.map_err(|_| over())
    }

    pub(super) fn is_full(&self) -> bool {
        self.room.available_permits() == 0
    }

    /// Puts frames into room that was taken. `write` runs while nobody else can write.
    pub(super) fn put<R>(&self, room: Room<'_>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut waiting = self.lock();
        waiting.taken += room.num_permits();
        room.forget();
        finish(waiting, write)
    }

    /// Puts a frame that nobody waits to send. Returns how many bytes more are waiting.
    pub(super) fn put_unasked(&self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        finish(self.lock(), |frames| {
            let before = frames.len();
            write(frames);
            frames.len() - before
        })
    }

    /// Swaps what waits for an empty buffer; returns the room that it has taken. `None` when nothing waits, and the task is woken
    /// when something does.
    pub(super) fn take(&self, into: &mut Vec<u8>, cx: &mut Context<'_>) -> Option<usize> {
        let mut waiting = self.lock();
        if waiting.frames.is_empty() {
            match &waiting.writer {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => waiting.writer = Some(cx.waker().clone()),
            }
            return None;
        }
        mem::swap(&mut waiting.frames, into);
        Some(mem::take(&mut waiting.taken))
    }

    /// Frames that took so much room have been written.
    pub(super) fn make_room(&self, taken: usize) {
        if taken > 0 {
            self.room.add_permits(taken);
        }
    }

    /// Holds no more memory than it needs.
    pub(super) fn shrink(&self) {
        self.lock().frames.shrink_to_fit();
    }

    /// Nobody writes any more.
    pub(super) fn close(&self) {
        self.room.close();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes, and wakes the task that writes to the connection after the lock is released.
fn finish<R>(mut waiting: MutexGuard<'_, Waiting>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let outcome = write(&mut waiting.frames);
    let writer = if waiting.frames.is_empty() { None } else { waiting.writer.take() };
    drop(waiting);
    if let Some(writer) = writer {
        writer.wake();
    }
    outcome
}
