use std::{
    fmt,
    future::Ready,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flumen_stream::Cause;
use futures_util::future::{BoxFuture, Either};
use serde::{Deserialize, Serialize};

use crate::{Attendance, Position, StreamId};

/// Where streams are kept.
///
/// The store is the truth: who wrote what, in which order, and how it ended. Whoever was told that an [`append`](Self::append)
/// succeeded will find it. Waking those who wait is not part of the truth; it is the business of the stream's
/// [`Attendance`], may come for nothing, and a reader that was woken asks the store.
///
/// Several processes may share a store. Of the writers of a stream only the last one counts: each has a [`Tenure`] with
/// an epoch, and the store refuses whoever's epoch is not the newest.
///
/// Answers are futures that are ready at once where the store is in memory ([`now`]), and boxed where it is not ([`later`]).
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Begins a stream.
    fn create(&self, id: StreamId, about: About) -> Reply<Result<Tenure, Refused>>;

    /// Appends frames. Nothing of a refused batch is kept.
    fn append(&self, tenure: Tenure, batch: Batch) -> Reply<Result<Room, Refused>>;

    /// Records how the stream ended. Nothing can be appended after it.
    fn end(&self, tenure: Tenure, ending: Ending) -> Reply<Result<(), Refused>>;

    /// Makes the caller the stream's writer. The one before it is refused from now on.
    fn take_over(&self, id: StreamId) -> Reply<Result<Tenure, Refused>>;

    /// Reads what follows the frame with the number `after`: at least one frame if there is one, else about as many as
    /// fit in `limit` bytes. It does not wait.
    fn read(&self, id: StreamId, after: u64, limit: usize) -> Reply<Result<Page, Refused>>;

    /// What is known of a stream.
    fn status(&self, id: StreamId) -> Reply<Result<Status, Refused>>;

    /// The streams of an owner, newest first, or of everybody.
    fn list(&self, owner: Option<&str>) -> Reply<Result<Vec<Status>, Refused>>;

    /// Forgets a stream.
    fn remove(&self, id: StreamId) -> Reply<Result<(), Refused>>;

    /// Forgets finished streams whose time is over.
    fn expire(&self) -> Reply<Result<(), Refused>>;

    /// Who reads a stream here, and who waits for it.
    fn attendance(&self, id: StreamId) -> Option<Arc<Attendance>>;

    /// Whether what is kept outlives this process.
    fn is_durable(&self) -> bool;

    /// What this process holds.
    fn holding(&self) -> Holding;
}

/// What a store holds in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Streams.
    pub streams: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Bytes that were written and that no reader has taken yet, of streams that are open.
    pub unread: usize,
}

/// An answer of a store.
pub type Reply<T> = Either<Ready<T>, BoxFuture<'static, T>>;

/// An answer that is there already.
pub fn now<T>(answer: T) -> Reply<T> {
    Either::Left(std::future::ready(answer))
}

/// An answer that takes its time.
pub fn later<T>(answer: impl Future<Output = T> + Send + 'static) -> Reply<T> {
    Either::Right(Box::pin(answer))
}

/// How much may be kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one stream, in compact form.
    pub stream: usize,
    /// Bytes of all streams.
    pub budget: usize,
    /// How long a finished stream stays readable.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stream: 1 << 20, budget: 256 << 20, retention: Duration::from_mins(10) }
    }
}

/// What is known of a stream from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Whose it is; an opaque text.
    pub owner: String,
    /// The wire format of its frames.
    pub dialect: String,
    /// The model that was asked.
    pub model: String,
    /// When it began.
    pub created: SystemTime,
}

/// The right to write to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The stream.
    pub id: StreamId,
    /// Which of its writers this is.
    pub epoch: u64,
    /// The number of the next frame when the tenure began.
    pub next: u64,
}

/// Frames that are appended together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of the first.
    pub first: u64,
    /// The frames.
    pub frames: Vec<Bytes>,
    /// Frames up to this number have been read by somebody: they may go if there is no room.
    pub read: u64,
}

/// Whether a stream may grow further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Left,
    /// It holds as much as it may, and nobody has read it. Appending more is refused until somebody does.
    Full,
}

/// Frames that were read.
#[derive(Clone, Debug)]
pub struct Page {
    /// The place of the first; that of the next one if there are none. All frames of a page are of one epoch.
    pub first: Position,
    /// The frames.
    pub frames: Vec<Bytes>,
    /// How the stream ended, if nothing follows these frames.
    pub ending: Option<Ending>,
}

/// The state of a stream: open, then one of the others for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being written.
    Open,
    /// It is complete.
    Done,
    /// It failed, and its last frame says so.
    Error,
    /// Somebody stopped it, or nobody wanted it any more.
    Cancelled,
    /// Its writer was lost.
    Lost,
}

impl State {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Any state but open.
    pub state: State,
    /// Why; unknown when the writer was lost.
    pub cause: Option<Cause>,
}

impl Ending {
    /// The end that a cause makes.
    pub const fn of(cause: Cause) -> Self {
        let state = match cause {
            Cause::Complete => State::Done,
            Cause::Stopped | Cause::ClientGone | Cause::ClientStalled => State::Cancelled,
            _ => State::Error,
        };
        Self { state, cause: Some(cause) }
    }

    /// The end of a stream whose writer is no more.
    pub const LOST: Self = Self { state: State::Lost, cause: None };
}

/// What is known of a stream now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub id: StreamId,
    /// What was known from the start.
    pub about: About,
    /// How it ended, if it has.
    pub ending: Option<Ending>,
    /// Which writer it has, or had last.
    pub epoch: u64,
    /// The number of the first frame that is kept.
    pub first: u64,
    /// The number of the last frame; 0 before the first.
    pub last: u64,
    /// Bytes of all frames there ever were, as they travel.
    pub bytes: u64,
    /// Bytes that it takes here.
    pub held: usize,
}

impl Status {
    /// The state.
    pub fn state(&self) -> State {
        self.ending.map_or(State::Open, |ending| ending.state)
    }
}

/// Why a store does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no such stream: it never was, or it was forgotten.
    #[error("there is no such stream")]
    Unknown,
    /// There is such a stream already.
    #[error("there is such a stream already")]
    Exists,
    /// Another writer has taken the stream over.
    #[error("another writer has the stream since epoch {epoch}")]
    Fenced {
        /// The newest epoch.
        epoch: u64,
    },
    /// A batch does not follow the last frame.
    #[error("the next frame has the number {expected}")]
    OutOfOrder {
        /// The number that is due.
        expected: u64,
    },
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
    /// What was asked for is no longer kept.
    #[error("the first frame that is kept has the number {first}")]
    TooOld {
        /// The number of the first frame that is kept.
        first: u64,
    },
    /// What was asked for was never there.
    #[error("the last frame has the number {last}")]
    Beyond {
        /// The number of the last frame.
        last: u64,
    },
    /// There is no room for it.
    #[error("there is no room: {what} is used up")]
    Full {
        /// Which bound was met.
        what: &'static str,
    },
    /// The store itself failed.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}
