use std::{
    cell::Cell,
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flumen_rpc::{
    Cancel, Code, Encoding, Exchange, Inbound, Outbound, Status,
    generation::{Ask, ClientMessage, Pause, Resume, Say, ServerMessage, Stop, Times},
};
use flumen_wire::client::{Error, ErrorKind, Remote, Source as Pieces};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::translate::Translator;

/// A generation at a service, as the body of an answer.
pub(super) struct Source {
    exchange: Option<Exchange>,
    encoding: Encoding,
    translator: Translator,
    /// Whether pauses are said, or only felt.
    says_pause: bool,
    /// The first message, which was waited for.
    first: Option<Say>,
    times: Option<Times>,
    failed: Option<Status>,
    ended: bool,
    /// Until when the beginning is waited for. Whoever waits says no word when that is over.
    due: Option<Instant>,
}

thread_local! {
    /// Where every translation of this core takes place.
    static SCRATCH: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// What is ready together goes together, in pieces of about so many bytes.
const PIECE: usize = 16 * 1024;
/// How long a service may take to end a call whose answer is complete, before the call is reset.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a service that was told to stop may take to end the call, before the call is reset.
const FAREWELL: Duration = Duration::from_millis(40);

impl Source {
    pub(super) fn new(
        exchange: Exchange,
        encoding: Encoding,
        translator: Translator,
        says_pause: bool,
        due: Option<Instant>,
    ) -> Self {
        Self {
            exchange: Some(exchange),
            encoding,
            translator,
            says_pause,
            first: None,
            times: None,
            failed: None,
            ended: false,
            due,
        }
    }

    /// Waits for the first message; of an answer that is no stream, for the last.
    pub(super) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.translator.is_stream() {
            self.first = ready!(self.poll_say(cx))?;
            self.due = None;
            return Poll::Ready(if self.first.is_some() { Ok(()) } else { Err(truncated()) });
        }
        loop {
            match ready!(self.poll_say(cx))? {
                None => return Poll::Ready(Err(truncated())),
                Some(Say::Error(error)) => {
                    self.over();
                    let status = Status::new(Code::Internal, error.message);
                    return Poll::Ready(Err(status.because(&error.code, None)));
                }
                Some(say) => self.ended = self.take(say, &mut BytesMut::new()),
            }
            if self.ended {
                self.due = None;
                return Poll::Ready(Ok(()));
            }
            if self.translator.is_too_long() {
                self.part("answer_too_long");
                return Poll::Ready(Err(Status::new(
                    Code::Internal,
                    "the answer is too long to be held back",
                )));
            }
        }
    }

    /// The next thing that the service says; nothing at the end of the call.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Say>, Status>> {
        loop {
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(Ok(None)) };
            let Some(message) = ready!(exchange.inbound.poll_message(cx)) else {
                self.over();
                return Poll::Ready(Ok(None));
            };
            let say = message.and_then(|message| ServerMessage::decode(message, self.encoding));
            match say.map(|message| message.message) {
                // Of a later version of the contract.
                Ok(None) => {}
                Ok(say) => return Poll::Ready(Ok(say)),
                Err(status) => {
                    self.over();
                    return Poll::Ready(Err(status));
                }
            }
        }
    }

    /// Takes what the service says. Returns whether that was the last of the answer.
    fn take(&mut self, say: Say, out: &mut BytesMut) -> bool {
        match say {
            Say::Accepted(accepted) => self.translator.accepted(&accepted),
            Say::Delta(delta) => self.translator.delta(&delta, out),
            Say::Usage(usage) => self.translator.usage(usage),
            Say::Error(error) => {
                Translator::error(&error, out);
                self.over();
                return true;
            }
            Say::Finish(finish) => {
                self.times = finish.times.or(self.times);
                self.translator.finish(&finish, out);
                self.settle();
                return true;
            }
        }
        false
    }

    /// Translates what is ready, up to a piece of it.
    fn poll_batch(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(first) = self.first.take() {
            self.ended = self.take(first, out);
        }
        while out.len() < PIECE && !self.ended {
            match self.poll_say(cx) {
                Poll::Ready(Ok(Some(say))) => self.ended = self.take(say, out),
                Poll::Ready(end) => {
                    self.ended = true;
                    let status = end.err().unwrap_or_else(truncated);
                    if out.is_empty() {
                        return Poll::Ready(Some(Err(broken(status))));
                    }
                    // What came before it goes first.
                    self.failed = Some(status);
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        // At its exact size: what waits for a slow reader must not hold on to a larger buffer.
        Poll::Ready((!out.is_empty()).then(|| Ok(Bytes::copy_from_slice(out))))
    }

    /// The call has nothing more to give.
    fn over(&mut self) {
        self.exchange = None;
    }

    /// The answer is complete. The service may end the call itself: one that is reset looks like a cancelled one.
    fn settle(&mut self) {
        let Some(Exchange { outbound, mut inbound }) = self.exchange.take() else { return };
        let settling = async move {
            // That the service has ended the call before is well, too.
            let _ = outbound.close().await;
            while let Some(Ok(_)) = inbound.next().await {}
        };
        let mut settling = Box::pin(timeout(SETTLE, settling));
        if settling.as_mut().now_or_never().is_none()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(settling);
        }
    }

    fn tell(&mut self, ask: Ask) {
        if let Some(exchange) = &mut self.exchange {
            // The few bytes go unless the connection is stuck; then the service feels that.
            exchange.outbound.try_send(ClientMessage::from(ask).encode(self.encoding));
        }
    }

    /// Tells the service that nobody wants the rest. A service that does not heed it has its call reset.
    fn part(&mut self, cause: &'static str) {
        self.tell(Ask::Stop(Stop { cause: cause.to_owned() }));
        let Some(Exchange { outbound, inbound }) = self.exchange.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(farewell(outbound, inbound, cause))),
            Err(_) => inbound.cancel(&Cancel::because(cause)),
        }
    }
}

/// Lets the service end the call by itself, for a moment.
async fn farewell(outbound: Outbound, mut inbound: Inbound, cause: &'static str) {
    let ended = timeout(FAREWELL, async { while let Some(Ok(_)) = inbound.next().await {} }).await.is_ok();
    if !ended {
        inbound.cancel(&Cancel::because(cause));
    }
    drop(outbound);
}

fn truncated() -> Status {
    Status {
        connection: Some(ErrorKind::Truncated),
        ..Status::new(Code::Internal, "the service ended the call before the generation's `finish`")
    }
}

/// The end of a generation that had begun.
fn broken(status: Status) -> Error {
    let kind = match (status.connection, status.code) {
        (Some(kind), _) => kind,
        (None, Code::Unavailable) => ErrorKind::Broken,
        (None, _) => ErrorKind::Protocol,
    };
    Error::new(kind, status.message)
}

impl Pieces for Source {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(whole) = self.translator.take_whole() {
            return Poll::Ready(Some(Ok(whole)));
        }
        if let Some(status) = self.failed.take() {
            return Poll::Ready(Some(Err(broken(status))));
        }
        let mut out = SCRATCH.take();
        out.clear();
        let piece = self.poll_batch(cx, &mut out);
        SCRATCH.set(out);
        piece
    }

    fn pause(&mut self, paused: bool) {
        if self.says_pause {
            self.tell(if paused { Ask::Pause(Pause {}) } else { Ask::Resume(Resume {}) });
        }
    }

    fn leave(&mut self, cause: &'static str) {
        self.part(cause);
    }

    fn remote(&self) -> Option<Remote> {
        let times = self.times?;
        let [queued, first_token, total, paused] =
            [times.queued, times.first_token, times.total, times.paused].map(Duration::from_micros);
        Some(Remote { queued, first_token, total, paused })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let late = self.due.is_some_and(|due| due <= Instant::now());
        self.part(match (late, self.translator.is_stream()) {
            (true, true) => "first_token_timeout",
            (true, false) => "total_timeout",
            (false, _) => "cancelled",
        });
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}
