use std::fmt;

use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use flumen_stream::{End, Event};
use futures_util::{Stream, StreamExt};
use serde::Serialize;

use super::{Batched, streaming};

/// A stream as `application/x-ndjson`: one JSON value per line.
///
/// ```
/// use flumen_wire::transport::Ndjson;
/// use futures_util::stream;
///
/// async fn handler() -> Ndjson<impl futures_util::Stream<Item = u32>> {
///     Ndjson::new(stream::iter(1..=3))
/// }
/// ```
#[derive(Debug)]
pub struct Ndjson<S> {
    stream: S,
}

impl<S> Ndjson<S> {
    /// A response of this stream. A value that cannot be serialised becomes a line `{"error": …}` and ends it.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }
}

impl<S: Stream<Item = Result<Event, End>>> Ndjson<S> {
    /// The payloads of a log's events, which must be JSON, each on its line. An end with a cause becomes a last line
    /// `{"error": {"code", "message"}}`.
    pub fn events(cursor: S) -> Response
    where
        S: Send + 'static,
    {
        let lines = cursor.filter_map(|item| {
            std::future::ready(match item {
                Ok(event) if !event.has_data() => None,
                // In JSON a line end can only stand between tokens, where a space means the same.
                Ok(event) => {
                    Some(line(event.payload().iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte })))
                }
                Err(end) => Some(error_line(end.code, &end)),
            })
        });
        streaming(CONTENT_TYPE, Batched::new(lines))
    }
}

const CONTENT_TYPE: &str = "application/x-ndjson";

impl<S> IntoResponse for Ndjson<S>
where
    S: Stream<Item: Serialize> + Send + 'static,
{
    fn into_response(self) -> Response {
        let lines = self.stream.scan(true, |go_on, item| {
            let next = go_on.then(|| match serde_json::to_vec(&item) {
                Ok(json) => line(json.into_iter()),
                Err(error) => {
                    *go_on = false;
                    error_line("internal", &error)
                }
            });
            std::future::ready(next)
        });
        streaming(CONTENT_TYPE, Batched::new(lines))
    }
}

fn line(json: impl ExactSizeIterator<Item = u8>) -> Bytes {
    let mut line = BytesMut::with_capacity(json.len() + 1);
    line.extend(json);
    line.put_u8(b'\n');
    line.freeze()
}

fn error_line(code: &str, message: &dyn fmt::Display) -> Bytes {
    let error = serde_json::json!({"error": {"code": code, "message": message.to_string()}});
    line(error.to_string().into_bytes().into_iter())
}
