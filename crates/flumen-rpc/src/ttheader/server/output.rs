use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::outbox::Outbox;

/// A buffer that large messages have made larger is given back.
const KEPT: usize = 128 * 1024;

/// Writes what is in an outbox: all that is ready together in one piece.
#[derive(Debug)]
pub(super) struct Output {
    outbox: Arc<Outbox>,
    batch: Vec<u8>,
    written: usize,
    /// Room that the batch has taken.
    taken: usize,
}

impl Output {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, batch: Vec::new(), written: 0, taken: 0 }
    }

    /// Writes until nothing is left.
    pub(super) fn poll<I: AsyncWrite + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.batch.len() {
                match ready!(Pin::new(&mut *io).poll_write(cx, &self.batch[self.written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.written += written,
                }
            }
            self.batch.clear();
            self.written = 0;
            self.outbox.make_room(std::mem::take(&mut self.taken));
            if self.batch.capacity() > KEPT {
                self.batch = Vec::new();
            }
            match self.outbox.take(&mut self.batch, cx) {
                Some(taken) => self.taken = taken,
                None => return Pin::new(io).poll_flush(cx),
            }
        }
    }

    /// Holds no memory while nothing happens.
    pub(super) fn shrink(&mut self) {
        if self.batch.is_empty() {
            self.batch = Vec::new();
        }
        self.outbox.shrink();
    }
}
