use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Arc, Closed, Cursor, Frame, Shared, park, wake};
use crate::{Cause, End, Pressure};

/// The writing end of a log; there is one.
///
/// Dropping it without [`complete`](Self::complete) or [`fail`](Self::fail) ends the stream with
/// [`Cause::Internal`]: readers never mistake a lost producer for a finished answer.
#[derive(Debug)]
pub struct Writer<T: Frame> {
    shared: Arc<Shared<T>>,
}

impl<T: Frame> Writer<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared }
    }

    /// Waits until the log flows, then appends the frame.
    ///
    /// Cancel-safe in that nothing is appended when the future is dropped before it is done; the frame is dropped
    /// with it. To keep the frame, await [`ready`](Self::ready) and then [`push`](Self::push).
    ///
    /// # Errors
    /// [`Closed`] when no cursor is left.
    pub async fn append(&mut self, frame: T) -> Result<(), Closed> {
        self.ready().await?;
        self.push([frame]);
        Ok(())
    }

    /// Waits until the log flows.
    ///
    /// Cancel-safe: it changes nothing.
    ///
    /// # Errors
    /// [`Closed`] when no cursor is left.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// The poll form of [`ready`](Self::ready).
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut state = self.shared.lock();
        if state.cursors.is_empty() {
            return Poll::Ready(Err(Closed));
        }
        if state.pressure == Pressure::Flowing {
            return Poll::Ready(Ok(()));
        }
        park(&mut state.writer, cx);
        Poll::Pending
    }

    /// Appends frames that came together, whatever the pressure: one lock, one wake. The caller keeps the log
    /// bounded by waiting for [`ready`](Self::ready) before it reads more from its own source.
    pub fn push(&mut self, frames: impl IntoIterator<Item = T>) {
        let mut state = self.shared.lock();
        if state.cursors.is_empty() {
            return;
        }
        let before = state.frames.len();
        for frame in frames {
            state.push(frame);
        }
        if state.frames.len() == before {
            return;
        }
        let readers = state.readers();
        drop(state);
        wake(readers);
    }

    /// Waits until no cursor is left.
    ///
    /// Cancel-safe. It shares its wake-up with [`ready`](Self::ready): one task awaits either.
    pub async fn closed(&mut self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// The poll form of [`closed`](Self::closed).
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.cursors.is_empty() {
            return Poll::Ready(());
        }
        park(&mut state.writer, cx);
        Poll::Pending
    }

    /// Whether the log flows or is paused: what a producer tells its own source.
    pub fn pressure(&self) -> Pressure {
        self.shared.lock().pressure
    }

    /// Bytes that the log holds: the lag of its slowest cursor.
    pub fn lag(&self) -> usize {
        self.shared.lock().bytes
    }

    /// Bytes that every cursor has taken since the log was made; it stands still while a reader stalls.
    pub fn taken(&self) -> u64 {
        self.shared.lock().taken
    }

    /// Attaches one more cursor, at the first frame that the log still holds.
    pub fn cursor(&self) -> Cursor<T> {
        Cursor::attach(&self.shared)
    }

    /// Ends the stream well. Readers take what is left, then see its end.
    pub fn complete(self) {
        self.end(Ok(()));
    }

    /// Ends the stream with a cause. Readers take what is left, then see the cause.
    pub fn fail(self, end: End) {
        self.end(Err(end));
    }

    fn end(&self, end: Result<(), End>) {
        let mut state = self.shared.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        let readers = state.readers();
        drop(state);
        wake(readers);
    }
}

impl<T: Frame> Drop for Writer<T> {
    fn drop(&mut self) {
        self.end(Err(End::new(Cause::Internal, "the producer of the stream was lost")));
    }
}
