//! Servers of own protocols: pushes wait for slow peers, leaving is noticed, limits hold, stopping is polite.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen::{
    Bytes,
    flow::{Error, Result},
    futures_util::{SinkExt, StreamExt},
    push::{Limits, Peer, PeerError, Server, Shutdown},
    task::tcp,
    wire::{
        boundary::{Assembler, Chunk, ChunkKind, ChunkMarked, LengthPrefixed, Lines, Received},
        relay::{Side, relay},
        tls::ServerTls,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::support::eventually;

struct Running {
    address: String,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

async fn start<H, Fut>(limits: Limits, handler: H) -> Running
where
    H: Fn(Peer<Lines>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let server = Server::bind("127.0.0.1:0").await.unwrap().limits(limits);
    let (address, shutdown) = (server.local_addr().unwrap().unwrap().to_string(), Shutdown::new());
    let task = tokio::spawn(server.serve(Lines::new, handler, shutdown.clone()));
    Running { address, shutdown, task }
}

async fn echo(mut peer: Peer<Lines>) -> Result<()> {
    while let Some(line) = peer.next().await? {
        peer.push(line).await?;
    }
    Ok(())
}

async fn talk<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: S) {
    let mut framed = tokio_util::codec::Framed::new(stream, Lines::new());
    framed.send("a").await.unwrap();
    framed.send("b").await.unwrap();
    for expected in ["a 1", "a 2", "b 1", "b 2"] {
        assert_eq!(framed.next().await.unwrap().unwrap(), expected);
    }
}

#[tokio::test]
async fn any_number_of_messages_go_both_ways_over_tcp_tls_and_unix() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let twice = |mut peer: Peer<Lines>| async move {
        while let Some(line) = peer.next().await? {
            peer.push(format!("{line} 1")).await?;
            peer.push(format!("{line} 2")).await?;
        }
        Ok(())
    };
    let plain = Server::bind("127.0.0.1:0").await.unwrap();
    let secure =
        Server::bind("127.0.0.1:0").await.unwrap().tls(&ServerTls::read(&cert, &key).unwrap()).unwrap();
    let ports = [&plain, &secure].map(|server| server.local_addr().unwrap().unwrap().port());
    let socket = dir.path().join("socket");
    let unix = Server::bind_unix(&socket).unwrap();
    let shutdown = Shutdown::new();
    let serving: Vec<_> = [plain, secure, unix]
        .into_iter()
        .map(|server| tokio::spawn(server.serve(Lines::new, twice, shutdown.clone())))
        .collect();

    talk(tcp::connect(&format!("127.0.0.1:{}", ports[0])).await.unwrap()).await;
    let roots = vec![made.cert.der().clone()];
    talk(tcp::connect_tls(&format!("localhost:{}", ports[1]), roots).await.unwrap()).await;
    talk(tokio::net::UnixStream::connect(&socket).await.unwrap()).await;
    assert!(
        tcp::connect_tls(&format!("localhost:{}", ports[1]), vec![]).await.is_err(),
        "an unknown certificate"
    );
    shutdown.drain();
    for server in serving {
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_push_waits_for_a_slow_peer_and_gives_up_on_a_dead_one() {
    let pushed = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(Mutex::new(None));
    let (count, end) = (Arc::clone(&pushed), Arc::clone(&ended));
    let limits = Limits { stall: Duration::from_secs(2), ..Limits::default() };
    let server = start(limits, move |mut peer: Peer<Lines>| {
        let (count, end) = (Arc::clone(&count), Arc::clone(&end));
        async move {
            let line = "x".repeat(64 * 1024);
            let error = loop {
                if let Err(error) = peer.push(&line).await {
                    break error;
                }
                count.fetch_add(1, Relaxed);
            };
            *end.lock().unwrap() = Some(error.source_as::<PeerError>().copied());
            Ok(())
        }
    })
    .await;
    let mut peer = TcpStream::connect(&server.address).await.unwrap();
    // What the kernel takes is bounded; a peer that reads gets more.
    let before = eventually("a standstill", {
        let (pushed, mut last) = (Arc::clone(&pushed), (0, 0));
        move || {
            let now = pushed.load(Relaxed);
            last = if now == last.0 && now > 0 { (now, last.1 + 1) } else { (now, 0) };
            (last.1 > 5).then_some(now)
        }
    })
    .await;
    let mut taken = vec![0; before * 64 * 1024];
    peer.read_exact(&mut taken).await.unwrap();
    eventually("more", || (pushed.load(Relaxed) > before).then_some(())).await;
    let end = eventually("the end", || *ended.lock().unwrap()).await;
    assert_eq!(end, Some(PeerError::Stalled(Duration::from_secs(2))));
}

#[tokio::test]
async fn leaving_is_noticed_while_the_handler_waits() {
    let ended = Arc::new(Mutex::new(None));
    let end = Arc::clone(&ended);
    let server = start(Limits::default(), move |mut peer: Peer<Lines>| {
        let end = Arc::clone(&end);
        async move {
            peer.push("hello").await?;
            let waited = peer.unless_left(std::future::pending::<()>()).await;
            *end.lock().unwrap() = waited.err().map(|error| error.source_as::<PeerError>().copied());
            Ok(())
        }
    })
    .await;
    let mut peer = tcp::connect(&server.address).await.unwrap().framed(Lines::new());
    assert_eq!(peer.next().await.unwrap().unwrap(), "hello");
    drop(peer);
    let end = eventually("the end", || *ended.lock().unwrap()).await;
    assert_eq!(end, Some(PeerError::Left));
}

/// Why a handler that waits for a message is given up under these limits, when the peer says this and no more.
async fn given_up(limits: Limits, said: &[u8]) -> PeerError {
    let ended = Arc::new(Mutex::new(None));
    let end = Arc::clone(&ended);
    let server = start(limits, move |mut peer: Peer<Lines>| {
        let end = Arc::clone(&end);
        async move {
            let error = peer.next().await.unwrap_err();
            *end.lock().unwrap() = error.source_as::<PeerError>().copied();
            Ok(())
        }
    })
    .await;
    let mut peer = TcpStream::connect(&server.address).await.unwrap();
    peer.write_all(said).await.unwrap();
    eventually("the end", || *ended.lock().unwrap()).await
}

#[tokio::test]
async fn silence_and_slow_messages_have_their_limits() {
    let (short, hour) = (Duration::from_millis(50), Duration::from_hours(1));
    let limits = Limits { idle: short, message: hour, ..Limits::default() };
    assert_eq!(given_up(limits, b"").await, PeerError::Idle(short));
    let limits = Limits { idle: hour, message: short, ..Limits::default() };
    assert_eq!(given_up(limits, b"never end").await, PeerError::SlowMessage(short));
}

#[tokio::test]
async fn a_codec_that_lies_about_lengths_ends_its_connection_only() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (server.local_addr().unwrap().unwrap().to_string(), Shutdown::new());
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&failures);
    let codec = || LengthPrefixed::builder().max_frame_length(1024).new_codec();
    let handler = move |mut peer: Peer<LengthPrefixed>| {
        let seen = Arc::clone(&seen);
        async move {
            match peer.next().await {
                Ok(Some(message)) => peer.push(message.freeze()).await,
                Ok(None) => Ok(()),
                Err(error) => {
                    seen.lock().unwrap().push(error.to_string());
                    Err(error)
                }
            }
        }
    };
    tokio::spawn(server.serve(codec, handler, shutdown));
    let mut liar = TcpStream::connect(&address).await.unwrap();
    liar.write_all(&[0xFF; 8]).await.unwrap();
    assert_eq!(liar.read(&mut [0; 8]).await.unwrap_or(0), 0, "closed");
    let honest = tcp::connect(&address).await.unwrap().call(codec(), Bytes::from("ok")).await.unwrap();
    assert_eq!(honest, "ok");
    assert_eq!(failures.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn draining_lets_handlers_say_goodbye() {
    let limits = Limits { drain: Duration::from_secs(10), ..Limits::default() };
    let server = start(limits, |mut peer: Peer<Lines>| async move {
        peer.push("hello").await?;
        peer.draining().await;
        peer.push("goodbye").await?;
        peer.close::<&str>().await
    })
    .await;
    let mut peer = tcp::connect(&server.address).await.unwrap().framed(Lines::new());
    assert_eq!(peer.next().await.unwrap().unwrap(), "hello");
    server.shutdown.drain();
    assert_eq!(peer.next().await.unwrap().unwrap(), "goodbye");
    assert!(peer.next().await.is_none());
    server.task.await.unwrap();
    assert!(TcpStream::connect(&server.address).await.is_err());
}

#[tokio::test]
async fn connections_are_limited() {
    let server = start(Limits { connections: 1, ..Limits::default() }, echo).await;
    let mut first = tcp::connect(&server.address).await.unwrap().framed(Lines::new());
    first.send("a").await.unwrap();
    assert_eq!(first.next().await.unwrap().unwrap(), "a");
    let mut second = tcp::connect(&server.address).await.unwrap().framed(Lines::new());
    second.send("b").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), second.next()).await;
    assert!(early.is_err(), "served only when the first is gone");
    drop(first);
    assert_eq!(second.next().await.unwrap().unwrap(), "b");
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_after_its_last_good_chunk() {
    let (assembler, content) = (Arc::new(Mutex::new(Assembler::up_to(10))), Arc::new(Mutex::new(Vec::new())));
    let (shared, received) = (Arc::clone(&assembler), Arc::clone(&content));
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (server.local_addr().unwrap().unwrap().to_string(), Shutdown::new());
    let handler = move |mut peer: Peer<ChunkMarked>| {
        let (assembler, content) = (Arc::clone(&shared), Arc::clone(&received));
        async move {
            while let Some(chunk) = peer.next().await? {
                let taken = assembler.lock().unwrap().take(chunk)?;
                match taken {
                    Received::Begun { transfer, at, .. } => {
                        let begin =
                            Chunk { kind: ChunkKind::Begin, transfer, number: at, content: Bytes::new() };
                        peer.push(begin).await?;
                    }
                    Received::Part { content: part, .. } => content.lock().unwrap().extend_from_slice(&part),
                    Received::Complete { transfer } => {
                        let end = Chunk { kind: ChunkKind::End, transfer, number: 0, content: Bytes::new() };
                        peer.push(end).await?;
                    }
                    Received::Duplicate | Received::Aborted { .. } => {}
                }
            }
            Ok::<_, Error>(())
        }
    };
    tokio::spawn(server.serve(ChunkMarked::default, handler, shutdown));
    let parts: Vec<Bytes> = (0..20_u8).map(|n| Bytes::from(vec![n; 100])).collect();
    let chunk = |kind, number: usize, content: &Bytes| Chunk {
        kind,
        transfer: 5,
        number: number as u64,
        content: content.clone(),
    };
    let mut sent_before = 0;
    for stop in [7, 13, 20] {
        let mut peer = tcp::connect(&address).await.unwrap().framed(ChunkMarked::default());
        peer.send(chunk(ChunkKind::Begin, 0, &Bytes::new())).await.unwrap();
        let at = usize::try_from(peer.next().await.unwrap().unwrap().number).unwrap();
        assert!(at <= sent_before);
        for (number, part) in parts.iter().enumerate().take(stop).skip(at) {
            peer.send(chunk(ChunkKind::Part, number, part)).await.unwrap();
        }
        sent_before = stop;
        if stop == parts.len() {
            peer.send(chunk(ChunkKind::End, stop, &Bytes::new())).await.unwrap();
            assert_eq!(peer.next().await.unwrap().unwrap().kind, ChunkKind::End);
        }
    }
    assert_eq!(*content.lock().unwrap(), parts.concat());
}

#[tokio::test]
async fn a_relay_peer_that_dies_half_way_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut client, first) =
        (TcpStream::connect(address).await.unwrap(), listener.accept().await.unwrap().0);
    let (server, second) = (TcpStream::connect(address).await.unwrap(), listener.accept().await.unwrap().0);
    let relaying = tokio::spawn(relay(first, second));
    client.write_all(b"12345").await.unwrap();
    let mut five = [0; 5];
    let mut server = server;
    server.read_exact(&mut five).await.unwrap();
    // Closing with unread bytes resets the connection.
    client.write_all(b"more").await.unwrap();
    server.readable().await.unwrap();
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let error = loop {
        if client.write_all(b"and more").await.is_err() || relaying.is_finished() {
            break relaying.await.unwrap().unwrap_err();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.side, Side::Second);
    assert!(error.moved.forth >= 5, "{error}");
}
