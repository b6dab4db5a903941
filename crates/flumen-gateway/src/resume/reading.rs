use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use flumen_store::{Reader, Refused};
use flumen_stream::{Cause, End};
use flumen_wire::listen::Signal;
use futures_util::{Stream, stream::BoxStream};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::Numbered;
use crate::{core::Core, dispatch::revoked};

/// The events for one client, at the pace that it may have.
pub(super) type Paced = BoxStream<'static, Result<Numbered, End>>;

/// A reader on its way to a client: every end that is not that of the stream is said.
///
/// When the server stops and the stream outlives it, the reader is sent away between two events, so that it comes back.
pub(super) struct Reading {
    reader: Reader,
    /// The beginning of the server's end, for streams that outlive it.
    drain: Option<Signal>,
    /// Cancelled when whoever reads may no longer.
    revoked: CancellationToken,
    /// Runs since the drain began: how long an event is waited for to carry the word.
    patience: Option<Pin<Box<Sleep>>>,
    done: bool,
}

/// An event that carries the word of leaving is waited for this long.
const PATIENCE: Duration = Duration::from_millis(300);

/// A reader that is sent away is told to come back after so many milliseconds: not all at once.
const RETURN: std::ops::Range<u64> = 500..3000;

impl Reading {
    pub(super) fn new(reader: Reader, core: &Core, revoked: CancellationToken) -> Self {
        let drain = core.store().is_durable().then(|| core.shutdown().drain_signal());
        Self { reader, drain, revoked, patience: None, done: false }
    }

    /// Whether the reader has to go now.
    fn is_leaving(&mut self, cx: &mut Context<'_>) -> bool {
        self.patience.is_some() || self.drain.as_mut().is_some_and(|drain| drain.poll(cx).is_ready())
    }
}

impl Stream for Reading {
    type Item = Result<Numbered, End>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let leaving = this.is_leaving(cx);
        match Pin::new(&mut this.reader).poll_next(cx) {
            Poll::Ready(Some(Ok(_))) if this.revoked.is_cancelled() => {
                this.done = true;
                Poll::Ready(Some(Err(revoked())))
            }
            Poll::Ready(Some(Ok(item))) => {
                let id = this.reader.event_id(&item);
                this.done = leaving;
                let retry = leaving.then(|| Duration::from_millis(fastrand::u64(RETURN)));
                Poll::Ready(Some(Ok(Numbered { id: Some(id), wire: item.frame, retry })))
            }
            Poll::Ready(Some(Err(refused))) => {
                this.done = true;
                Poll::Ready(Some(Err(lost_place(&refused))))
            }
            Poll::Ready(None) => {
                this.done = true;
                if this.reader.ending().is_some() {
                    return Poll::Ready(None);
                }
                let message = "the stream cannot be read any further here; it may be resumed";
                Poll::Ready(Some(Err(End::new(Cause::Internal, message).with_code("reader_dismissed"))))
            }
            Poll::Pending if leaving => {
                let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(patience.as_mut().poll(cx));
                this.done = true;
                let wire = Bytes::from_static(b": the server stops; come back\n");
                Poll::Ready(Some(Ok(Numbered { id: None, wire, retry: None })))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The end of a reader whose place was lost while it read.
fn lost_place(refused: &Refused) -> End {
    let code = match refused {
        Refused::Unknown => "stream_not_found",
        Refused::TooOld { .. } => "cursor_too_old",
        _ => "store_failed",
    };
    End::new(Cause::Internal, format!("the stream can no longer be read: {refused}")).with_code(code)
}
