//! Many resumable streams: bounded memory, stops that stop, evictions in order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, task::JoinSet};

use crate::support::{Client, Gateway, Upstream, chat, event, soon};

const STREAMS: usize = 1000;

fn ask(model: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "x"}]})
}

fn stream_of(head: &str) -> String {
    head.lines().find_map(|line| line.strip_prefix("flumen-stream-id: ")).unwrap().to_owned()
}

async fn gauge(gateway: &Gateway, name: &str) -> usize {
    let metrics = gateway.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test]
async fn a_thousand_streams_without_readers_finish_and_can_be_read() {
    let gateway = Gateway::start("[resume]\nenabled = true\n[log]\naccess = \"off\"\n").await;
    let model = "sim:tps=200,ttft=10ms,tokens=60,lang=mix";
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut client = Client::connect(gateway.address).await;
        client
            .request("POST", "/v1/chat/completions", &[("prefer", "respond-async")], &ask(model).to_string())
            .await;
        streams.push(client.answer().await.json()["id"].as_str().unwrap().to_owned());
    }
    for stream in &streams {
        let text = soon(Client::get(gateway.address, &format!("/v1/streams/{stream}"))).await.text();
        assert!(
            text.ends_with(&format!("data: [DONE]\nid: {stream}.1-{}\n\n", text.matches("\n\n").count()))
        );
    }
    let held = gauge(&gateway, "flumen_kept_bytes").await;
    println!("{} bytes for each finished stream of 60 tokens", held / STREAMS);
    assert!(held / STREAMS < 10 * 1024);
}

/// An upstream whose streams never end, as fast as they are taken.
async fn endless(written: Arc<AtomicUsize>) -> Upstream {
    Upstream::start(move |mut conn| {
        let written = Arc::clone(&written);
        async move {
            conn.stream_head().await;
            let mut number = 0;
            loop {
                number += 1;
                let chunk = event(&format!("{number} {}", "x".repeat(200)));
                let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
                if tokio::io::AsyncWriteExt::write_all(&mut conn.socket, framed.as_bytes()).await.is_err() {
                    return;
                }
                written.fetch_add(framed.len(), SeqCst);
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_cost_little_and_disturb_nobody() {
    const STALLED: usize = 200;
    let written = Arc::new(AtomicUsize::new(0));
    let upstream = endless(Arc::clone(&written)).await;
    let more = "[resume]\nenabled = true\n[log]\naccess = \"off\"\n[models.paced]\nupstream = \"sim\"\n[models.\"sim:*\"]\nupstream = \"sim\"\n[upstreams.sim]\nkind = \"sim\"\n";
    let gateway = Gateway::before(upstream.address, more).await;
    // 800 streams that are read throughout.
    let mut reading = JoinSet::new();
    let read = Arc::new(AtomicUsize::new(0));
    for _ in 0..STREAMS - STALLED {
        let (read, address) = (Arc::clone(&read), gateway.address);
        let (mut client, _) = Client::open(address, &ask("sim:tps=20,ttft=10ms,tokens=endless")).await;
        reading.spawn(async move {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = client.socket.read(&mut piece).await {
                read.fetch_add(count, SeqCst);
            }
        });
    }
    let before = gateway.resident();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(Client::open(gateway.address, &chat("m")).await);
    }
    // The fast models are paused once the buffers of those who do not read are full.
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    let mut last = (0, 0);
    while last.1 < 5 {
        ticks.tick().await;
        let now = written.load(SeqCst);
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
    }
    let extra = gateway.resident().saturating_sub(before);
    let reads = read.load(SeqCst);
    while read.load(SeqCst) < reads + (1 << 20) {
        ticks.tick().await;
    }
    println!("{} KiB for each reader that stopped", extra / STALLED / 1024);
    // What a connection and an exchange with the upstream cost is in it, in a debug build.
    assert!(extra / STALLED < 160 * 1024, "{} KiB", extra / STALLED / 1024);
    assert!(gauge(&gateway, "flumen_kept_bytes").await < 64 << 20);
    assert!(gauge(&gateway, "flumen_buffered_bytes").await < STREAMS * (64 << 10));
}

#[tokio::test]
async fn when_the_budget_is_used_up_finished_streams_go_in_the_order_of_their_ends() {
    let gateway = Gateway::start("[resume]\nenabled = true\nbudget = \"1MiB\"\n").await;
    let mut ended = Vec::new();
    for seed in 0..60 {
        let mut client = Client::connect(gateway.address).await;
        let model = format!("sim:tps=0,ttft=0,tokens=2000,lang=mix,seed={seed}");
        client.post("/v1/chat/completions", &ask(&model).to_string()).await;
        let answer = client.answer().await;
        assert!(answer.complete && answer.text().contains("[DONE]"), "what is being read is never evicted");
        ended.push(stream_of(&answer.head));
    }
    let mut kept = Vec::new();
    for stream in &ended {
        kept.push(
            Client::get(gateway.address, &format!("/v1/streams/{stream}?transport=json")).await.status == 200,
        );
    }
    let first = kept.iter().position(|kept| *kept).unwrap();
    assert!(first > 0 && kept[first..].iter().all(|kept| *kept), "{kept:?}");
    assert!(gauge(&gateway, "flumen_kept_bytes").await <= 1 << 20);
}

#[tokio::test]
async fn when_open_streams_use_the_budget_up_others_are_served_without_resuming() {
    let gateway = Gateway::start("[resume]\nenabled = true\nbudget = \"1MiB\"\n").await;
    let (mut open, mut plain) = (Vec::new(), None);
    for _ in 0..2000 {
        let (client, head) = Client::open(gateway.address, &ask("sim:ttft=0,tps=1,tokens=endless")).await;
        if !head.contains("flumen-stream-id") {
            plain = Some((client, head));
            break;
        }
        open.push(client);
    }
    let (mut client, head) = plain.expect("the budget is used up");
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("link: "));
    let event = client.until("\n\n").await;
    assert!(!event.contains("id: "), "{event}");
}

#[tokio::test]
async fn a_stop_reaches_the_model_at_once() {
    let (left, mut seen) = tokio::sync::mpsc::channel(10);
    let upstream = Upstream::start(move |mut conn| {
        let left = left.clone();
        async move {
            conn.stream_head().await;
            conn.chunk(event("a").as_bytes()).await;
            conn.closed().await;
            left.send(tokio::time::Instant::now()).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::before(upstream.address, "[resume]\nenabled = true\n").await;
    let mut took = Vec::new();
    for _ in 0..50 {
        let (mut client, head) = Client::open(gateway.address, &chat("m")).await;
        client.until("\"a\"").await;
        let mut stopper = Client::connect(gateway.address).await;
        let asked = tokio::time::Instant::now();
        stopper.request("DELETE", &format!("/v1/streams/{}", stream_of(&head)), &[], "").await;
        took.push(soon(seen.recv()).await.unwrap() - asked);
        assert_eq!(stopper.answer().await.json()["state"], "cancelled");
    }
    took.sort();
    println!("from the stop to the model: median {:?}, longest {:?}", took[25], took[49]);
}
