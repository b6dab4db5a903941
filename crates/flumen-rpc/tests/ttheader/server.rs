//! A server on a loopback socket, clients of it, and a client that speaks in frames.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flumen_rpc::{
    Business, Call, Cancel, Cancellation, Code, Incoming, Metadata, Services, Status,
    ttheader::{Client, Codec, Error, Frame, Kind, Limits, Options, serve_connection},
};
use flumen_wire::{
    client::{self, Dialer},
    listen::Shutdown,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::codec::{Decoder, FramedRead};

/// Where a handler tells that it was dropped, and for what reason.
pub(crate) type Ended = mpsc::Receiver<Option<Cancel>>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    /// Connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
    /// How connections ended.
    pub(crate) ended: mpsc::Receiver<Result<(), Error>>,
    /// Handlers of `Wait` that have begun.
    pub(crate) waiting: Arc<AtomicUsize>,
    /// How handlers of `Wait` and `Flood` ended.
    pub(crate) dropped: Ended,
    /// Bytes that `Flood` has sent.
    pub(crate) flooded: Arc<AtomicUsize>,
    /// Lets a handler of `Gate` read.
    pub(crate) gate: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Tells how its handler ended.
struct Watch(mpsc::Sender<Option<Cancel>>, Cancellation);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.try_send(self.1.reason().cloned());
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, dropped) = mpsc::channel(64);
        let (told_end, ended) = mpsc::channel(64);
        let [flooded, accepted, waiting] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let (open, opened) = oneshot::channel();
        let shutdown = Shutdown::new();
        let services = services(&told, &flooded, &waiting, opened);
        let accepting = tokio::spawn({
            let (shutdown, accepted) = (shutdown.clone(), Arc::clone(&accepted));
            async move {
                loop {
                    let (io, _) = listener.accept().await.unwrap();
                    io.set_nodelay(true).unwrap();
                    accepted.fetch_add(1, Relaxed);
                    let connection = serve_connection(io, services.clone(), limits, shutdown.clone());
                    let told_end = told_end.clone();
                    tokio::spawn(async move {
                        let outcome = connection.await;
                        let _ = told_end.send(outcome).await;
                    });
                }
            }
        });
        let gate = Arc::new(Mutex::new(Some(open)));
        Self { address, shutdown, accepted, ended, waiting, dropped, flooded, gate, accepting }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(Options::default())
    }

    pub(crate) fn client_with(&self, options: Options) -> Client {
        let endpoint = format!("http://{}", self.address).parse().unwrap();
        Client::new(Dialer::new(endpoint, client::Options::default()).unwrap(), options)
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw::new(TcpStream::connect(self.address).await.unwrap())
    }
}

pub(crate) fn call(method: &str) -> Call {
    Call::new("Test", method)
}

fn services(
    told: &mpsc::Sender<Option<Cancel>>,
    flooded: &Arc<AtomicUsize>,
    waiting: &Arc<AtomicUsize>,
    opened: oneshot::Receiver<()>,
) -> Services {
    let (waits, floods) = (told.clone(), told.clone());
    let (flooded, waiting) = (Arc::clone(flooded), Arc::clone(waiting));
    let opened = Arc::new(Mutex::new(Some(opened)));
    Services::new()
        .method("Test", "Echo", echo)
        .method("Test", "Collect", collect)
        .method("Test", "Count", count)
        .method("Test", "Fail", |incoming: Incoming| async move {
            incoming.cancellation.is_cancelled();
            Err(Status::new(Code::NotFound, "no such thing"))
        })
        .method("Test", "Silent", |_| async { Ok(Metadata::default()) })
        .method("Test", "FailLate", |mut incoming: Incoming| async move {
            incoming.answers.send(Bytes::from_static(b"first")).await?;
            Err(Status::new(Code::Unknown, "later").with_wire(4242))
        })
        .method("Test", "Business", |_| async {
            let extra = [("where".to_owned(), "here".to_owned())].into();
            Err(Status::business(Business { code: 4001, message: "no more".into(), extra }))
        })
        .method("Test", "Panic", |incoming: Incoming| async move {
            assert!(incoming.cancellation.is_cancelled(), "this handler panics");
            Ok(Metadata::default())
        })
        .method("Test", "Reset", |incoming: Incoming| async move {
            let path = vec!["model".to_owned()];
            incoming.requests.cancel(&Cancel { wire: Some(12009), path, ..Cancel::because("gone") });
            std::future::pending().await
        })
        .method("Test", "Wait", move |mut incoming: Incoming| {
            let watch = Watch(waits.clone(), incoming.cancellation.clone());
            waiting.fetch_add(1, Relaxed);
            async move {
                let _watch = watch;
                incoming.answers.send(Bytes::from_static(b"waiting")).await?;
                std::future::pending().await
            }
        })
        .method("Test", "Flood", move |incoming: Incoming| {
            let watch = Watch(floods.clone(), incoming.cancellation.clone());
            flood(incoming, watch, Arc::clone(&flooded))
        })
        .method("Test", "Gate", move |incoming: Incoming| {
            let opened = opened.lock().unwrap().take();
            async move {
                if let Some(opened) = opened {
                    let _ = opened.await;
                }
                collect(incoming).await
            }
        })
}

/// Sends back what comes, and the caller's metadata at the end.
async fn echo(incoming: Incoming) -> Result<Metadata, Status> {
    let Incoming { call, mut requests, mut answers, .. } = incoming;
    while let Some(message) = requests.next().await {
        answers.send(message?).await?;
    }
    Ok(call.metadata)
}

/// Answers how many messages and bytes came, and whether their numbers were in order.
async fn collect(mut incoming: Incoming) -> Result<Metadata, Status> {
    let (mut count, mut bytes, mut in_order) = (0u64, 0, true);
    while let Some(message) = incoming.requests.next().await {
        let message = message?;
        in_order &= message.get(..8).is_none_or(|number| number == count.to_be_bytes());
        count += 1;
        bytes += message.len();
    }
    incoming.answers.send(format!("{count} {bytes} {in_order}").into()).await?;
    Ok(incoming.requests.trailer().clone())
}

/// Sends as many numbers as are asked for.
async fn count(mut incoming: Incoming) -> Result<Metadata, Status> {
    let ask = incoming.requests.next().await.unwrap()?;
    let count: u64 = std::str::from_utf8(&ask).unwrap().parse().unwrap();
    for number in 0..count {
        incoming.answers.send(Bytes::copy_from_slice(&number.to_be_bytes())).await?;
    }
    Ok(Metadata::default())
}

/// Sends without end, and counts what was taken from it.
async fn flood(mut incoming: Incoming, watch: Watch, sent: Arc<AtomicUsize>) -> Result<Metadata, Status> {
    let _watch = watch;
    let message = Bytes::from(vec![7; 8 * 1024]);
    loop {
        incoming.answers.send(message.clone()).await?;
        sent.fetch_add(message.len(), Relaxed);
    }
}

/// A client that speaks in frames.
pub(crate) struct Raw {
    frames: FramedRead<tokio::net::tcp::OwnedReadHalf, Codec>,
    io: OwnedWriteHalf,
}

impl Raw {
    pub(crate) fn new(io: TcpStream) -> Self {
        io.set_nodelay(true).unwrap();
        let (read, write) = io.into_split();
        Self { frames: FramedRead::new(read, Codec::new(&Limits::default())), io: write }
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.send_bytes(&bytes).await;
    }

    /// A peer that has closed the connection is no fault of the test's.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    pub(crate) async fn begin(&mut self, id: i32, method: &str) {
        self.send(&Frame::of_stream(id, Kind::Header, method, [("isn", "Test")], Bytes::new())).await;
    }

    pub(crate) async fn data(&mut self, id: i32, payload: impl Into<Bytes>) {
        self.send(&Frame::of_stream(id, Kind::Data, "any", [], payload.into())).await;
    }

    pub(crate) async fn close(&mut self, id: i32) {
        self.send(&Frame::of_stream(id, Kind::Trailer, "any", [], Bytes::new())).await;
    }

    /// The next frame; `None` when the connection has ended, in whatever way.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut codec = *self.frames.decoder();
        loop {
            if let Some(frame) = codec.decode(self.frames.read_buffer_mut()).unwrap() {
                return Some(frame);
            }
            let mut more = BytesMut::with_capacity(16 * 1024);
            match self.frames.get_mut().read_buf(&mut more).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => self.frames.read_buffer_mut().extend_from_slice(&more),
            }
        }
    }

    /// The kinds and payloads of a stream's frames up to its end.
    pub(crate) async fn whole(&mut self, id: i32) -> Vec<(Kind, Bytes)> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            assert_eq!(frame.id, id);
            let kind = frame.kind().unwrap();
            all.push((kind, frame.payload));
            if matches!(kind, Kind::Trailer | Kind::Reset) {
                break;
            }
        }
        all
    }
}

/// Waits for what must happen soon. The limit is for a test that would hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen")
}

/// Gives everything else so many turns that whatever can happen has happened.
pub(crate) async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

/// Waits for a condition, by letting everything else have its turn.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
