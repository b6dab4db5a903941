//! The stream itself: a bounded log with one writer and any number of cursors.
//!
//! A frame stays in the log until every cursor has taken it, so what the log holds is the lag of its slowest reader.
//! At the high mark the writer waits, at the low mark it goes on ([`Watermarks`]). There is no queue per reader.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Poll, Waker},
};

use bytes::Bytes;

use crate::{End, Event, Pressure, Watermarks};

mod cursor;
mod sync;
mod writer;

pub use cursor::Cursor;
pub use writer::Writer;

use sync::{Arc, Mutex, MutexGuard};

/// One unit that travels. Cloning must be cheap: each further cursor clones the frames it takes.
pub trait Frame: Clone + Unpin {
    /// The bytes that the frame counts for against the log's bound.
    fn size(&self) -> usize;
}

impl Frame for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

/// What failed has no size.
impl<T: Frame, E: Clone + Unpin> Frame for Result<T, E> {
    fn size(&self) -> usize {
        self.as_ref().map_or(0, Frame::size)
    }
}

impl Frame for Event {
    fn size(&self) -> usize {
        self.wire().len()
    }
}

/// Makes a log and its first cursor.
///
/// The log holds at most the high mark plus one append; a cursor holds at most [`Cursor::BATCH`] bytes more that it
/// has taken and not yet handed out.
pub fn log<T: Frame>(marks: Watermarks) -> (Writer<T>, Cursor<T>) {
    log_in(marks, std::sync::Arc::default())
}

/// Makes a log whose bytes also count in an account, which many logs may share.
pub fn log_in<T: Frame>(marks: Watermarks, account: std::sync::Arc<AtomicUsize>) -> (Writer<T>, Cursor<T>) {
    let shared = Arc::new(Shared { state: Mutex::new(State::new(marks, account)) });
    let cursor = Cursor::attach(&shared);
    (Writer::new(shared), cursor)
}

/// Nobody reads the log any more: the writer may as well stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every reader of the log is gone")]
pub struct Closed;

struct Shared<T> {
    state: Mutex<State<T>>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic elsewhere leaves the state whole: no code of the caller runs under this lock save `Frame::clone`
        // and `Frame::size`, which come before any change.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

struct State<T> {
    marks: Watermarks,
    pressure: Pressure,
    frames: VecDeque<T>,
    /// Sequence number of the first frame in `frames`.
    first: u64,
    /// Size of `frames` in bytes.
    bytes: usize,
    /// Where `bytes` are counted as well, together with those of other logs.
    account: std::sync::Arc<AtomicUsize>,
    /// Bytes that the slowest cursor has taken since the log was made.
    taken: u64,
    cursors: Vec<Place>,
    /// Identifies the next cursor.
    next_cursor: u64,
    writer: Option<Waker>,
    /// The low mark was just reached. The writer is woken then, not at every frame that is taken.
    resumed: bool,
    end: Option<Result<(), End>>,
}

impl<T> Drop for State<T> {
    fn drop(&mut self) {
        self.account.fetch_sub(self.bytes, Relaxed);
    }
}

/// Most logs have one cursor: its waker needs no allocation.
type Wakers = (Option<Waker>, Vec<Waker>);

fn wake((one, more): Wakers) {
    one.into_iter().chain(more).for_each(Waker::wake);
}

/// Where one cursor stands, and whom to wake when there is more.
struct Place {
    cursor: u64,
    /// Sequence number of the next frame to take.
    next: u64,
    waker: Option<Waker>,
}

impl<T: Frame> State<T> {
    fn new(marks: Watermarks, account: std::sync::Arc<AtomicUsize>) -> Self {
        Self {
            marks,
            pressure: Pressure::Flowing,
            frames: VecDeque::new(),
            first: 1,
            bytes: 0,
            account,
            taken: 0,
            cursors: Vec::new(),
            next_cursor: 0,
            writer: None,
            resumed: false,
            end: None,
        }
    }

    fn place(&mut self, cursor: u64) -> &mut Place {
        self.cursors
            .iter_mut()
            .find(|place| place.cursor == cursor)
            .expect("a cursor has a place until its drop")
    }

    fn push(&mut self, frame: T) {
        self.bytes += frame.size();
        self.account.fetch_add(frame.size(), Relaxed);
        self.frames.push_back(frame);
        self.pressure = self.marks.judge(self.pressure, self.bytes);
    }

    /// Drops the frames that every cursor has taken. Returns the writer's waker if the writer may go on.
    fn release(&mut self) -> Option<Waker> {
        let slowest = self.cursors.iter().map(|place| place.next).min();
        let slowest = slowest.unwrap_or(self.first + self.frames.len() as u64);
        while self.first < slowest {
            let Some(frame) = self.frames.pop_front() else { break };
            self.forget(&frame);
        }
        self.writer_to_wake()
    }

    /// Counts a frame out that has left the front of the log.
    fn forget(&mut self, frame: &T) {
        self.first += 1;
        self.bytes -= frame.size();
        self.account.fetch_sub(frame.size(), Relaxed);
        self.taken += frame.size() as u64;
        let pressure = self.marks.judge(self.pressure, self.bytes);
        self.resumed |= pressure != self.pressure;
        self.pressure = pressure;
    }

    fn writer_to_wake(&mut self) -> Option<Waker> {
        let resumed = std::mem::take(&mut self.resumed);
        if resumed || self.cursors.is_empty() { self.writer.take() } else { None }
    }

    /// The readers to wake, to be woken after the lock is released.
    fn readers(&mut self) -> Wakers {
        let mut waiting = self.cursors.iter_mut().filter_map(|place| place.waker.take());
        (waiting.next(), waiting.collect())
    }
}

/// Keeps `slot` in step with the task that polls now; a waker is cloned only when the task has changed.
fn park(slot: &mut Option<Waker>, cx: &std::task::Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

type Taken<T> = Poll<Option<Result<T, End>>>;

impl<T: Frame> futures_util::Stream for Cursor<T> {
    type Item = Result<T, End>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Taken<T> {
        self.get_mut().poll_take(cx)
    }
}

#[cfg(test)]
mod tests;
