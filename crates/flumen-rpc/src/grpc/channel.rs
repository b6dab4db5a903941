//! Connections to a service, at as many addresses as it has.

use std::{
    future::{Future, poll_fn},
    pin::pin,
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

use super::{
    CONNECTION_WINDOW,
    addresses::{Address, Addresses},
    inbound::Place,
};

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
pub(super) type Send = SendRequest<tonic::body::Body>;

#[derive(Debug)]
pub(super) struct Channel {
    addresses: Arc<Addresses>,
    pub(super) options: Options,
    state: Mutex<State>,
    /// Held by the one who connects, so that many calls at once do not open as many connections.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    failed: Vec<(Address, Instant)>,
    /// The latest failure, for those who waited for the same connection.
    failure: Option<(Instant, ErrorKind, String)>,
}

/// One connection.
#[derive(Debug)]
struct Line {
    address: Address,
    send: Send,
    streams: Arc<AtomicUsize>,
    /// As many as the peer allows.
    allowed: Arc<AtomicUsize>,
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
        Self {
            addresses: Addresses::of(dialers),
            options,
            state: Mutex::default(),
            connecting: Arc::default(),
        }
    }

    pub(super) fn dialer(&self, endpoint: usize) -> &Dialer {
        self.addresses.dialer(endpoint)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the connection to the address with the fewest streams, which is opened if need be.
    pub(super) async fn lane(self: &Arc<Self>) -> Result<Lane, Error> {
        let began = Instant::now();
        let addresses = self.addresses.current().await?;
        if addresses.is_empty() {
            return Err(Error::new(ErrorKind::Resolve, "the service has no address"));
        }
        loop {
            let pick = self.state().pick(&addresses, &self.options);
            match pick {
                Pick::Lane(lane) => return Ok(lane),
                Pick::Connect(address, Some(spare)) => {
                    self.connect_aside(address);
                    return Ok(spare);
                }
                Pick::Connect(_, None) => {
                    let _one = self.connecting.lock().await;
                    self.connect_next(&addresses, began).await?;
                }
                Pick::Nowhere => self.state().try_again(began)?,
            }
        }
    }

    /// Connects, unless somebody has just done so.
    async fn connect_next(&self, addresses: &[Address], began: Instant) -> Result<(), Error> {
        let pick = self.state().pick(addresses, &self.options);
        match pick {
            Pick::Connect(address, None) => self.connect(address).await,
            Pick::Nowhere => self.state().try_again(began)?,
            Pick::Lane(_) | Pick::Connect(_, Some(_)) => {}
        }
        Ok(())
    }

    /// Connects while the calls use what there is.
    fn connect_aside(self: &Arc<Self>, address: Address) {
        if let Ok(one) = Arc::clone(&self.connecting).try_lock_owned() {
            let own = Arc::clone(self);
            tokio::spawn(async move {
                own.connect(address).await;
                drop(one);
            });
        }
    }

    async fn connect(&self, address: Address) {
        let outcome = self.open(address).await;
        let mut state = self.state();
        match outcome {
            Ok(line) => state.lines.push(line),
            Err(error) => {
                state.failed.push((address, Instant::now()));
                state.failure = Some((Instant::now(), error.kind(), error.to_string()));
            }
        }
    }

    async fn open(&self, address: Address) -> Result<Line, Error> {
        let (endpoint, ip) = address;
        let io = self.dialer(endpoint).dial(Some(ip), &mut Timings::new()).await?;
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
        let allowed = Arc::new(AtomicUsize::new(usize::MAX));
        let told = Arc::clone(&allowed);
        // It ends when the last sender and the last stream are gone.
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                told.store(connection.current_max_send_streams(), Relaxed);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an HTTP/2 connection to a service ended");
            }
        });
        Ok(Line { address, send, streams: Arc::default(), allowed, used: Instant::now() })
    }
}

impl State {
    fn pick(&mut self, addresses: &[Address], options: &Options) -> Pick {
        self.lines.retain(|line| {
            let idle = line.streams.load(Relaxed) == 0 && line.used.elapsed() > options.idle;
            addresses.contains(&line.address) && !line.send.is_closed() && !idle
        });
        self.failed.retain(|(_, since)| since.elapsed() < AFTER_FAILURE);
        let load = |address: Address| {
            let own = self.lines.iter().filter(|line| line.address == address);
            own.map(|line| line.streams.load(Relaxed)).sum::<usize>()
        };
        let unconnected = |address: Address| !self.lines.iter().any(|line| line.address == address);
        let open = addresses.iter().copied().filter(|address| !self.has_failed(*address));
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
        let most = |line: &Line| options.max_streams.min(line.allowed.load(Relaxed)).max(1);
        let room = |line: &&mut Line| among(line) && streams(line) < most(line);
        let line = self.lines.iter_mut().filter(room).min_by_key(|line| streams(line))?;
        line.used = Instant::now();
        line.streams.fetch_add(1, Relaxed);
        let place = Place(Arc::clone(&line.streams));
        Some(Lane { send: line.send.clone(), place, endpoint: line.address.0 })
    }

    /// No address answers. Whoever waited while that was found out is told; who came later tries again.
    fn try_again(&mut self, began: Instant) -> Result<(), Error> {
        if let Some((at, kind, message)) = &self.failure
            && *at >= began
        {
            return Err(Error::new(*kind, message.clone()));
        }
        self.failed.clear();
        Ok(())
    }

    fn has_failed(&self, address: Address) -> bool {
        self.failed.iter().any(|(failed, _)| *failed == address)
    }
}
