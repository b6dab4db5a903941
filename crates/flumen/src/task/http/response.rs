use std::{
    fmt,
    pin::Pin,
    task::{Context as Cx, Poll},
};

use bytes::{Bytes, BytesMut};
use flumen_flow::{Error, Result};
use flumen_stream::{Event, codec::sse::Decoder};
use flumen_wire::client::{self, Body, Timings};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::{at, failed, is_passing};

/// An answer whose body is still to be read: all at once, or as a stream of pieces.
pub struct Response {
    /// Where it came from, after redirects.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Body,
}

impl Response {
    pub(super) fn new(url: Url, response: client::Response) -> Self {
        Self { url, status: response.status, headers: response.headers, body: response.body }
    }

    /// The answer, if it says yes.
    ///
    /// # Errors
    /// For statuses other than 2xx; 429, 502, 503 and 504 are retryable.
    pub fn ok(self) -> Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let error = Error::failed(format!("{} answered {}", at(&self.url), self.status));
        Err(if is_passing(self.status) { error.retryable() } else { error })
    }

    /// What the exchange took so far.
    pub fn timings(&self) -> &Timings {
        self.body.timings()
    }

    /// The whole body, up to `most` bytes.
    ///
    /// # Errors
    /// When it is longer, or breaks off.
    pub async fn bytes(mut self, most: usize) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await {
            all.extend_from_slice(&piece?);
            if all.len() > most {
                return Err(Error::failed(format!("{} answered with more than {most} bytes", at(&self.url))));
            }
        }
        Ok(all.freeze())
    }

    /// The whole body as text, up to 16 MiB.
    ///
    /// # Errors
    /// Like [`bytes`](Self::bytes), and when it is not UTF-8.
    pub async fn text(self) -> Result<String> {
        Ok(String::from_utf8(self.bytes(WHOLE).await?.into())?)
    }

    /// The whole body as JSON, up to 16 MiB.
    ///
    /// # Errors
    /// Like [`bytes`](Self::bytes), and when it is not what was expected.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes(WHOLE).await?)?)
    }

    /// The body as server-sent events of up to 1 MiB each.
    pub fn events(self) -> Events {
        Events { response: self, decoder: Decoder::new(1024 * 1024), over: false }
    }
}

const WHOLE: usize = 16 * 1024 * 1024;

/// The pieces of the body as they come. Not reading pauses the server.
impl Stream for Response {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<Bytes>>> {
        let piece = std::task::ready!(self.body.poll_piece(cx));
        Poll::Ready(piece.map(|piece| piece.map_err(|error| failed(&self.url, error))))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("url", &at(&self.url))
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Server-sent events of a response; see [`Response::events`].
#[derive(Debug)]
pub struct Events {
    response: Response,
    decoder: Decoder,
    over: bool,
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<Event>>> {
        let this = self.get_mut();
        while !this.over {
            match this.decoder.next() {
                Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                Some(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {}
            }
            match std::task::ready!(this.response.poll_next_unpin(cx)) {
                Some(Ok(piece)) => this.decoder.push(piece),
                Some(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.over = true,
            }
        }
        Poll::Ready(None)
    }
}
