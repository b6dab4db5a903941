//! What the two halves of a client's stream share: the connection, and what is still to be written to it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use flumen_wire::client::Io;
use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    runtime::Handle,
    task::unconstrained,
    time::timeout,
};

use super::pool::Pool;
use crate::{
    Cancel, Status,
    exchange::over,
    ttheader::{Frame, ending},
};

/// Before a cancelled connection is closed, at most so many receives' worth of what has come is thrown away: what is unread when a
/// socket is closed makes the kernel drop what was just written.
const DRAIN: usize = 16;

/// How long a connection is kept open for its peer to read that the call was broken off.
const LINGER: Duration = Duration::from_millis(100);

/// What does not change while a stream runs.
#[derive(Debug)]
pub(super) struct About {
    pub(super) id: i32,
    pub(super) method: String,
    /// By what name the client is known.
    pub(super) name: String,
    /// Where the connection goes when all ends well.
    pub(super) pool: Arc<Pool>,
    /// Whether the connection had carried a call before.
    pub(super) reused: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) about: About,
    state: Mutex<State>,
}

/// The state of a stream. No lock of it is held across an await.
#[derive(Debug)]
pub(super) struct State {
    /// `None` once the call is over.
    pub(super) io: Option<Io>,
    /// What is to be written: at most one message and a frame or two.
    pub(super) out: Vec<u8>,
    /// How much of it has been.
    written: usize,
    /// The connection does not take more at the moment.
    pub(super) full: bool,
    /// Nothing more will be sent.
    pub(super) closed: bool,
    /// The sender is waiting to write, so the receiver need not.
    pub(super) sender_writes: bool,
    /// Writing has failed. What the peer has still said can be read all the same.
    broken: bool,
    /// Why the call is over, unless it ended well.
    end: Option<Status>,
    pub(super) receiver: Option<Waker>,
    pub(super) sender: Option<Waker>,
}

impl Link {
    /// A stream that begins with these bytes.
    pub(super) fn new(about: About, io: Io, begin: Vec<u8>) -> Self {
        let state = State {
            io: Some(io),
            out: begin,
            written: 0,
            full: false,
            closed: false,
            sender_writes: false,
            broken: false,
            end: None,
            receiver: None,
            sender: None,
        };
        Self { about, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame by which the sender says that it has sent all.
    pub(super) fn half_close(&self) -> Frame {
        ending::half_close(self.about.id, &self.about.method)
    }

    /// The peer has ended the stream, well or not, and `rest` tells that nothing followed.
    pub(super) fn finish(&self, end: Option<Status>, rest: bool) {
        let mut state = self.lock();
        if !state.closed && !state.broken {
            state.closed = true;
            self.half_close().write(&mut state.out);
        }
        let written = state.now(State::poll_write);
        if let Some(io) = state.io.take()
            && written
            && rest
        {
            self.about.pool.put(io);
        }
        state.over(end);
        wake(state);
    }

    /// Breaks the call off: tells the peer why, as far as it takes that at once, and closes the connection.
    pub(super) fn break_off(&self, cancel: &Cancel, end: Status) {
        let mut state = self.lock();
        if state.io.is_none() {
            return;
        }
        if !state.broken {
            ending::reset(self.about.id, &self.about.method, cancel, &self.about.name).write(&mut state.out);
            if !state.closed {
                // Services that know no resets wait for this.
                self.half_close().write(&mut state.out);
            }
            state.now(State::poll_write);
            state.drain();
        }
        if let (Some(io), Ok(runtime)) = (state.io.take(), Handle::try_current()) {
            runtime.spawn(linger(io));
        }
        state.over(Some(end));
        wake(state);
    }
}

/// Keeps a connection open until its peer has read the reset. Closed at once, with something unread, it would take the reset with it;
/// and some take the end of the input for a cause of its own, before they have looked at what came before it.
async fn linger(mut io: Io) {
    let mut sink = [0; 4096];
    let reading = async { while io.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
    // Whoever does not close by then has had time to read it.
    let _ = timeout(LINGER, reading).await;
}

/// Both halves look again. They are woken after the lock is released.
fn wake(mut state: MutexGuard<'_, State>) {
    let (receiver, sender) = (state.receiver.take(), state.sender.take());
    drop(state);
    for waker in receiver.into_iter().chain(sender) {
        waker.wake();
    }
}

impl State {
    /// Why the call is over, if it is.
    pub(super) fn check(&self) -> Result<(), Status> {
        match &self.end {
            Some(end) => Err(end.clone()),
            None if self.io.is_none() => Err(over()),
            None => Ok(()),
        }
    }

    fn over(&mut self, end: Option<Status>) {
        self.end = end;
        self.out = Vec::new();
    }

    /// Has the receiver woken when there is something for it to do beside what the connection brings.
    pub(super) fn park_receiver(&mut self, cx: &Context<'_>) {
        match &self.receiver {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.receiver = Some(cx.waker().clone()),
        }
    }

    /// Ready when one more message may be added to what is to be written.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // What nobody has tried to write yet, such as the first frame, leaves together with the message.
        if self.full || self.broken { self.poll_write(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Writes what is to be written, all of it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.broken {
            return Poll::Ready(Err(Status::unavailable("the connection to the service broke")));
        }
        let outcome = self.poll_write_all(cx);
        self.full = outcome.is_pending();
        let outcome = ready!(outcome);
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        Poll::Ready(outcome.map_err(|_| {
            self.broken = true;
            Status::unavailable("the connection to the service broke")
        }))
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(())) };
        while self.written < self.out.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Pin::new(io).poll_flush(cx)
    }

    /// Does as much as can be done at once. Tells whether all was done.
    fn now(&mut self, mut f: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<Result<(), Status>>) -> bool {
        // A task that has used up its time must not lose its last words for it.
        unconstrained(poll_fn(|cx| f(self, cx))).now_or_never().is_some_and(|outcome| outcome.is_ok())
    }

    fn drain(&mut self) {
        let Some(io) = &mut self.io else { return };
        for _ in 0..DRAIN {
            let more =
                unconstrained(poll_fn(|cx| io.poll_receive(cx, |fresh| !fresh.is_empty()))).now_or_never();
            if !matches!(more, Some(Ok(true))) {
                break;
            }
        }
    }
}

/// A buffer that large messages have made larger is given back.
const KEPT: usize = 16 * 1024;
