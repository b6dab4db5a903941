use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use flumen_wire::client::{Dialer, Error, Io, Timings};
use tokio::time::{Instant, timeout_at};

mod link;
mod pool;
mod receiver;
mod sender;
mod unary;

pub(super) use receiver::Receiver;
pub(super) use sender::Sender;

use link::{About, Link};
use pool::Pool;

use super::{
    Frame, Kind, ending,
    frame::{Allowed, key},
    halves,
    info::{Info, STRUCT},
    strings::{self, Strings},
};
use crate::{Call, Exchange, In, Inbound, Out, Outbound, Status};

/// How a unary call travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// The message with its length before it. No metadata travels.
    Framed,
    /// In a frame of TTHeader.
    #[default]
    TtHeader,
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How unary calls travel. Default TTHeader.
    pub unary: Framing,
    /// By what name it is known to services, and in the path of a cancellation. Default `flumen`.
    pub name: String,
    /// Largest message accepted, in bytes. Default 4 MiB.
    pub max_message: usize,
    /// Largest header of a frame accepted, in bytes. Default 64 KiB.
    pub max_header: usize,
    /// How many unused connections are kept, of those for streams and of those for unary calls. Default 256.
    pub max_idle: usize,
    /// How long an unused connection is kept. Default 55 s.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            unary: Framing::default(),
            name: "flumen".to_owned(),
            max_message: 4 << 20,
            max_header: 64 * 1024,
            max_idle: 256,
            idle: Duration::from_secs(55),
        }
    }
}

/// A client of one service. Cheap to clone.
///
/// Connections belong to the runtime they were opened on: use one client per runtime.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Endpoint>,
    options: Options,
    /// Whose turn it is.
    turn: AtomicUsize,
}

/// One place where the service is, and the connections there that wait for their next call.
#[derive(Debug)]
struct Endpoint {
    dialer: Dialer,
    /// Apart, since Kitex's server decides by a connection's first frame what it is for.
    streams: Arc<Pool>,
    unary: Arc<Pool>,
    /// When it last did not answer.
    failed: Mutex<Option<Instant>>,
}

/// An endpoint that did not answer is passed over for so long, if there is another.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Numbers of streams and of unary messages. One for the process, as Kitex does it.
static NEXT: AtomicI32 = AtomicI32::new(1);

fn next_id() -> i32 {
    // 0 is for what concerns the connection.
    match NEXT.fetch_add(1, Relaxed) {
        0 => NEXT.fetch_add(1, Relaxed),
        id => id,
    }
}

impl Client {
    /// Of the service at an endpoint. Opens nothing yet.
    pub fn new(dialer: Dialer, options: Options) -> Self {
        Self::spread(vec![dialer], options)
    }

    /// Of the service at several endpoints, which take turns. One that does not answer is passed over.
    pub fn spread(dialers: Vec<Dialer>, options: Options) -> Self {
        let pool = || Arc::new(Pool::new(options.max_idle, options.idle));
        let endpoint = |dialer| Endpoint { dialer, streams: pool(), unary: pool(), failed: Mutex::default() };
        let endpoints = dialers.into_iter().map(endpoint).collect();
        Self { shared: Arc::new(Shared { endpoints, options, turn: AtomicUsize::new(0) }) }
    }

    /// Begins a streaming call, on a connection of its own. Its first frame leaves together with the first message, or when
    /// [`Exchange::inbound`] is first read.
    ///
    /// A kept connection that turns out to be closed gives an `Unavailable` before anything else, with
    /// [`ErrorKind::ClosedBeforeResponse`](flumen_wire::client::ErrorKind) as its [`Status::connection`]: such a call can be made again.
    /// Cancel-safe: dropping the future abandons the call.
    ///
    /// # Errors
    /// When there is no connection ([`Status::connection`] says why), or the deadline has passed.
    pub async fn stream(&self, call: &Call) -> Result<Exchange, Status> {
        let options = &self.shared.options;
        let Connected { io, reused, pool } =
            within(call, self.shared.connect(|endpoint| &endpoint.streams)).await??;
        let about =
            About { id: next_id(), method: call.method.clone(), name: options.name.clone(), pool, reused };
        let mut begin = Vec::new();
        header(&about, call).write(&mut begin);
        let link = Arc::new(Link::new(about, io, begin));
        let allowed = Allowed { message: options.max_message, header: options.max_header };
        let sender = Sender::new(Arc::clone(&link), call.deadline);
        let receiver = Receiver::new(link, call.deadline, allowed);
        Ok(Exchange {
            outbound: Outbound(Out::TtHeader(halves::Outbound::Client(sender))),
            inbound: Inbound(In::TtHeader(halves::Inbound::Client(Box::new(receiver)))),
        })
    }

    /// Makes a unary call: `args` is the struct of its arguments ([`Args`](crate::thrift::message::Args)), and what comes back that
    /// of its result ([`Reply`](crate::thrift::message::Reply)), both encoded.
    ///
    /// A call that met a kept connection which the service had just closed is made once more, if not a byte of an answer had come.
    /// Cancel-safe: dropping the future abandons the call and closes its connection.
    ///
    /// # Errors
    /// When there is no connection, the deadline passes, or the service fails.
    pub async fn unary(&self, call: &Call, args: Bytes) -> Result<Bytes, Status> {
        within(call, unary::call(&self.shared, call, args)).await?
    }
}

async fn within<T>(call: &Call, future: impl Future<Output = T>) -> Result<T, Status> {
    let Some(deadline) = call.deadline else { return Ok(future.await) };
    // What is due at once is not even tried.
    if deadline <= Instant::now() {
        return Err(ending::deadline());
    }
    timeout_at(deadline, future).await.map_err(|_| ending::deadline())
}

/// A connection for one call.
struct Connected {
    io: Io,
    /// Whether it had carried another.
    reused: bool,
    /// Where it goes when all ends well.
    pool: Arc<Pool>,
}

impl Shared {
    /// A kept connection to the endpoint whose turn it is, or else a new one; to the next endpoint if that one does not answer.
    async fn connect(&self, pool: impl Fn(&Endpoint) -> &Arc<Pool>) -> Result<Connected, Status> {
        let (turn, all) = (self.turn.fetch_add(1, Relaxed), self.endpoints.len());
        let mut in_turn: Vec<_> = (0..all).map(|at| &self.endpoints[turn.wrapping_add(at) % all]).collect();
        // Those that did not answer a moment ago come last.
        in_turn.sort_by_key(|endpoint| endpoint.has_failed());
        let mut last = Status::unavailable("the service has no endpoint");
        for endpoint in in_turn {
            let pool = Arc::clone(pool(endpoint));
            if let Some(io) = pool.take().await {
                return Ok(Connected { io, reused: true, pool });
            }
            match endpoint.open(turn / all).await {
                Ok(io) => return Ok(Connected { io, reused: false, pool }),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

impl Endpoint {
    fn has_failed(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|since| since.elapsed() < AFTER_FAILURE)
    }

    async fn open(&self, turn: usize) -> Result<Io, Error> {
        let outcome = self.dial(turn).await;
        let failed = outcome.is_err().then(Instant::now);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        outcome
    }

    /// A new connection: the addresses of the endpoint's name take turns, too.
    async fn dial(&self, turn: usize) -> Result<Io, Error> {
        let addresses = self.dialer.addresses().await?;
        let first = addresses.get(turn.checked_rem(addresses.len()).unwrap_or_default()).copied();
        match self.dialer.dial(first, &mut Timings::new()).await {
            Err(error) if addresses.len() < 2 => Err(error),
            // Whichever answers.
            Err(_) => self.dialer.dial(None, &mut Timings::new()).await,
            Ok(io) => Ok(io),
        }
    }
}

/// The first frame of a stream.
fn header(about: &About, call: &Call) -> Frame {
    let mut strings = Strings::of(&call.metadata);
    strings.put(strings::SERVICE, &call.service);
    let timeout = timeout(call);
    let mut numbered = vec![(key::FRAME_TYPE, Kind::Header.as_str()), (key::METHOD, &*call.method)];
    numbered.extend(timeout.as_deref().map(|timeout| (key::TIMEOUT, timeout)));
    let info = Info::new(STRUCT, &numbered, strings.iter());
    Frame { flags: super::STREAMING, id: about.id, info, payload: Bytes::new() }
}

/// The time that is left, in milliseconds. What is left of one counts as one.
fn timeout(call: &Call) -> Option<String> {
    call.left().map(|left| left.as_nanos().div_ceil(1_000_000).max(1).to_string())
}
