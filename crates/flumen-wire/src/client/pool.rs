use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{http2::Sender, socket::Io};

/// A connection that carries one exchange at a time.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(Io),
    Http2(Sender),
}

impl Connection {
    fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Http1(io) => io.peer(),
            Self::Http2(sender) => sender.peer(),
        }
    }

    fn is_usable(&mut self) -> bool {
        match self {
            Self::Http1(io) => io.is_quiet(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }
}

/// Connections that wait for their next exchange, the most recently used last.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<VecDeque<(Instant, Connection)>>,
    max_idle: usize,
    idle_timeout: Duration,
    /// Those that the endpoint had when its name was last asked for again; before that, none.
    addresses: Mutex<Vec<IpAddr>>,
}

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self { idle: Mutex::default(), max_idle, idle_timeout, addresses: Mutex::default() }
    }

    /// A connection that is still alive, as far as can be seen.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.lock();
        self.expire(&mut idle);
        while let Some((_, mut connection)) = idle.pop_back() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    /// Whether none waits, alive or not.
    pub(super) fn is_empty(&self) -> bool {
        let mut idle = self.lock();
        self.expire(&mut idle);
        idle.is_empty()
    }

    /// Drops connections to addresses that are not among these.
    pub(super) fn follow(&self, addresses: &[IpAddr]) {
        self.lock().retain(|(_, connection)| connection.peer().is_none_or(|peer| addresses.contains(&peer)));
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }

    pub(super) fn put(&self, connection: Connection) {
        {
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = |peer: IpAddr| !addresses.is_empty() && !addresses.contains(&peer);
            if connection.peer().is_some_and(gone) {
                return;
            }
        }
        let mut idle = self.lock();
        idle.push_back((Instant::now(), connection));
        self.expire(&mut idle);
    }

    fn expire(&self, idle: &mut VecDeque<(Instant, Connection)>) {
        while idle.front().is_some_and(|(since, _)| since.elapsed() > self.idle_timeout)
            || idle.len() > self.max_idle
        {
            idle.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
