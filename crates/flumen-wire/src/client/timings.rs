use std::time::Duration;

use tokio::time::Instant;

/// What each phase of one exchange took, and how many bytes it moved.
#[derive(Clone, Debug)]
pub struct Timings {
    /// When the request was handed to the client.
    pub started: Instant,
    /// Name resolution; `None` when no name was resolved.
    pub dns: Option<Duration>,
    /// TCP connect; `None` on a reused connection.
    pub connect: Option<Duration>,
    /// TLS handshake; `None` without TLS or on a reused connection.
    pub tls: Option<Duration>,
    /// From the start to the end of the response head.
    pub header: Option<Duration>,
    /// From the start to the first byte of the response body.
    pub first_byte: Option<Duration>,
    /// From the first byte of the response body to the latest.
    pub transfer: Option<Duration>,
    /// Bytes of the request's head; on HTTP/2 as HTTP/1.1 would write them.
    pub header_bytes_out: u64,
    /// Bytes of the request's body.
    pub body_bytes_out: u64,
    /// Bytes of the response's head, informational responses included; on HTTP/2 as HTTP/1.1 would write them.
    pub header_bytes_in: u64,
    /// Bytes of the response's body, without framing.
    pub body_bytes_in: u64,
    /// What the server says that it took itself, if it does.
    pub remote: Option<Remote>,
    /// Whether the connection had served another exchange before.
    pub reused: bool,
}

/// What an exchange took at the server, as it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// From the request to the start of the work.
    pub queued: Duration,
    /// From the request to the first token.
    pub first_token: Duration,
    /// From the request to the end.
    pub total: Duration,
    /// How long its reader held it up.
    pub paused: Duration,
}

impl Timings {
    /// Nothing measured yet; the start is now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            dns: None,
            connect: None,
            tls: None,
            header: None,
            first_byte: None,
            transfer: None,
            header_bytes_out: 0,
            body_bytes_out: 0,
            header_bytes_in: 0,
            body_bytes_in: 0,
            remote: None,
            reused: false,
        }
    }

    /// When the latest piece of the response body came; the start, if none has.
    pub fn latest(&self) -> Instant {
        self.started + self.first_byte.unwrap_or_default() + self.transfer.unwrap_or_default()
    }

    pub(super) fn count_body(&mut self, bytes: usize) {
        let elapsed = self.started.elapsed();
        let first = *self.first_byte.get_or_insert(elapsed);
        self.transfer = Some(elapsed.saturating_sub(first));
        self.body_bytes_in += bytes as u64;
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}
