use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use flumen_stream::{Pressure, Watermarks};
use tokio::time::Instant;

use crate::sync::{Mutex, MutexGuard, lock};

/// Who reads a stream in this process and who waits for it: wake-ups and pressure, nothing that must be true.
///
/// The writer waits for the reader that has come furthest, so a slow reader holds up nobody but itself. While there is no
/// reader at all, the writer does not wait.
#[derive(Debug)]
pub struct Attendance {
    seats: Mutex<Seats>,
}

#[derive(Debug)]
struct Seats {
    marks: Option<Watermarks>,
    pressure: Pressure,
    readers: Vec<Seat>,
    next_reader: u64,
    /// The number of the last frame that was appended.
    tail: u64,
    /// The number of the last frame that some reader has taken.
    read: u64,
    /// Sizes of the frames after `read`.
    unread: VecDeque<u32>,
    unread_bytes: usize,
    /// Since when there has been no reader.
    empty_since: Instant,
    /// Grows whenever a reader takes something.
    taken: u64,
    writer: Option<Waker>,
    /// The writer waits until something unread is read, however little.
    full: bool,
    stop: bool,
    closed: bool,
}

#[derive(Debug)]
struct Seat {
    reader: u64,
    waker: Option<Waker>,
}

/// What a reader has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Ask the store.
    Look,
    /// Go: the stream is read too slowly.
    Leave,
}

impl Attendance {
    /// Nobody is there yet. The last frame that the stream has is the number `tail`.
    pub(crate) fn new(tail: u64) -> Self {
        Self {
            seats: Mutex::new(Seats {
                marks: None,
                pressure: Pressure::Flowing,
                readers: Vec::new(),
                next_reader: 0,
                tail,
                read: tail,
                unread: VecDeque::new(),
                unread_bytes: 0,
                empty_since: Instant::now(),
                taken: 0,
                writer: None,
                full: false,
                stop: false,
                closed: false,
            }),
        }
    }

    /// How many read now.
    pub fn readers(&self) -> usize {
        lock(&self.seats).readers.len()
    }

    /// Asks whoever writes the stream to stop.
    pub fn stop(&self) {
        let mut seats = lock(&self.seats);
        seats.stop = true;
        let writer = seats.writer.take();
        drop(seats);
        wake(writer);
    }

    /// Whether the writer was asked to stop.
    pub fn is_stopped(&self) -> bool {
        lock(&self.seats).stop
    }

    /// Lets the writer wait for readers at these marks.
    pub(crate) fn pace(&self, marks: Option<Watermarks>) {
        lock(&self.seats).marks = marks;
    }

    /// Frames were appended.
    pub(crate) fn appended(&self, frames: &[Bytes]) {
        let mut seats = lock(&self.seats);
        for frame in frames {
            let size = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            seats.unread.push_back(size);
            seats.unread_bytes += size as usize;
        }
        seats.tail += frames.len() as u64;
        // A reader may have found them in the store before this was called.
        seats.forget_read();
        seats.judge();
        wake_readers(seats);
    }

    /// The end was recorded, or the stream was forgotten.
    pub(crate) fn closed(&self) {
        let mut seats = lock(&self.seats);
        seats.closed = true;
        // Nobody waits for readers any more.
        (seats.unread, seats.unread_bytes) = (VecDeque::new(), 0);
        let writer = seats.writer.take();
        wake_readers(seats);
        wake(writer);
    }

    /// The number of the last frame that some reader has taken.
    pub(crate) fn read(&self) -> u64 {
        lock(&self.seats).read
    }

    /// Bytes that no reader has taken, while the stream is open.
    pub(crate) fn unread(&self) -> usize {
        lock(&self.seats).unread_bytes
    }

    /// Grows whenever a reader takes something: it stands still while all of them stall.
    pub(crate) fn taken(&self) -> u64 {
        lock(&self.seats).taken
    }

    /// Since when nobody has read, if nobody reads.
    pub(crate) fn empty_since(&self) -> Option<Instant> {
        let seats = lock(&self.seats);
        seats.readers.is_empty().then_some(seats.empty_since)
    }

    /// Sends all readers away who are there now: they do not read, or their writer cannot go on. They count as gone at once, even
    /// those that nobody polls.
    pub fn dismiss(&self) {
        let mut seats = lock(&self.seats);
        if seats.readers.is_empty() {
            return;
        }
        let readers = std::mem::take(&mut seats.readers);
        seats.empty_since = Instant::now();
        drop(seats);
        readers.into_iter().filter_map(|seat| seat.waker).for_each(Waker::wake);
    }

    /// Ready while the readers keep up; otherwise wakes the writer when something has changed.
    pub(crate) fn poll_flowing(&self, cx: &Context<'_>) -> Poll<()> {
        let mut seats = lock(&self.seats);
        if seats.pressure == Pressure::Flowing || seats.readers.is_empty() {
            return Poll::Ready(());
        }
        seats.park_writer(cx);
        Poll::Pending
    }

    /// Wakes the writer when readers come, go or take something, or when it shall stop.
    pub(crate) fn watch(&self, full: bool, cx: &Context<'_>) {
        let mut seats = lock(&self.seats);
        seats.full = full;
        seats.park_writer(cx);
    }

    pub(crate) fn enter(&self) -> u64 {
        let mut seats = lock(&self.seats);
        let reader = seats.next_reader;
        seats.next_reader += 1;
        seats.readers.push(Seat { reader, waker: None });
        let writer = seats.writer.take();
        drop(seats);
        wake(writer);
        reader
    }

    pub(crate) fn leave(&self, reader: u64) {
        let mut seats = lock(&self.seats);
        let before = seats.readers.len();
        seats.readers.retain(|seat| seat.reader != reader);
        if seats.readers.is_empty() && before > 0 {
            seats.empty_since = Instant::now();
            let writer = seats.writer.take();
            drop(seats);
            wake(writer);
        }
    }

    /// A reader has taken everything up to this number.
    pub(crate) fn took(&self, seq: u64) {
        let mut seats = lock(&self.seats);
        seats.taken += 1;
        seats.read = seats.read.max(seq);
        seats.forget_read();
        let before = seats.pressure;
        seats.judge();
        // Whoever waits for room, too, waits for the low mark: not for every frame.
        let writer = if before != seats.pressure || seats.full { seats.writer.take() } else { None };
        drop(seats);
        wake(writer);
    }

    /// Waits for something after the number `seq`.
    pub(crate) fn poll_after(&self, reader: u64, seq: u64, cx: &Context<'_>) -> Poll<Turn> {
        let mut seats = lock(&self.seats);
        let news = seats.tail > seq || seats.closed;
        let Some(seat) = seats.readers.iter_mut().find(|seat| seat.reader == reader) else {
            return Poll::Ready(Turn::Leave);
        };
        if news {
            return Poll::Ready(Turn::Look);
        }
        match &mut seat.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether a reader has its place still.
    pub(crate) fn is_present(&self, reader: u64) -> bool {
        lock(&self.seats).readers.iter().any(|seat| seat.reader == reader)
    }
}

/// Wakes all readers that wait, after the lock is released. Most streams have one: that needs no allocation.
fn wake_readers(mut seats: MutexGuard<'_, Seats>) {
    let mut waiting = seats.readers.iter_mut().filter_map(|seat| seat.waker.take());
    let (first, more) = (waiting.next(), waiting.collect::<Vec<_>>());
    drop(seats);
    first.into_iter().chain(more).for_each(Waker::wake);
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

impl Seats {
    fn forget_read(&mut self) {
        while self.tail - (self.unread.len() as u64) < self.read
            && let Some(size) = self.unread.pop_front()
        {
            self.unread_bytes -= size as usize;
        }
    }

    fn judge(&mut self) {
        if let Some(marks) = self.marks {
            self.pressure = marks.judge(self.pressure, self.unread_bytes);
        }
    }

    fn park_writer(&mut self, cx: &Context<'_>) {
        match &mut self.writer {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
    }
}
