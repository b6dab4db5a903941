//! One connection, whatever it is made of, as a row of items.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use flumen_stream::Event;
use flumen_wire::client::{self as wire, Timings};

use crate::{Error, ErrorKind, Transport, call::Ask, client::Shared, position::Position};

mod answer;
mod body;
mod dial;
mod envelope;
mod lines;
mod poll;
mod socket;
mod socket_frame;

/// What to open.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ask: Arc<Ask>,
    pub(crate) transport: Transport,
    pub(crate) position: Position,
    /// Whether another transport could be used instead.
    pub(crate) others: bool,
}

/// What opening led to.
#[derive(Debug)]
pub(crate) enum Opened {
    Link(Link),
    /// 204: the reader has seen all there is.
    Finished,
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) enum Link {
    Body(Box<body::BodyLink>),
    Poll(Box<poll::PollLink>),
    Socket(Box<socket::SocketLink>),
}

/// What a connection brings.
#[derive(Debug)]
pub(crate) enum Item {
    /// Something came, so that the other side is alive.
    Life,
    /// The server named the stream.
    Stream(Arc<str>),
    /// An event, with its seq if the transport says it.
    Event(Event, Option<u64>),
    /// Another exchange begins on the same link; the one before took this.
    Leg(Box<Timings>),
    /// The body ended as a body should.
    BodyEnd,
    /// The stream is at its end.
    Finished,
    Fault(Fault),
}

/// Why a connection, or an attempt at one, failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) class: Class,
    /// What the server asks to wait.
    pub(crate) after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Another attempt would end the same way.
    Final,
    /// The request did not reach the server, or the server did not run it.
    Unsent,
    /// The server may have run the request.
    Broke,
}

/// Opens a connection: sends the request, or what goes on with it.
pub(crate) async fn open(plan: Plan) -> Result<Opened, Fault> {
    match plan.transport {
        Transport::Sse | Transport::Ndjson => body::open(plan).await,
        Transport::LongPoll => poll::open(plan).await,
        Transport::WebSocket => socket::open(plan).await,
    }
}

/// Stops the generation of the stream that the plan goes on with.
pub(crate) async fn stop(plan: Plan) -> Result<(), Fault> {
    answer::stop(&plan).await
}

impl Link {
    #[cfg(test)]
    pub(crate) fn local(body: wire::Body) -> Self {
        Self::Body(Box::new(body::BodyLink::local(body)))
    }

    pub(crate) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        match self {
            Self::Body(link) => link.poll_item(cx),
            Self::Poll(link) => link.poll_item(cx),
            Self::Socket(link) => link.poll_item(cx),
        }
    }

    pub(crate) fn timings(&self) -> &Timings {
        match self {
            Self::Body(link) => link.timings(),
            Self::Poll(link) => link.timings(),
            Self::Socket(link) => link.timings(),
        }
    }

    /// The stream at the gateway, if the answer named it.
    pub(crate) fn stream(&self) -> Option<&Arc<str>> {
        match self {
            Self::Body(link) => link.stream(),
            Self::Poll(link) => Some(link.stream()),
            Self::Socket(_) => None,
        }
    }

    /// Reads what is left after the end mark, if it is there already, so that the connection can be used again.
    pub(crate) fn drain(&mut self, cx: &mut Context<'_>) {
        if let Self::Body(link) = self {
            link.drain(cx);
        }
    }
}

impl Fault {
    pub(crate) fn new(class: Class, error: Error) -> Self {
        Self { error, class, after: None }
    }

    pub(crate) fn broke(message: impl Into<String>) -> Self {
        Self::new(Class::Broke, Error::new(ErrorKind::Broken, message))
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(Class::Final, Error::new(ErrorKind::Protocol, message))
    }

    pub(crate) fn too_long(limit: usize) -> Self {
        let message = format!("an event is longer than {limit} bytes");
        Self::new(Class::Final, Error::new(ErrorKind::TooLong, message))
    }
}

impl From<wire::Error> for Fault {
    fn from(error: wire::Error) -> Self {
        use wire::ErrorKind as Kind;
        let (class, kind) = match error.kind() {
            Kind::Resolve | Kind::Connect | Kind::ConnectTimeout | Kind::Tls | Kind::TlsTimeout => {
                (Class::Unsent, ErrorKind::Connect)
            }
            Kind::Protocol | Kind::HeadTooLarge => (Class::Final, ErrorKind::Protocol),
            Kind::Configuration => (Class::Final, ErrorKind::Configuration),
            // `ErrorKind` may grow; what is not known is a connection that broke.
            _ => (Class::Broke, ErrorKind::Broken),
        };
        Self::new(class, Error::new(kind, error.to_string()).with(error))
    }
}
