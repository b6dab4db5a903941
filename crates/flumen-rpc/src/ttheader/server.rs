use std::{future::poll_fn, sync::Arc};

use flumen_wire::listen::{Other, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite};

mod connection;
mod outbox;
mod output;
mod receive;
mod stream;
mod streams;
mod unary;

pub(super) use stream::{Answers, Requests};
pub(super) use unary::{Answer, Request};

use connection::Connection;

use super::{Error, Limits};
use crate::Services;

/// By what name a server stands in the path of a cancellation that it begins.
const NAME: &str = "flumen";

/// Serves a connection of TTHeader Streaming or unary Thrift to its end, and everything that runs on it.
///
/// Once the drain has begun it takes no more calls, and ends when those that run have; when the shutdown aborts, it resets what is
/// left. Dropping the future ends the handlers as a lost connection does.
///
/// # Errors
/// When the connection breaks, or the peer sends what the protocol does not allow.
pub async fn serve_connection<I>(
    io: I,
    services: Services,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve(io, Arc::new(services), limits, shutdown).await
}

/// What a [`Listener`](flumen_wire::listen::Listener) needs to serve TTHeader and framed Thrift on the port of HTTP, with
/// [`besides`](flumen_wire::listen::Listener::besides).
pub fn beside(services: Services, limits: Limits, shutdown: Shutdown) -> Other {
    let services = Arc::new(services);
    Arc::new(move |stream, peer| {
        let connection = serve(stream, Arc::clone(&services), limits, shutdown.clone());
        Box::pin(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection of TTHeader ended");
            }
        })
    })
}

async fn serve<I>(io: I, services: Arc<Services>, limits: Limits, shutdown: Shutdown) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = Box::new(Connection::new(io, services, limits, &shutdown));
    let closing = poll_fn(|cx| connection.poll(cx)).await;
    connection.end(closing).await
}
