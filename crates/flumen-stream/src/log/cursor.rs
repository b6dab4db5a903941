use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Arc, Frame, Place, Shared, park};
use crate::End;

/// A reading position in a log.
///
/// Every cursor sees every frame appended after it was attached, exactly once and in order, then the end: `None`
/// when the writer completed the stream, one `Err` and then `None` when it ended in any other way (also when the
/// writer was dropped). A cursor is a [`futures_util::Stream`]. Dropping the last one tells the writer at once.
#[derive(Debug)]
pub struct Cursor<T: Frame> {
    shared: Arc<Shared<T>>,
    id: u64,
    batch: VecDeque<T>,
    ended: bool,
}

impl<T: Frame> Cursor<T> {
    /// A cursor takes what is ready in batches of about this many bytes, under one lock.
    pub const BATCH: usize = 16 * 1024;

    /// A cursor at the first frame that the log still holds.
    pub(super) fn attach(shared: &Arc<Shared<T>>) -> Self {
        let mut state = shared.lock();
        let (id, next) = (state.next_cursor, state.first);
        state.next_cursor += 1;
        state.cursors.push(Place { cursor: id, next, waker: None });
        drop(state);
        Self { shared: Arc::clone(shared), id, batch: VecDeque::new(), ended: false }
    }

    /// The next frame; see the type for the end.
    ///
    /// Cancel-safe: a dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<Result<T, End>> {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    /// Waits until a frame or the end is there, without taking it. Returns whether it is a frame.
    ///
    /// Cancel-safe.
    pub async fn ready(&mut self) -> bool {
        poll_fn(|cx| if self.batch.is_empty() { self.poll_fill(cx) } else { Poll::Ready(()) }).await;
        !self.batch.is_empty()
    }

    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, End>>> {
        if self.batch.is_empty() && !self.ended {
            std::task::ready!(self.poll_fill(cx));
        }
        if let Some(frame) = self.batch.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        let state = self.shared.lock();
        Poll::Ready(match &state.end {
            Some(Err(end)) => Some(Err(end.clone())),
            _ => None,
        })
    }

    /// Takes what is ready together; ready with an empty batch at the end of the log.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let alone = state.cursors.len() == 1;
        let first = state.first;
        let place = state.place(self.id);
        let from = usize::try_from(place.next - first).expect("a cursor's lag fits in memory");
        if from == state.frames.len() {
            if state.end.is_some() {
                return Poll::Ready(());
            }
            park(&mut state.place(self.id).waker, cx);
            return Poll::Pending;
        }
        let mut bytes = 0;
        let mut taken = 0;
        if alone {
            while bytes < Self::BATCH
                && let Some(frame) = state.frames.pop_front()
            {
                bytes += frame.size();
                taken += 1;
                state.forget(&frame);
                self.batch.push_back(frame);
            }
        } else {
            for frame in state.frames.range(from..) {
                if bytes >= Self::BATCH {
                    break;
                }
                bytes += frame.size();
                taken += 1;
                self.batch.push_back(frame.clone());
            }
        }
        state.place(self.id).next += taken;
        let writer = state.release();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(())
    }
}

/// A second cursor at the same position.
impl<T: Frame> Clone for Cursor<T> {
    fn clone(&self) -> Self {
        let mut state = self.shared.lock();
        let id = state.next_cursor;
        state.next_cursor += 1;
        let next = state.place(self.id).next;
        state.cursors.push(Place { cursor: id, next, waker: None });
        drop(state);
        Self { shared: Arc::clone(&self.shared), id, batch: self.batch.clone(), ended: self.ended }
    }
}

impl<T: Frame> Drop for Cursor<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.cursors.retain(|place| place.cursor != self.id);
        let writer = state.release();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}
