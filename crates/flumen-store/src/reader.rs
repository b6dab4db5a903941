use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    vec,
};

use bytes::Bytes;
use flumen_stream::Frame;
use futures_util::{Stream, future::Either};

use crate::{Attendance, Ending, EventId, Page, Position, Refused, Reply, Store, StreamId, attendance::Turn};

/// One frame, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place.
    pub at: Position,
    /// The frame.
    pub frame: Bytes,
}

/// Its size is that of the frame.
impl Frame for Item {
    fn size(&self) -> usize {
        self.frame.len()
    }
}

/// A reader of a stream. It yields every frame after the place at which it was attached, once and in order, waits for those to
/// come, and ends with the stream. A [`Stream`] of results: an error says why it can go no further.
///
/// It reads no further ahead than [`Reader::PAGE`] bytes. Cancel-safe, like every stream.
pub struct Reader {
    store: Arc<dyn Store>,
    attendance: Arc<Attendance>,
    seat: u64,
    id: StreamId,
    /// The number of the last frame that was handed out, or is waiting here.
    after: u64,
    place: Position,
    page: vec::IntoIter<Bytes>,
    asked: Option<Reply<Result<Page, Refused>>>,
    ending: Option<Ending>,
    /// The store was asked before.
    looked: bool,
    done: bool,
}

impl Reader {
    /// A reader takes pages of about this many bytes from the store.
    pub const PAGE: usize = 8 * 1024;

    /// A reader that begins after the frame with the number `after`; 0 is the beginning.
    ///
    /// # Errors
    /// [`Refused::Unknown`]. Whether the place can be read, the first item tells.
    pub fn attach(store: &Arc<dyn Store>, id: StreamId, after: u64) -> Result<Self, Refused> {
        let attendance = store.attendance(id).ok_or(Refused::Unknown)?;
        let seat = attendance.enter();
        Ok(Self {
            store: Arc::clone(store),
            attendance,
            seat,
            id,
            after,
            place: Position::default(),
            page: Vec::new().into_iter(),
            asked: None,
            ending: None,
            looked: false,
            done: false,
        })
    }

    /// The stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// What the `id` line of an item says.
    pub fn event_id(&self, item: &Item) -> EventId {
        EventId { stream: self.id, at: item.at }
    }

    /// How the stream ended, once everything was read.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.filter(|_| self.done)
    }

    /// Whether the writer has sent this reader away because nobody read fast enough.
    pub fn is_dismissed(&self) -> bool {
        !self.attendance.is_present(self.seat)
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Item, Refused>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn take(&mut self) -> Option<Item> {
        let frame = self.page.next()?;
        let at = self.place;
        self.place.seq += 1;
        Some(Item { at, frame })
    }

    /// Asks the store for what follows.
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        if self.asked.is_none() {
            self.asked = Some(self.store.read(self.id, self.after, Self::PAGE));
        }
        let page = match self.asked.as_mut() {
            Some(Either::Left(ready)) => ready!(Pin::new(ready).poll(cx)),
            Some(Either::Right(future)) => ready!(future.as_mut().poll(cx)),
            None => return Poll::Ready(Ok(())),
        };
        self.asked = None;
        let page = page?;
        self.place = page.first;
        self.after += page.frames.len() as u64;
        self.page = page.frames.into_iter();
        self.ending = page.ending;
        Poll::Ready(Ok(()))
    }
}

impl Stream for Reader {
    type Item = Result<Item, Refused>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            if let Some(item) = this.take() {
                if this.page.len() == 0 {
                    // The page is used up: whoever paces itself after readers may send more.
                    this.attendance.took(item.at.seq);
                }
                return Poll::Ready(Some(Ok(item)));
            }
            if this.ending.is_some() {
                this.done = true;
                continue;
            }
            if this.asked.is_none() {
                // Registered before the store is asked, so that what comes in between is not missed.
                match this.attendance.poll_after(this.seat, this.after, cx) {
                    Poll::Ready(Turn::Leave) => {
                        this.done = true;
                        continue;
                    }
                    // Without news there is nothing to ask for, but the first time.
                    Poll::Pending if this.looked => return Poll::Pending,
                    _ => this.looked = true,
                }
            }
            match ready!(this.poll_page(cx)) {
                Ok(()) => {}
                Err(refused) => {
                    this.done = true;
                    return Poll::Ready(Some(Err(refused)));
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.attendance.leave(self.seat);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("id", &self.id).field("after", &self.after).finish_non_exhaustive()
    }
}
