//! Many resumable streams: bounded memory, stops that stop, evictions in order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, sync::Notify, task::JoinSet};

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

/// Connects with small buffers of its own, so that what is not read stays at the gateway soon.
async fn connect(address: std::net::SocketAddr) -> Client {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Client::with(soon(socket.connect(address)).await.unwrap())
}

/// How far readers have come, and whether they have come as far as they shall.
struct Progress {
    read: Vec<AtomicUsize>,
    goals: Vec<AtomicUsize>,
    left: AtomicUsize,
    reached: Notify,
}

impl Progress {
    fn of(readers: usize) -> Self {
        let zeros = || (0..readers).map(|_| AtomicUsize::new(0)).collect();
        let goals = (0..readers).map(|_| AtomicUsize::new(usize::MAX)).collect();
        Self { read: zeros(), goals, left: AtomicUsize::new(0), reached: Notify::new() }
    }

    fn add(&self, reader: usize, bytes: usize) {
        let now = self.read[reader].fetch_add(bytes, SeqCst) + bytes;
        let arrived = now >= self.goals[reader].load(SeqCst)
            && self.goals[reader].swap(usize::MAX, SeqCst) != usize::MAX;
        if arrived && self.left.fetch_sub(1, SeqCst) == 1 {
            self.reached.notify_one();
        }
    }

    /// Waits until every reader from this one on has read so much more.
    async fn everybody(&self, from: usize, more: usize) {
        self.left.store(self.read.len() - from, SeqCst);
        for (read, goal) in self.read.iter().zip(&self.goals).skip(from) {
            goal.store(read.load(SeqCst) + more, SeqCst);
        }
        self.reached.notified().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_cost_little_and_disturb_nobody() {
    const STALLED: usize = 200;
    let gateway = Gateway::start("[resume]\nenabled = true\n[log]\naccess = \"off\"\n").await;
    // Those who will stop have fast models, so that their buffers are full soon.
    let model = |number: usize| {
        let interval = if number < STALLED { 25 } else { 500 };
        format!("sim:interval={interval}ms,jitter=0,ttft=10ms,tokens=endless,chunk=4,lang=en")
    };
    let progress = Arc::new(Progress::of(STREAMS));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut reading = JoinSet::new();
    for number in 0..STREAMS {
        let (progress, mut stopped, address) = (Arc::clone(&progress), stopped.clone(), gateway.address);
        let body = ask(&model(number)).to_string();
        reading.spawn(async move {
            let mut client = connect(address).await;
            client.post("/v1/chat/completions", &body).await;
            let mut piece = [0; 8192];
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped && number < STALLED) => return Some(client),
                    count = client.socket.read(&mut piece) => match count {
                        Ok(count @ 1..) => progress.add(number, count),
                        _ => return None,
                    },
                };
            }
        });
    }
    progress.everybody(0, 1_000).await;
    let before = gateway.resident();
    stop.send(true).unwrap();
    let mut held = Vec::new();
    while held.len() < STALLED {
        held.push(reading.join_next().await.unwrap().unwrap().expect("a reader that stops by itself"));
    }
    // The models of those who stopped are paused: what the gateway holds of them stands still.
    let (mut last, mut still) = (0, 0);
    while still < 3 {
        progress.everybody(STALLED, 1_000).await;
        let now = gauge(&gateway, "flumen_buffered_bytes").await;
        still = if now.abs_diff(last) < STALLED * 512 { still + 1 } else { 0 };
        last = now;
    }
    let extra = gateway.resident().saturating_sub(before) / STALLED;
    println!(
        "{} KiB more for each reader that stopped, {} KiB of it unread",
        extra / 1024,
        last / STALLED / 1024
    );
    assert!(last > STALLED * 30 * 1024, "they did stop");
    assert!(extra <= 64 * 1024, "{extra} bytes");
    progress.everybody(STALLED, 1_000).await;
    drop(held);
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
    for _ in 0..1500 {
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

#[tokio::test]
async fn the_model_waits_for_a_reader_unless_it_is_told_not_to() {
    for (backpressure, ends) in [("coupled", false), ("detached", true)] {
        let (done, mut finished) = tokio::sync::mpsc::channel(1);
        let upstream = Upstream::start(move |mut conn| {
            let done = done.clone();
            async move {
                conn.stream_head().await;
                // More than all buffers on the way hold, and little in compact form.
                for _ in 0..20_000 {
                    conn.chunk(event(&"x".repeat(400)).as_bytes()).await;
                }
                conn.chunk(b"data: [DONE]\n\n").await;
                conn.finish().await;
                done.send(()).await.unwrap();
            }
        })
        .await;
        let config = format!("[resume]\nenabled = true\nbackpressure = \"{backpressure}\"\n");
        let gateway = Gateway::before(upstream.address, &config).await;
        let (mut client, head) = Client::open(gateway.address, &chat("m")).await;
        let path = format!("/v1/streams/{}", stream_of(&head));
        if ends {
            soon(finished.recv()).await.unwrap();
        } else {
            let buffered = async || gauge(&gateway, "flumen_buffered_bytes").await;
            while buffered().await < 40_000 {}
            assert!(finished.try_recv().is_err());
            let state = Client::get(gateway.address, &format!("{path}?transport=json")).await.json();
            assert_eq!(state["state"], "open");
        }
        // Whoever reads gets all of it.
        let rest = client.until("[DONE]").await;
        assert_eq!(rest.matches("\"content\"").count(), 20_000, "{backpressure}");
    }
}
