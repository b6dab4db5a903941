//! A slow reader pauses its own upstream and nothing else, and memory stays flat.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::support::{Client, Gateway, Upstream, chat, event, soon};

/// An upstream without end that counts what it could write.
async fn endless() -> (Upstream, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let upstream = Upstream::start(move |mut conn| {
        let count = Arc::clone(&count);
        async move {
            conn.stream_head().await;
            let chunk = event(&"x".repeat(200));
            let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
            while tokio::io::AsyncWriteExt::write_all(&mut conn.socket, framed.as_bytes()).await.is_ok() {
                count.fetch_add(framed.len(), SeqCst);
            }
        }
    })
    .await;
    (upstream, written)
}

/// Waits until the counter has stood still for a while, and returns it.
async fn settled(counter: &AtomicUsize) -> usize {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    let (mut last, mut still) = (usize::MAX, 0);
    while still < 25 {
        ticks.tick().await;
        let now = counter.load(SeqCst);
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test]
async fn a_reader_that_stops_pauses_its_upstream_until_it_reads_again() {
    let (upstream, written) = endless().await;
    let gateway = Gateway::before(upstream.address, "").await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    let paused = soon(settled(&written)).await;
    assert!(paused < 8 << 20, "{paused} bytes went into the void");
    let mut sink = vec![0; 1 << 20];
    while written.load(SeqCst) < paused + (1 << 20) {
        let read = soon(tokio::io::AsyncReadExt::read(&mut client.socket, &mut sink)).await.unwrap();
        assert!(read > 0, "the stream goes on");
    }
    let metrics = gateway.metrics().await;
    let paused = metrics.lines().find(|line| line.starts_with("flumen_paused_seconds_total{")).unwrap();
    assert!(!paused.ends_with(" 0.0"), "{paused}");
}

#[tokio::test]
async fn others_go_on_while_one_is_paused() {
    let (upstream, written) = endless().await;
    let gateway = Gateway::before(upstream.address, "").await;
    let (_stuck, _) = Client::open(gateway.address, &chat("m")).await;
    soon(settled(&written)).await;
    let before = written.load(SeqCst);
    let (mut reader, _) = Client::open(gateway.address, &chat("m")).await;
    let mut sink = vec![0; 1 << 20];
    while written.load(SeqCst) < before + (4 << 20) {
        assert!(soon(tokio::io::AsyncReadExt::read(&mut reader.socket, &mut sink)).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn memory_stays_flat_when_nobody_reads() {
    const STREAMS: usize = 64;
    let (upstream, written) = endless().await;
    let gateway = Gateway::before(upstream.address, "").await;
    // One stream first, so that what every process needs once is not counted.
    let (_warm, _) = Client::open(gateway.address, &chat("m")).await;
    soon(settled(&written)).await;
    let before = gateway.resident();
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        clients.push(Client::open(gateway.address, &chat("m")).await);
    }
    soon(settled(&written)).await;
    let grown = gateway.resident().saturating_sub(before);
    println!("{STREAMS} unread streams: {} KiB each", grown / STREAMS / 1024);
    assert!(grown < STREAMS * 256 * 1024, "{grown} bytes for {STREAMS} streams");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_its_upstream_cancelled() {
    let (gone, mut left) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.clone();
        async move {
            conn.stream_head().await;
            let chunk = event(&"x".repeat(4000));
            let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
            while tokio::io::AsyncWriteExt::write_all(&mut conn.socket, framed.as_bytes()).await.is_ok() {}
            gone.send(()).await.unwrap();
        }
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "[timeouts]\nclient_stall = \"300ms\"\n").await;
    let (_client, _) = Client::open(gateway.address, &chat("m")).await;
    soon(left.recv()).await.unwrap();
    assert_eq!(gateway.access().await["cause"], "client_stalled");
}
