//! TCP, plain or under TLS, with a codec of your own.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context as Cx, Poll},
    time::Duration,
};

use flumen_flow::{Error, ErrorKind, Result};
use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::codec::{Decoder, Encoder, Framed};

/// Longest time to connect, and for the TLS handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, plain or under TLS.
pub struct Stream {
    io: Box<dyn Io>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects to an address such as `example.com:7000`.
///
/// # Errors
/// Retryable, when there is no connection within 5 s.
pub async fn connect(address: &str) -> Result<Stream> {
    Ok(Stream { io: Box::new(connect_plain(address).await?) })
}

/// Connects under TLS. The certificate must be good for the host of the address; `extra_roots` are trusted besides the
/// public ones.
///
/// # Errors
/// When there is no connection (retryable), or the handshake fails.
pub async fn connect_tls(address: &str, extra_roots: Vec<CertificateDer<'static>>) -> Result<Stream> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())?;
    let config = flumen_wire::tls::client_config(extra_roots, None, &[])?;
    let plain = connect_plain(address).await?;
    let stream = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, plain)).await;
    Ok(Stream { io: Box::new(stream.map_err(|_| late(address))??) })
}

async fn connect_plain(address: &str) -> Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(|_| late(address))?;
    let stream = stream.map_err(|error| {
        Error::failed(format!("no connection to {address}: {error}")).with_source(error).retryable()
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn late(address: &str) -> Error {
    Error::new(ErrorKind::TimedOut, format!("no connection to {address} within {PATIENCE:?}")).retryable()
}

impl Stream {
    /// Speaks in messages of this codec.
    pub fn framed<C>(self, codec: C) -> Framed<Self, C> {
        Framed::new(self, codec)
    }

    /// Sends one message and waits for one answer.
    ///
    /// # Errors
    /// What the codec or the connection says, and when the peer closes without an answer.
    pub async fn call<C, M>(self, codec: C, message: M) -> Result<C::Item>
    where
        C: Decoder + Encoder<M, Error = <C as Decoder>::Error>,
        <C as Decoder>::Error: Into<Error>,
    {
        let mut framed = self.framed(codec);
        framed.send(message).await.map_err(Into::into)?;
        let answer = framed.next().await;
        answer.ok_or_else(|| Error::failed("the peer closed without an answer"))?.map_err(Into::into)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Cx<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Cx<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
