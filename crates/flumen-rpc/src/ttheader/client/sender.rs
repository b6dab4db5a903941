use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flumen_stream::Pressure;
use tokio::time::{Instant, timeout_at};

use super::link::{Link, State};
use crate::{
    Cancel, Code, Status,
    ttheader::{
        code, ending,
        frame::{LARGEST, Template},
    },
};

/// The sending half of a client's stream. It writes to the connection itself.
#[derive(Debug)]
pub(crate) struct Sender {
    link: Arc<Link>,
    template: Template,
    deadline: Option<Instant>,
}

impl Sender {
    pub(super) fn new(link: Arc<Link>, deadline: Option<Instant>) -> Self {
        Self { template: Template::new(link.about.id, &link.about.method), link, deadline }
    }

    /// Sends a message once what was sent before has been written. What the socket does not take of it at once is written when
    /// somebody reads, sends or closes.
    pub(crate) async fn send(&mut self, message: Bytes) -> Result<(), Status> {
        if message.len() > LARGEST - self.template.size() {
            return Err(Status::new(Code::OutOfRange, "the message is larger than a frame can be"));
        }
        let mut message = Some(message);
        self.in_time(|state, cx| {
            ready!(state.poll_room(cx))?;
            if let Some(message) = message.take() {
                self.template.write(&message, &mut state.out);
                if let Poll::Ready(outcome) = state.poll_write(cx) {
                    return Poll::Ready(outcome);
                }
                // The receiver is to go on with it.
                state.sender = None;
                if let Some(receiver) = state.receiver.take() {
                    receiver.wake();
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    pub(crate) async fn ready(&mut self) -> Result<(), Status> {
        self.in_time(State::poll_room).await
    }

    pub(crate) fn pressure(&self) -> Pressure {
        if self.link.lock().full { Pressure::Paused } else { Pressure::Flowing }
    }

    pub(crate) async fn close(self) -> Result<(), Status> {
        {
            let mut state = self.link.lock();
            state.check()?;
            state.closed = true;
            self.link.half_close().write(&mut state.out);
        }
        self.in_time(State::poll_write).await
    }

    /// Waits for `poll`, until the call is over or its deadline has passed.
    async fn in_time(
        &self,
        poll: impl FnMut(&mut State, &mut Context<'_>) -> Poll<Result<(), Status>>,
    ) -> Result<(), Status> {
        let writing = Writing { link: &self.link, waits: false }.run(poll);
        let Some(deadline) = self.deadline else { return writing.await };
        if let Ok(outcome) = timeout_at(deadline, writing).await {
            return outcome;
        }
        let cancel = Cancel { wire: Some(code::DEADLINE), ..Cancel::because("the deadline has passed") };
        self.link.break_off(&cancel, ending::deadline());
        Err(ending::deadline())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.link.lock().closed {
            let cancel = Cancel { wire: Some(code::CANCELLED), ..Cancel::default() };
            let end = Status::new(Code::Cancelled, "the sender of the call was dropped");
            self.link.break_off(&cancel, end.with_wire(code::CANCELLED));
        }
    }
}

/// A sender that writes. When it gives up, the receiver writes on.
struct Writing<'a> {
    link: &'a Link,
    waits: bool,
}

impl Writing<'_> {
    fn run(
        mut self,
        mut poll: impl FnMut(&mut State, &mut Context<'_>) -> Poll<Result<(), Status>>,
    ) -> impl Future<Output = Result<(), Status>> {
        poll_fn(move |cx| {
            let own = &mut self;
            let mut state = own.link.lock();
            state.check()?;
            let outcome = poll(&mut state, cx);
            own.waits = outcome.is_pending();
            state.sender_writes = own.waits;
            if own.waits {
                state.sender = Some(cx.waker().clone());
            }
            outcome
        })
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if self.waits {
            let mut state = self.link.lock();
            state.sender_writes = false;
            state.sender = None;
            let receiver = state.receiver.take();
            drop(state);
            if let Some(receiver) = receiver {
                receiver.wake();
            }
        }
    }
}
