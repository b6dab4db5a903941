//! Connections to a service, at as many addresses as it has.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_wire::client::{Dialer, Error, ErrorKind, Timings};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::{CONNECTION_WINDOW, inbound::Place};

/// What a client does on its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Streams that one connection carries at a time. Default 100.
    pub max_streams: usize,
    /// Bytes that the service may send on one stream before they are read. Default 64 KiB.
    pub stream_window: u32,
    /// Bytes of our own messages that wait for the service. Default 64 KiB.
    pub send_buffer: usize,
    /// Largest message accepted, in bytes. Default 4 MiB.
    pub max_message: usize,
    /// How often a connection in use is asked for a sign of life, and how long that may take. Default 20 s.
    pub keep_alive: Duration,
    /// How long a connection without streams is kept. Default 55 s.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_streams: 100,
            stream_window: 64 * 1024,
            send_buffer: 64 * 1024,
            max_message: 4 << 20,
            keep_alive: Duration::from_secs(20),
            idle: Duration::from_secs(55),
        }
    }
}

/// After a failure an address is left alone for so long, if there is another.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Names are looked up again so often. The resolver keeps what lives longer.
const LOOK_UP: Duration = Duration::from_secs(5);

pub(super) type Send = SendRequest<tonic::body::Body>;

/// An endpoint, and one of its addresses.
type Address = (usize, IpAddr);

#[derive(Debug)]
pub(super) struct Channel {
    dialers: Vec<Dialer>,
    pub(super) options: Options,
    state: Mutex<State>,
    /// Held by the one who connects, so that many calls at once do not open as many connections.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    addresses: Vec<Address>,
    looked_up: Option<Instant>,
    failed: Vec<(Address, Instant)>,
}

/// One connection.
#[derive(Debug)]
struct Line {
    address: Address,
    send: Send,
    streams: Arc<AtomicUsize>,
    used: Instant,
}

/// A place on a connection.
pub(super) struct Lane {
    pub(super) send: Send,
    pub(super) place: Place,
    /// Which endpoint it leads to.
    pub(super) endpoint: usize,
}

/// What the state says of the next call.
enum Pick {
    Lane(Lane),
    /// A connection is wanted there; meanwhile this one would do.
    Connect(Address, Option<Lane>),
    Nowhere,
}

impl Channel {
    pub(super) fn new(dialers: Vec<Dialer>, options: Options) -> Self {
        Self { dialers, options, state: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    pub(super) fn dialers(&self) -> &[Dialer] {
        &self.dialers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the connection to the address with the fewest streams, which is opened if need be.
    pub(super) async fn lane(&self) -> Result<Lane, Error> {
        self.look_up().await?;
        let mut last = None;
        loop {
            let pick = self.state().pick(&self.options);
            let spare = match pick {
                Pick::Lane(lane) => return Ok(lane),
                Pick::Nowhere => return Err(last.unwrap_or_else(nowhere)),
                Pick::Connect(_, spare) => spare,
            };
            let _one = match (self.connecting.try_lock(), spare) {
                (Ok(guard), _) => guard,
                (Err(_), Some(lane)) => return Ok(lane),
                (Err(_), None) => self.connecting.lock().await,
            };
            // Whoever connected before us may have made room.
            let address = match self.state().pick(&self.options) {
                Pick::Lane(lane) => return Ok(lane),
                Pick::Nowhere => return Err(last.unwrap_or_else(nowhere)),
                Pick::Connect(address, _) => address,
            };
            match self.connect(address).await {
                Ok(line) => self.state().lines.push(line),
                Err(error) => {
                    last = Some(error);
                    let mut state = self.state();
                    state.failed.push((address, Instant::now()));
                    if state.addresses.iter().all(|address| state.has_failed(*address)) {
                        // They are tried again at the next call.
                        state.failed.clear();
                        return Err(last.unwrap_or_else(nowhere));
                    }
                }
            }
        }
    }

    /// Finds out, now and then, which addresses there are.
    async fn look_up(&self) -> Result<(), Error> {
        let is_known = |state: &State| {
            state.looked_up.is_some_and(|since| since.elapsed() < LOOK_UP && !state.addresses.is_empty())
        };
        if is_known(&self.state()) {
            return Ok(());
        }
        let (mut found, mut last) = (Vec::new(), None);
        for (endpoint, dialer) in self.dialers.iter().enumerate() {
            match dialer.addresses().await {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| (endpoint, address))),
                Err(error) => last = Some(error),
            }
        }
        let mut state = self.state();
        state.looked_up = Some(Instant::now());
        match last {
            // Better old addresses than none.
            Some(error) if found.is_empty() && state.addresses.is_empty() => Err(error),
            Some(_) if found.is_empty() => Ok(()),
            _ => {
                state.addresses = found;
                Ok(())
            }
        }
    }

    async fn connect(&self, address: Address) -> Result<Line, Error> {
        let (endpoint, ip) = address;
        let io = self.dialers[endpoint].dial(Some(ip), &mut Timings::new()).await?;
        let (send, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.options.stream_window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(self.options.send_buffer)
            .keep_alive_interval(self.options.keep_alive)
            .keep_alive_timeout(self.options.keep_alive)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| {
                Error::new(ErrorKind::Protocol, format!("the HTTP/2 handshake failed: {error}"))
            })?;
        // It ends when the last sender and the last stream are gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to a service ended");
            }
        });
        Ok(Line { address, send, streams: Arc::default(), used: Instant::now() })
    }
}

fn nowhere() -> Error {
    Error::new(ErrorKind::Resolve, "the service has no address")
}

impl State {
    fn pick(&mut self, options: &Options) -> Pick {
        let Self { lines, addresses, .. } = self;
        lines.retain(|line| {
            let idle = line.streams.load(Relaxed) == 0 && line.used.elapsed() > options.idle;
            addresses.contains(&line.address) && !line.send.is_closed() && !idle
        });
        self.failed.retain(|(_, since)| since.elapsed() < AFTER_FAILURE);
        let load = |address: Address| {
            let own = self.lines.iter().filter(|line| line.address == address);
            own.map(|line| line.streams.load(Relaxed)).sum::<usize>()
        };
        let unconnected = |address: Address| !self.lines.iter().any(|line| line.address == address);
        let open = self.addresses.iter().copied().filter(|address| !self.has_failed(*address));
        let Some(address) = open.min_by_key(|address| (load(*address), unconnected(*address))) else {
            return Pick::Nowhere;
        };
        match self.enter(options, |line| line.address == address) {
            Some(lane) => Pick::Lane(lane),
            None => Pick::Connect(address, self.enter(options, |_| true)),
        }
    }

    /// A place on the emptiest of these connections, if one has room.
    fn enter(&mut self, options: &Options, among: impl Fn(&Line) -> bool) -> Option<Lane> {
        let streams = |line: &Line| line.streams.load(Relaxed);
        let room = |line: &&mut Line| among(line) && streams(line) < options.max_streams;
        let line = self.lines.iter_mut().filter(room).min_by_key(|line| streams(line))?;
        line.used = Instant::now();
        line.streams.fetch_add(1, Relaxed);
        let place = Place(Arc::clone(&line.streams));
        Some(Lane { send: line.send.clone(), place, endpoint: line.address.0 })
    }

    fn has_failed(&self, address: Address) -> bool {
        self.failed.iter().any(|(failed, _)| *failed == address)
    }
}
