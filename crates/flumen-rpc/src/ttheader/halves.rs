//! The two directions of a call, on either side.

use std::task::{Context, Poll};

use bytes::Bytes;
use flumen_stream::Pressure;

use super::{client, server};
use crate::{Cancel, Metadata, Status};

/// Where messages go out.
#[derive(Debug)]
pub(crate) enum Outbound {
    Client(client::Sender),
    Server(server::Answers),
    /// The one answer of a unary call.
    Unary(server::Answer),
}

impl Outbound {
    pub(crate) async fn send(&mut self, message: Bytes) -> Result<(), Status> {
        match self {
            Self::Client(sender) => sender.send(message).await,
            Self::Server(answers) => answers.send(message).await,
            Self::Unary(answer) => answer.send(message),
        }
    }

    pub(crate) async fn ready(&mut self) -> Result<(), Status> {
        match self {
            Self::Client(sender) => sender.ready().await,
            Self::Server(answers) => answers.ready().await,
            Self::Unary(_) => Ok(()),
        }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        match self {
            Self::Client(sender) => sender.pressure(),
            Self::Server(answers) => answers.pressure(),
            Self::Unary(_) => Pressure::Flowing,
        }
    }

    pub(crate) async fn close(self) -> Result<(), Status> {
        match self {
            Self::Client(sender) => sender.close().await,
            // The answer ends when its handler does.
            Self::Server(_) | Self::Unary(_) => Ok(()),
        }
    }
}

/// Where messages come in.
#[derive(Debug)]
pub(crate) enum Inbound {
    Client(Box<client::Receiver>),
    Server(server::Requests),
    /// The one request of a unary call.
    Unary(server::Request),
}

impl Inbound {
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        match self {
            Self::Client(receiver) => receiver.poll_message(cx),
            Self::Server(requests) => requests.poll_message(cx),
            Self::Unary(request) => Poll::Ready(request.take().map(Ok)),
        }
    }

    pub(crate) fn header(&self) -> &Metadata {
        match self {
            Self::Client(receiver) => receiver.header(),
            Self::Server(requests) => requests.header(),
            Self::Unary(request) => request.header(),
        }
    }

    pub(crate) fn trailer(&self) -> &Metadata {
        match self {
            Self::Client(receiver) => receiver.trailer(),
            Self::Server(requests) => requests.trailer(),
            Self::Unary(_) => &EMPTY,
        }
    }

    pub(crate) fn cancel(self, cancel: &Cancel) {
        match self {
            Self::Client(receiver) => receiver.cancel(cancel),
            Self::Server(requests) => requests.cancel(cancel),
            // Its caller has no ear for it but the answer.
            Self::Unary(_) => {}
        }
    }
}

/// Nothing was said.
pub(super) static EMPTY: Metadata = Metadata {
    plain: std::collections::BTreeMap::new(),
    transient: std::collections::BTreeMap::new(),
    persistent: std::collections::BTreeMap::new(),
};
