use std::{
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use flumen_flow::Error;
use flumen_wire::listen::Shutdown;
use futures_util::{Sink, SinkExt, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout},
};
use tokio_util::codec::{Decoder, Encoder, Framed};

use super::Limits;

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connected peer: read its messages, push to it, notice that it left.
///
/// While a handler pushes or waits ([`unless_left`](Self::unless_left)), one message is read ahead to see whether the peer is
/// still there; a peer that sends more waits.
pub struct Peer<C: Decoder> {
    framed: Framed<Box<dyn Io>, C>,
    ahead: Ahead<C>,
    address: Option<SocketAddr>,
    limits: Limits,
    shutdown: Shutdown,
}

/// What was read to see whether the peer is still there.
enum Ahead<C: Decoder> {
    Nothing,
    Message(C::Item),
    Broken(C::Error),
    End,
}

/// Why a peer is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It has closed the connection.
    #[error("the peer has left")]
    Left,
    /// It said nothing for too long.
    #[error("the peer said nothing for {0:?}")]
    Idle(Duration),
    /// It began a message and did not end it in time.
    #[error("the peer took longer than {0:?} for one message")]
    SlowMessage(Duration),
    /// It did not take what was pushed.
    #[error("the peer took nothing for {0:?}")]
    Stalled(Duration),
}

impl<C: Decoder> Peer<C> {
    pub(super) fn new(
        io: Box<dyn Io>,
        codec: C,
        address: Option<SocketAddr>,
        limits: Limits,
        shutdown: Shutdown,
    ) -> Self {
        Self { framed: Framed::new(io, codec), ahead: Ahead::Nothing, address, limits, shutdown }
    }

    /// Its address; none on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits until the server drains: a handler that goes on for long says goodbye then.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<C> {
        let shutdown = self.shutdown.clone();
        async move { shutdown.draining().await }
    }

    /// Whether the server drains.
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    /// The next message; `None` when the peer has closed well.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// What the codec says, and [`PeerError::Idle`] and [`PeerError::SlowMessage`].
    pub async fn next(&mut self) -> Result<Option<C::Item>, Error>
    where
        C::Error: Into<Error>,
    {
        match std::mem::replace(&mut self.ahead, Ahead::Nothing) {
            Ahead::Nothing => {}
            Ahead::Message(message) => return Ok(Some(message)),
            Ahead::Broken(error) => return Err(error.into()),
            Ahead::End => {
                self.ahead = Ahead::End;
                return Ok(None);
            }
        }
        let Limits { idle, message, .. } = self.limits;
        let mut clock = pin!(sleep(idle));
        let mut begun = !self.framed.read_buffer().is_empty();
        if begun {
            clock.as_mut().reset(Instant::now() + message);
        }
        let framed = &mut self.framed;
        poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *framed).poll_next(cx) {
                return Poll::Ready(next.transpose().map_err(Into::into));
            }
            if !begun && !framed.read_buffer().is_empty() {
                begun = true;
                clock.as_mut().reset(Instant::now() + message);
            }
            clock.as_mut().poll(cx).map(|()| {
                Err(if begun { PeerError::SlowMessage(message) } else { PeerError::Idle(idle) }.into())
            })
        })
        .await
    }

    /// Sends a message; waits while the peer is slow, and sees at once when it leaves.
    ///
    /// Not cancel-safe: a part of the message may have been sent.
    ///
    /// # Errors
    /// [`PeerError::Left`], [`PeerError::Stalled`], and what the codec says.
    pub async fn push<M>(&mut self, message: M) -> Result<(), Error>
    where
        C: Encoder<M>,
        <C as Encoder<M>>::Error: Into<Error>,
    {
        let stall = self.limits.stall;
        let Self { framed, ahead, .. } = self;
        Pin::new(&mut *framed).start_send(message).map_err(Into::into)?;
        let mut clock = pin!(sleep(stall));
        let mut unsent = usize::MAX;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = Sink::<M>::poll_flush(Pin::new(&mut *framed), cx) {
                return Poll::Ready(sent.map_err(Into::into));
            }
            if framed.write_buffer().len() < unsent {
                unsent = framed.write_buffer().len();
                clock.as_mut().reset(Instant::now() + stall);
            }
            if poll_left(framed, ahead, cx).is_ready() {
                return Poll::Ready(Err(PeerError::Left.into()));
            }
            clock.as_mut().poll(cx).map(|()| Err(PeerError::Stalled(stall).into()))
        })
        .await
    }

    /// Waits until the peer closes its side. It cannot be seen while an unread message is before it.
    ///
    /// Cancel-safe.
    pub async fn left(&mut self) {
        let Self { framed, ahead, .. } = self;
        poll_fn(|cx| poll_left(framed, ahead, cx)).await;
    }

    /// Awaits something, unless the peer leaves first.
    ///
    /// # Errors
    /// [`PeerError::Left`].
    pub async fn unless_left<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.left() => Err(PeerError::Left.into()),
            output = future => Ok(output),
        }
    }

    /// Sends what is left and closes.
    ///
    /// # Errors
    /// When the peer does not take it in time.
    pub async fn close<M>(mut self) -> Result<(), Error>
    where
        C: Encoder<M>,
        <C as Encoder<M>>::Error: Into<Error>,
    {
        timeout(self.limits.stall, SinkExt::<M>::close(&mut self.framed)).await?.map_err(Into::into)
    }
}

/// Ready when the peer has closed its side, or broke; reads one message ahead to know.
fn poll_left<C: Decoder>(
    framed: &mut Framed<Box<dyn Io>, C>,
    ahead: &mut Ahead<C>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if matches!(ahead, Ahead::Nothing)
        && let Poll::Ready(next) = Pin::new(framed).poll_next(cx)
    {
        *ahead = match next {
            Some(Ok(message)) => Ahead::Message(message),
            Some(Err(error)) => Ahead::Broken(error),
            None => Ahead::End,
        };
    }
    match ahead {
        Ahead::Broken(_) | Ahead::End => Poll::Ready(()),
        Ahead::Nothing | Ahead::Message(_) => Poll::Pending,
    }
}

impl<C: Decoder> fmt::Debug for Peer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}
