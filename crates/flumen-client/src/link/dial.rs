//! A connection for a WebSocket: TCP, and TLS over it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use flumen_wire::client::Timings;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{Class, Fault};
use crate::{Error, ErrorKind, client::Shared};

/// Receive buffer asked of the kernel. Small, so that a server whose events are not read feels it soon.
const RECEIVE_BUFFER: u32 = 64 * 1024;

/// What a WebSocket runs over.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects, and writes down what it took.
pub(super) async fn dial(shared: &Shared, timings: &mut Timings) -> Result<Box<dyn Io>, Fault> {
    let origin = &shared.origin;
    let tcp = within(shared.connect_timeout, "connecting to the server", connect(shared, timings)).await?;
    let Some(config) = &origin.tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(origin.host.clone()).map_err(|error| {
        let message = "the host name cannot be used with TLS";
        Fault::new(Class::Final, Error::new(ErrorKind::Configuration, message).with(error))
    })?;
    let started = Instant::now();
    let handshake = async {
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
        stream.map_err(|error| unconnected("the TLS handshake failed", error))
    };
    let stream = within(shared.tls_timeout, "the TLS handshake", handshake).await?;
    timings.tls = Some(started.elapsed());
    Ok(Box::new(stream))
}

async fn connect(shared: &Shared, timings: &mut Timings) -> Result<TcpStream, Fault> {
    let origin = &shared.origin;
    let started = Instant::now();
    let found: Vec<SocketAddr> = lookup_host((&*origin.host, origin.port))
        .await
        .map_err(|error| unconnected("the server's host name does not resolve", error))?
        .collect();
    let dns = started.elapsed();
    if origin.host.parse::<std::net::IpAddr>().is_err() {
        timings.dns = Some(dns);
    }
    let mut problem = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in found {
        match connect_to(address).await {
            Ok(stream) => {
                timings.connect = Some(started.elapsed().saturating_sub(dns));
                return Ok(stream);
            }
            Err(error) => problem = error,
        }
    }
    Err(unconnected("no connection to the server", problem))
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

fn unconnected(message: &'static str, error: io::Error) -> Fault {
    Fault::new(Class::Unsent, Error::new(ErrorKind::Connect, message).with(error))
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let error = Error::new(ErrorKind::Connect, format!("{what} took too long"));
        Err(Fault::new(Class::Unsent, error))
    })
}
