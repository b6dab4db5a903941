//! The two directions of a streaming call, whichever protocol carries it.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flumen_stream::{Frame, Pressure, Writer};
use futures_util::{FutureExt, Stream};

use crate::{Cancel, Code, Metadata, Status, grpc, ttheader};

/// A streaming call from the side that made it.
#[derive(Debug)]
pub struct Exchange {
    /// Messages to the service.
    pub outbound: Outbound,
    /// Messages from the service.
    pub inbound: Inbound,
}

/// Where messages go out. Each is one message of the contract, encoded.
///
/// Bounded in bytes: [`send`](Self::send) waits while the peer does not take what was sent before. Dropping it without
/// [`close`](Self::close) breaks the call off, so that the peer never mistakes it for a finished one.
#[derive(Debug)]
pub struct Outbound(pub(crate) Out);

#[derive(Debug)]
pub(crate) enum Out {
    /// Into a log, from which the transport takes.
    Log(Writer<Letter>),
    TtHeader(ttheader::Outbound),
}

/// A message in a log. It counts for more than its bytes, since many empty ones are something, too.
#[derive(Clone, Debug)]
pub(crate) struct Letter(pub(crate) Bytes);

/// What a message takes besides its bytes.
const ENVELOPE: usize = 64;

impl Frame for Letter {
    fn size(&self) -> usize {
        self.0.len() + ENVELOPE
    }
}

impl Outbound {
    /// Sends a message, when there is room.
    ///
    /// Cancel-safe in that a message goes whole or, when the future is dropped while it waits for room, not at all.
    ///
    /// # Errors
    /// `Cancelled` when the call is over.
    pub async fn send(&mut self, message: Bytes) -> Result<(), Status> {
        match &mut self.0 {
            Out::Log(log) => log.append(Letter(message)).await.map_err(|_| over()),
            Out::TtHeader(outbound) => outbound.send(message).await,
        }
    }

    /// Sends a message if there is room now. Returns whether it went.
    pub fn try_send(&mut self, message: Bytes) -> bool {
        self.send(message).now_or_never().is_some_and(|sent| sent.is_ok())
    }

    /// Waits until there is room. Cancel-safe.
    ///
    /// # Errors
    /// `Cancelled` when the call is over.
    pub async fn ready(&mut self) -> Result<(), Status> {
        match &mut self.0 {
            Out::Log(log) => log.ready().await.map_err(|_| over()),
            Out::TtHeader(outbound) => outbound.ready().await,
        }
    }

    /// Whether the peer takes what is sent.
    pub fn pressure(&self) -> Pressure {
        match &self.0 {
            Out::Log(log) => log.pressure(),
            Out::TtHeader(outbound) => outbound.pressure(),
        }
    }

    /// Nothing more will be sent this way: the half-close. The other direction goes on.
    ///
    /// # Errors
    /// `Cancelled` when the call is over.
    pub async fn close(self) -> Result<(), Status> {
        match self.0 {
            Out::Log(log) => {
                log.complete();
                Ok(())
            }
            Out::TtHeader(outbound) => outbound.close().await,
        }
    }
}

/// Where messages come in: a [`Stream`] of encoded messages. `None` is the good end; an error is the last item.
///
/// Not reading it pauses the peer, by the flow control of HTTP/2 or of TCP. Dropping the client's inbound half before its end
/// cancels the call.
#[derive(Debug)]
pub struct Inbound(pub(crate) In);

#[derive(Debug)]
pub(crate) enum In {
    Grpc(grpc::Inbound),
    TtHeader(ttheader::Inbound),
}

impl Inbound {
    /// The next message. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// The poll form of [`next`](Self::next).
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        match &mut self.0 {
            In::Grpc(inbound) => inbound.poll_message(cx),
            In::TtHeader(inbound) => inbound.poll_message(cx),
        }
    }

    /// What the peer said before its first message; empty until that has come.
    pub fn header(&self) -> &Metadata {
        match &self.0 {
            In::Grpc(inbound) => inbound.header(),
            In::TtHeader(inbound) => inbound.header(),
        }
    }

    /// What the peer said after its last message; empty until the end has come.
    pub fn trailer(&self) -> &Metadata {
        match &self.0 {
            In::Grpc(inbound) => inbound.trailer(),
            In::TtHeader(inbound) => inbound.trailer(),
        }
    }

    /// Cancels the call, and tells the peer why if the protocol has a word for it (TTHeader Streaming; gRPC has none).
    pub fn cancel(self, cancel: &Cancel) {
        match self.0 {
            In::Grpc(inbound) => drop(inbound),
            In::TtHeader(inbound) => inbound.cancel(cancel),
        }
    }
}

impl Stream for Inbound {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(cx)
    }
}

pub(crate) fn over() -> Status {
    Status::new(Code::Cancelled, "the call is over")
}
