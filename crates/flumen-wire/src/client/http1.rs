//! HTTP/1.1 on the data path: a strict reader of responses (RFC 9112).
//!
//! Strict means: one way to tell a body's length, or none at all. A message that could be read in two ways is
//! refused, since the two readers might be an attacker's choice.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method};

use super::{
    Body, Endpoint, Error, ErrorKind, Request, Response, Timings, pool::Connection, pool::Pool, socket::Io,
    upload::Upload,
};

pub mod framing;
pub mod head;

use framing::Framing;
use head::Head;

/// Sends a request and reads the head of the final response. The two go on at the same time, since a server may
/// answer before it has read everything.
pub(super) async fn exchange(
    mut io: Io,
    endpoint: &Endpoint,
    request: &Request,
    body: Option<BoxStream<'static, io::Result<Bytes>>>,
    mut timings: Timings,
    pool: &Arc<Pool>,
    max_head: usize,
) -> Result<Response, Error> {
    let head = request_head(endpoint, request, body.is_some());
    timings.header_bytes_out = head.len() as u64;
    let mut out = Some(if let Some(stream) = body {
        Upload::streaming(head, stream)
    } else {
        timings.body_bytes_out = request.body.len() as u64;
        Upload::whole(head, request.body.clone())
    });
    let mut reader = HeadReader { received: Vec::new(), informational: 0, bytes: 0, max: max_head };
    let (head, rest) = poll_fn(|cx| {
        poll_upload(&mut out, &mut io, cx)?;
        reader.poll_head(&mut io, cx, &request.method)
    })
    .await?;
    timings.header = Some(timings.started.elapsed());
    timings.header_bytes_in = reader.bytes;
    let reusable = head.keep_alive && out.is_none();
    let incoming = Incoming {
        io: Some(io),
        upload: out,
        rest: Bytes::from(rest),
        framing: head.framing,
        max_trailers: max_head,
        pool: reusable.then(|| Arc::clone(pool)),
    };
    Ok(Response { status: head.status, headers: head.headers, body: Body::http1(incoming, timings) })
}

/// Sends what can be sent.
fn poll_upload(upload: &mut Option<Upload>, io: &mut Io, cx: &mut Context<'_>) -> Result<(), Error> {
    if let Some(message) = upload
        && let Poll::Ready(sent) = message.poll_send(io, cx)
    {
        *upload = None;
        sent?;
    }
    Ok(())
}

fn request_head(endpoint: &Endpoint, request: &Request, streaming: bool) -> Bytes {
    let mut head = Vec::with_capacity(512);
    let mut put = |parts: [&[u8]; 4]| parts.iter().for_each(|part| head.extend_from_slice(part));
    put([
        request.method.as_str().as_bytes(),
        b" ",
        endpoint.target(&request.path).as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    put([b"host: ", endpoint.authority.as_bytes(), b"\r\n", b""]);
    if streaming {
        put([b"transfer-encoding: chunked\r\n", b"", b"", b""]);
    } else if !request.body.is_empty() || request.method == Method::POST {
        put([b"content-length: ", request.body.len().to_string().as_bytes(), b"\r\n", b""]);
    }
    for (name, value) in &request.headers {
        put([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    put([b"\r\n", b"", b"", b""]);
    Bytes::from(head)
}

/// What a head takes on HTTP/1.1: for HTTP/2, where nobody counts.
pub(super) fn head_size(first: &str, second: &str, headers: &HeaderMap) -> u64 {
    let lines: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (first.len() + second.len() + " HTTP/1.1\r\n\r\n".len() + lines) as u64
}

struct HeadReader {
    received: Vec<u8>,
    informational: u8,
    bytes: u64,
    max: usize,
}

/// A server that sends more informational responses than this is not going to answer.
const MAX_INFORMATIONAL: u8 = 16;

impl HeadReader {
    /// The final head, and what was received after it.
    fn poll_head(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<(Head, Vec<u8>), Error>> {
        loop {
            let before = self.received.len();
            let received = ready!(io.poll_receive(cx, |piece| self.received.extend_from_slice(piece)));
            let came = received.as_ref().map_or(0, |()| self.received.len() - before);
            if came == 0 {
                let silent = before == 0 && self.informational == 0;
                return Poll::Ready(Err(match received {
                    _ if silent => Error::new(
                        ErrorKind::ClosedBeforeResponse,
                        "the server closed the connection without an answer",
                    ),
                    Err(error) => Error::broken(error),
                    Ok(()) => Error::new(ErrorKind::Broken, "the connection ended within the response head"),
                }));
            }
            while let Some(end) = head::end(&self.received, before.saturating_sub(3)) {
                let head = Head::parse(&self.received[..end], method)?;
                self.bytes += end as u64;
                let rest = self.received.split_off(end);
                if !head.status.is_informational() {
                    return Poll::Ready(Ok((head, rest)));
                }
                self.informational += 1;
                if self.informational > MAX_INFORMATIONAL {
                    return Poll::Ready(Err(Error::protocol("too many informational responses")));
                }
                self.received = rest;
            }
            if self.received.len() > self.max {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::HeadTooLarge,
                    "the response head is too large",
                )));
            }
        }
    }
}

/// The body of an HTTP/1.1 response.
pub(super) struct Incoming {
    /// Gone when the body has ended.
    io: Option<Io>,
    /// What is still to be sent of the request.
    upload: Option<Upload>,
    /// Received together with the head.
    rest: Bytes,
    framing: Framing,
    max_trailers: usize,
    /// Where the connection goes after the body's proper end.
    pool: Option<Arc<Pool>>,
}

enum Step {
    Piece(Bytes),
    EndOfInput,
    More,
}

impl Incoming {
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if self.framing.is_done() {
                self.finish();
                return Poll::Ready(None);
            }
            let Some(io) = &mut self.io else { return Poll::Ready(None) };
            if let Err(error) = poll_upload(&mut self.upload, io, cx) {
                return self.fail(error);
            }
            let step = if self.rest.is_empty() {
                let (framing, unasked) = (&mut self.framing, &mut self.pool);
                let max = self.max_trailers;
                match ready!(io.poll_receive(cx, |piece| take(framing, piece, max, unasked))) {
                    Ok(step) => step,
                    Err(error) => return self.fail(Error::broken(error)),
                }
            } else {
                let mut piece = Vec::from(std::mem::take(&mut self.rest));
                take(&mut self.framing, &mut piece, self.max_trailers, &mut self.pool)
            };
            match step {
                Ok(Step::Piece(payload)) => return Poll::Ready(Some(Ok(payload))),
                Ok(Step::More) => {}
                Ok(Step::EndOfInput) => {
                    self.io = None;
                    return Poll::Ready(self.framing.end_of_input().err().map(Err));
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes, Error>>> {
        self.io = None;
        Poll::Ready(Some(Err(error)))
    }

    fn finish(&mut self) {
        if let (Some(io), Some(pool)) = (self.io.take(), self.pool.take()) {
            pool.put(Connection::Http1(io));
        }
    }
}

fn take(
    framing: &mut Framing,
    piece: &mut [u8],
    max_trailers: usize,
    pool: &mut Option<Arc<Pool>>,
) -> Result<Step, Error> {
    if piece.is_empty() {
        return Ok(Step::EndOfInput);
    }
    let stripped = framing.strip(piece, max_trailers)?;
    if stripped.consumed < piece.len() {
        // Something came after the end of the message: nobody asked for it, so the connection is not used again.
        *pool = None;
    }
    if stripped.payload == 0 {
        return Ok(Step::More);
    }
    Ok(Step::Piece(Bytes::copy_from_slice(&piece[..stripped.payload])))
}

#[cfg(test)]
mod tests;
