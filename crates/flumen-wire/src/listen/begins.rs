use std::time::Duration;

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Limits, Shutdown};

/// How HTTP/2 begins where nothing was agreed on (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How a client begins.
pub(super) enum Begins {
    Http1,
    Http2,
    Other,
}

/// How a client begins. `None` when it says nothing in time, or the server stops meanwhile.
///
/// What it says stays in the socket: the parser's buffer then needs no more than one allocation.
pub(super) async fn begins(stream: &TcpStream, limits: &Limits, shutdown: &Shutdown) -> Option<Begins> {
    let mut begun = [0; PREFACE.len()];
    let peek = async {
        loop {
            match stream.peek(&mut begun).await {
                Ok(0) | Err(_) => return None,
                Ok(_) if begun[0] == 0 => return Some(Begins::Other),
                Ok(seen) if begun[..seen] != PREFACE[..seen] => return Some(Begins::Http1),
                Ok(seen) if seen == PREFACE.len() => return Some(Begins::Http2),
                // What is there already makes the socket readable, so the rest can only be asked for.
                Ok(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::select! {
        begins = timeout(limits.request_header, peek) => begins.ok().flatten(),
        () = shutdown.draining() => None,
    }
}
