use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame};

/// A coding that streams may be compressed in.
///
/// Each open stream has a compressor of its own, with its window and its tables: far more memory than the stream itself takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932), at a quality that finds repeated events.
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Every coding.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The first of `allowed` that a request accepts by its `Accept-Encoding` (RFC 9110, section 12.5.3).
    pub fn accepted(headers: &HeaderMap, allowed: &[Self]) -> Option<Self> {
        let accepts = |coding: &&Self| {
            let lists =
                headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
            let mut named = lists.flat_map(|list| list.split(',')).filter_map(|item| {
                let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
                let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
                name.trim().eq_ignore_ascii_case(coding.as_str()).then(|| weight.unwrap_or(1.0) > 0.0)
            });
            named.next().unwrap_or(false)
        };
        allowed.iter().find(accepts).copied()
    }
}

/// Compresses the body of a response as it comes: whatever is ready together is compressed together and flushed, so that
/// nothing waits in the compressor.
///
/// # Errors
/// When the compressor cannot be set up.
pub fn compressed(response: Response, coding: Coding) -> io::Result<Response> {
    let encoder = Encoder::new(coding)?;
    let mut response = response.map(|body| Body::new(Compressed { body, encoder: Some(encoder) }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.remove(header::CONTENT_LENGTH);
    Ok(response)
}

enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
                // Events repeat what stands just before them; a large window would cost memory for nothing.
                encoder.window_log(16)?;
                Self::Zstd(encoder)
            }
            // Below quality 4 it does not look back over flushed blocks.
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, 4, 16))),
            Coding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6)))
            }
        })
    }

    fn encode(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Brotli(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }
}

/// A body under compression. It has ended when there is no encoder any more.
struct Compressed {
    body: Body,
    encoder: Option<Encoder>,
}

impl HttpBody for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(encoder) = &mut this.encoder else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let encoded = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => encoder.encode(&data),
            Some(Err(error)) => {
                this.encoder = None;
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(Err(_))) | None => this.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish),
        };
        if encoded.is_err() {
            this.encoder = None;
        }
        Poll::Ready(Some(encoded.map(Frame::data).map_err(axum::Error::new)))
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }
}

impl fmt::Debug for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_util::{StreamExt, stream};
    use http_body_util::BodyExt;

    use super::*;
    use crate::transport::{Batched, streaming};

    fn decoded(coding: Coding, bytes: &[u8]) -> String {
        let mut text = Vec::new();
        // What was flushed can be read before the end has come; that the end is missing is no news.
        let _ = match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
        };
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn every_event_can_be_read_as_soon_as_it_was_sent() {
        for coding in Coding::ALL {
            let events: Vec<_> =
                (0..200).map(|n| format!("data: {{\"an event\":\"like others\",\"n\":{n}}}\n\n")).collect();
            let lone = stream::iter(events.clone()).then(|event| async {
                tokio::task::yield_now().await;
                Bytes::from(event)
            });
            let response = compressed(streaming("text/event-stream", Batched::new(lone)), coding).unwrap();
            assert_eq!(response.headers()["content-encoding"], coding.as_str());
            let mut body = response.into_body();
            let (mut sent, mut expected, mut events) = (Vec::new(), String::new(), events.into_iter());
            while let Some(frame) = body.frame().await {
                sent.extend_from_slice(&frame.unwrap().into_data().unwrap());
                expected += &events.next().unwrap_or_default();
                assert_eq!(decoded(coding, &sent), expected, "{coding:?}");
            }
            assert!(body.frame().await.is_none());
            assert!(sent.len() * 2 < expected.len(), "{coding:?}: {} of {}", sent.len(), expected.len());
        }
    }

    #[test]
    fn a_coding_is_used_only_where_it_is_accepted_and_allowed() {
        let accepted = |text: &str, allowed: &[Coding]| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, text.parse().unwrap())]);
            Coding::accepted(&headers, allowed)
        };
        assert_eq!(accepted("gzip, deflate, br, zstd", &Coding::ALL), Some(Coding::Zstd));
        assert_eq!(accepted("gzip;q=0.5, br;q=0", &[Coding::Brotli, Coding::Gzip]), Some(Coding::Gzip));
        assert_eq!(accepted("gzip", &[]), None);
        assert_eq!(accepted("identity", &Coding::ALL), None);
        assert_eq!(Coding::accepted(&HeaderMap::new(), &Coding::ALL), None);
    }
}
