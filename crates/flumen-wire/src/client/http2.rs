use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream::BoxStream};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use super::{
    Body, Endpoint, Error, ErrorKind, Request, Response, Timings, http1::head_size, pool::Connection,
    pool::Pool, socket::Io,
};

/// Window of a stream: what a server may send that is not read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Window of a connection. The `h2` crate's budget for small frames is half of it, and a stream window full of
/// events of 8 bytes stays below that.
const CONNECTION_WINDOW: u32 = 5 * 1024 * 1024;

/// The sending half of an HTTP/2 connection. Dropping it ends the task that drives the connection.
#[derive(Debug)]
pub(super) struct Sender {
    send: SendRequest<UnsyncBoxBody<Bytes, io::Error>>,
    driver: AbortHandle,
    peer: Option<IpAddr>,
}

impl Sender {
    /// The address at the other end.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    pub(super) fn is_ready(&self) -> bool {
        self.send.is_ready() && !self.send.is_closed()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) async fn handshake(io: Io) -> Result<Sender, Error> {
    let peer = io.peer();
    let (send, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| Error::new(ErrorKind::Protocol, "the HTTP/2 handshake failed").with(error))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
        }
    });
    Ok(Sender { send, driver: driver.abort_handle(), peer })
}

pub(super) async fn exchange(
    mut sender: Sender,
    endpoint: &Endpoint,
    request: &Request,
    body: Option<BoxStream<'static, io::Result<Bytes>>>,
    mut timings: Timings,
    pool: &Arc<Pool>,
) -> Result<Response, Error> {
    let uri = endpoint
        .uri(&request.path)
        .map_err(|error| Error::new(ErrorKind::Configuration, "the request path is unusable").with(error))?;
    timings.header_bytes_out = head_size(request.method.as_str(), uri.path(), &request.headers);
    let body = if let Some(stream) = body {
        StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
    } else {
        timings.body_bytes_out = request.body.len() as u64;
        Full::new(request.body.clone()).map_err(|never| match never {}).boxed_unsync()
    };
    let mut message = http::Request::new(body);
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = uri;
    *message.headers_mut() = request.headers.clone();
    let response = sender.send.send_request(message).await.map_err(|error| {
        // Only a request that was never put on the wire may be sent again.
        let kind = if error.is_canceled() { ErrorKind::ClosedBeforeResponse } else { ErrorKind::Broken };
        Error::new(kind, "the HTTP/2 exchange failed").with(error)
    })?;
    timings.header = Some(timings.started.elapsed());
    let (head, body) = response.into_parts();
    timings.header_bytes_in = head_size("HTTP/1.1", head.status.as_str(), &head.headers);
    let incoming = Incoming { body, sender: Some(sender), pool: Arc::clone(pool), done: false };
    Ok(Response { status: head.status, headers: head.headers, body: Body::http2(incoming, timings) })
}

/// The body of an HTTP/2 response.
pub(super) struct Incoming {
    body: hyper::body::Incoming,
    sender: Option<Sender>,
    pool: Arc<Pool>,
    done: bool,
}

impl Incoming {
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        while !self.done {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => {
                    self.done = true;
                    self.sender = None;
                    let broken = Error::new(ErrorKind::Broken, "the HTTP/2 stream broke").with(error);
                    return Poll::Ready(Some(Err(broken)));
                }
                None => {
                    self.done = true;
                    if let Some(sender) = self.sender.take() {
                        self.pool.put(Connection::Http2(sender));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}
