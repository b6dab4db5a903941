use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use flumen_stream::Watermarks;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{About, Attendance, Batch, Ending, Refused, Room, Store, StreamId, Tenure};

/// The writing end of a stream.
///
/// Dropping it without [`end`](Self::end) leaves the stream open: nobody here writes it any more, and its readers wait until
/// somebody [takes it over](Self::take_over).
#[derive(Debug)]
pub struct Producer {
    store: Arc<dyn Store>,
    tenure: Tenure,
    next: u64,
    attendance: Arc<Attendance>,
    /// Appending goes on when readers have come as far as this number.
    full: Option<u64>,
    grace: Option<Duration>,
    /// Runs while nobody reads.
    absence: Option<Pin<Box<Sleep>>>,
}

/// Why a stream need not be written any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// Somebody asked for it to stop.
    Stopped,
    /// Nobody has read it for longer than the grace.
    Abandoned,
}

impl Producer {
    /// Begins a stream.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn create(store: &Arc<dyn Store>, id: StreamId, about: About) -> Result<Self, Refused> {
        let tenure = store.create(id, about).await?;
        Self::with(store, tenure)
    }

    /// Becomes the writer of a stream that has lost its own. The writer before is refused from now on.
    ///
    /// # Errors
    /// When the store refuses: the stream is unknown, or has ended.
    pub async fn take_over(store: &Arc<dyn Store>, id: StreamId) -> Result<Self, Refused> {
        let tenure = store.take_over(id).await?;
        Self::with(store, tenure)
    }

    fn with(store: &Arc<dyn Store>, tenure: Tenure) -> Result<Self, Refused> {
        let attendance = store.attendance(tenure.id).ok_or(Refused::Unknown)?;
        let store = Arc::clone(store);
        let next = tenure.next;
        Ok(Self { store, tenure, next, attendance, full: None, grace: None, absence: None })
    }

    /// Waits for readers at these marks of unread bytes. Without marks the writer does not wait for readers, except when the
    /// stream is full.
    pub fn paced(self, marks: Option<Watermarks>) -> Self {
        self.attendance.pace(marks);
        self
    }

    /// Without a reader for longer than this, the stream is [unwanted](Self::poll_unwanted).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// The stream.
    pub fn id(&self) -> StreamId {
        self.tenure.id
    }

    /// Who reads.
    pub fn attendance(&self) -> &Arc<Attendance> {
        &self.attendance
    }

    /// Grows whenever a reader takes something.
    pub fn taken(&self) -> u64 {
        self.attendance.taken()
    }

    /// Sends those readers away that are there now; they may come back.
    pub fn dismiss(&self) {
        self.attendance.dismiss();
    }

    /// Appends frames. When it returns, the store has them, and readers are woken.
    ///
    /// Not cancel-safe: a store that is not in memory may or may not have the frames when the future is dropped.
    ///
    /// # Errors
    /// When the store refuses; nothing was appended.
    pub async fn append(&mut self, frames: Vec<Bytes>) -> Result<(), Refused> {
        let count = frames.len() as u64;
        let read = self.attendance.read();
        let batch = Batch { first: self.next, frames, read };
        let room = self.store.append(self.tenure, batch).await?;
        self.next += count;
        self.full = (room == Room::Full).then(|| read.midpoint(self.next));
        Ok(())
    }

    /// Records the end.
    ///
    /// # Errors
    /// When the store refuses: somebody else has taken the stream over or ended it.
    pub async fn end(self, ending: Ending) -> Result<(), Refused> {
        self.store.end(self.tenure, ending).await
    }

    /// Forgets the stream.
    pub async fn remove(self) {
        // Nobody can be helped by the refusal of something that is to be gone.
        let _ = self.store.remove(self.tenure.id).await;
    }

    /// Ready when the stream may grow: its readers keep up, and it is not full of what nobody has read.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = self.full {
            // Registered first: what is read in between wakes us.
            self.attendance.watch(true, cx);
            if self.attendance.read() < until {
                return Poll::Pending;
            }
            self.full = None;
        }
        self.attendance.poll_flowing(cx)
    }

    /// Ready when nobody wants the stream any more. It shares its wake-up with [`poll_ready`](Self::poll_ready): one task
    /// polls both.
    pub fn poll_unwanted(&mut self, cx: &mut Context<'_>) -> Poll<Unwanted> {
        self.attendance.watch(self.full.is_some(), cx);
        if self.attendance.is_stopped() {
            return Poll::Ready(Unwanted::Stopped);
        }
        let Some(grace) = self.grace else { return Poll::Pending };
        let Some(since) = self.attendance.empty_since() else {
            self.absence = None;
            return Poll::Pending;
        };
        let until =
            since.checked_add(grace).unwrap_or_else(|| Instant::now() + Duration::from_hours(24 * 365));
        let timer = self.absence.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx).map(|()| Unwanted::Abandoned)
    }
}
