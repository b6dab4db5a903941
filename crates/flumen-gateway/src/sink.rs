//! Where a relay puts what it receives: into a log for one client, or into a stream that is kept.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use flumen_store::{Ending, Producer, Refused, Unwanted};
use flumen_stream::{Cause, End, Writer};

use crate::{
    burst::Burst,
    provider::openai::{self, Look},
};

/// The far end of a relay.
pub(crate) enum Sink {
    /// A log that one response reads; when it goes, so does the stream.
    Passing(Writer<Burst>),
    /// A stream that outlives its readers.
    Kept(Box<Kept>),
}

/// A stream that is kept, with what its end needs.
pub(crate) struct Kept {
    pub(crate) producer: Producer,
    /// The last event; a stopped answer ends in its likeness.
    last: Option<Bytes>,
}

/// Why a sink takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Nobody reads.
    Left,
    /// Somebody asked for it to stop.
    Stopped,
}

impl From<Unwanted> for Gone {
    fn from(unwanted: Unwanted) -> Self {
        match unwanted {
            Unwanted::Stopped => Self::Stopped,
            Unwanted::Abandoned => Self::Left,
        }
    }
}

impl Sink {
    /// A stream that is kept.
    pub(crate) fn kept(producer: Producer) -> Self {
        Self::Kept(Box::new(Kept { producer, last: None }))
    }

    /// Whether events must stay apart: in a stream that is kept each has a number.
    pub(crate) fn numbers_events(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// Ready when more may come.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self {
            Self::Passing(log) => log.poll_ready(cx).map_err(|_| Gone::Left),
            Self::Kept(kept) => match kept.producer.poll_unwanted(cx) {
                Poll::Ready(unwanted) => Poll::Ready(Err(unwanted.into())),
                Poll::Pending => kept.producer.poll_ready(cx).map(Ok),
            },
        }
    }

    /// Ready when nothing more is wanted.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Self::Passing(log) => log.poll_closed(cx).map(|()| Gone::Left),
            Self::Kept(kept) => kept.producer.poll_unwanted(cx).map(Gone::from),
        }
    }

    /// Grows whenever a reader takes something.
    pub(crate) fn taken(&self) -> u64 {
        match self {
            Self::Passing(log) => log.taken(),
            Self::Kept(kept) => kept.producer.taken(),
        }
    }

    /// Those who should read have not for too long. Whether the stream goes on without them.
    pub(crate) fn give_readers_up(&self) -> bool {
        match self {
            Self::Passing(_) => false,
            Self::Kept(kept) => {
                kept.producer.dismiss();
                true
            }
        }
    }

    /// Takes what came together.
    pub(crate) async fn push(&mut self, bursts: &mut Vec<Burst>) -> Result<(), End> {
        match self {
            Self::Passing(log) => {
                log.push(bursts.drain(..));
                Ok(())
            }
            Self::Kept(kept) => {
                if let Some(burst) = bursts.last() {
                    kept.last = Some(burst.wire.clone());
                }
                kept.append(bursts.drain(..).map(|burst| burst.wire).collect()).await
            }
        }
    }

    /// The answer is complete.
    pub(crate) async fn complete(self) {
        match self {
            Self::Passing(log) => log.complete(),
            Self::Kept(kept) => kept.end(Cause::Complete, Vec::new()).await,
        }
    }

    /// The upstream has told readers itself that it failed.
    pub(crate) async fn told(self, cause: Cause) {
        match self {
            Self::Passing(log) => log.complete(),
            Self::Kept(kept) => kept.end(cause, Vec::new()).await,
        }
    }

    /// The answer ends in any other way but the good one.
    pub(crate) async fn fail(self, end: End) {
        match self {
            Self::Passing(log) => log.fail(end),
            Self::Kept(kept) => {
                let words = vec![openai::error_event(&end).into_wire()];
                kept.end(end.cause, words).await;
            }
        }
    }

    /// Nobody wants the answer.
    pub(crate) async fn leave(self, gone: Gone) {
        match (self, gone) {
            (Self::Passing(_), Gone::Left) => {}
            (Self::Passing(mut log), Gone::Stopped) => {
                let words = openai::stopped_events(None);
                log.push(words.into_iter().map(|wire| Burst { wire, events: 1, error: false }));
                log.complete();
            }
            (Self::Kept(kept), Gone::Stopped) => {
                let words = openai::stopped_events(kept.last.as_deref());
                kept.end(Cause::Stopped, words).await;
            }
            (kept @ Self::Kept(_), Gone::Left) => {
                let end =
                    End::new(Cause::ClientGone, "the generation was cancelled: nobody read it for too long");
                Box::pin(kept.fail(end)).await;
            }
        }
    }
}

impl Kept {
    async fn append(&mut self, frames: Vec<Bytes>) -> Result<(), End> {
        if frames.is_empty() {
            return Ok(());
        }
        self.producer.append(frames).await.map_err(|refused| store_failed(&refused))
    }

    async fn end(mut self: Box<Self>, cause: Cause, words: Vec<Bytes>) {
        let attendance = Arc::clone(self.producer.attendance());
        let id = self.producer.id();
        let ended = match self.append(words).await {
            Ok(()) => self.producer.end(Ending::of(cause)).await.map_err(|refused| store_failed(&refused)),
            Err(end) => Err(end),
        };
        if let Err(end) = ended {
            tracing::error!(stream = ?id, "the end of a stream cannot be kept: {end}");
            // Readers must not wait for what will never come.
            attendance.dismiss();
        }
    }
}

/// The end of a stream whose store does not take it.
pub(crate) fn store_failed(refused: &Refused) -> End {
    End::new(Cause::Internal, format!("the stream cannot be kept: {refused}")).with_code("store_failed")
}

/// Whether an event reports an error.
pub(crate) fn is_error(event: &flumen_stream::Event) -> bool {
    openai::look(event) == Look::Error
}
