//! A stream is cut at every event and at every byte, and resumed over every transport and over a random mix of them: what
//! comes together equals the uncut stream.
//!
//! Optimised it resumes 100,000 times, in a debug build 20,000 times; `CUT_RESUMES=1000000` makes it a million
//! (`bench/cut` does).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other tests")]
mod support;

mod transport;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::json;
use support::{Client, Gateway};
use transport::{Event, Place, TRANSPORTS, Transport};

/// Connections that were cut and gone on with.
static RESUMES: AtomicUsize = AtomicUsize::new(0);

fn wanted() -> usize {
    let usual = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    std::env::var("CUT_RESUMES").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Several of these are under way at once.
const ABREAST: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_anywhere_and_resumed_anyhow_is_whole() {
    let gateway = Arc::new(
        Gateway::start("[resume]\nenabled = true\ngrace = \"20s\"\n[log]\naccess = \"off\"\n").await,
    );
    let at_events = at_every_event(&gateway).await;
    let at_bytes = at_every_byte(&gateway).await;
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..ABREAST {
        let (gateway, next) = (Arc::clone(&gateway), Arc::clone(&next));
        running.spawn(async move {
            while RESUMES.load(SeqCst) < wanted() {
                mixed(&gateway, next.fetch_add(1, SeqCst) as u64).await;
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    println!(
        "{} resumes: {at_events} at events, {at_bytes} at bytes, the rest at random in {} live streams",
        RESUMES.load(SeqCst),
        next.load(SeqCst)
    );
    assert!(RESUMES.load(SeqCst) >= wanted());
}

fn ask(model: &str) -> serde_json::Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "Rivers – 万物皆流 🌊"}]})
}

/// A stream that is finished, and its events as they are read without a cut.
async fn finished(gateway: &Gateway, model: &str) -> (String, Vec<u8>, Vec<Event>) {
    let mut client = Client::connect(gateway.address).await;
    client.post("/v1/chat/completions", &ask(model).to_string()).await;
    let answer = client.answer().await;
    assert!(answer.complete && answer.text().ends_with("\n\n"));
    let stream = answer.header("flumen-stream-id").unwrap().to_owned();
    let events = transport::events_of(&answer.body).0;
    assert_eq!(events.last().unwrap().data, "[DONE]");
    (stream, answer.body, events)
}

async fn at_every_event(gateway: &Gateway) -> usize {
    let before = RESUMES.load(SeqCst);
    let (stream, _, events) = finished(gateway, "sim:tps=0,ttft=0,tokens=120,lang=mix").await;
    for transport in TRANSPORTS {
        for after in 0..events.len() {
            let seen = resume(gateway, transport, &stream, &events[..after], None).await;
            assert_eq!(seen, events[after..], "{transport:?} after {after}");
        }
    }
    RESUMES.load(SeqCst) - before
}

/// Goes on after these events; `cut` bytes later the connection is cut again.
async fn resume(
    gateway: &Gateway,
    transport: Transport,
    stream: &str,
    seen: &[Event],
    cut: Option<usize>,
) -> Vec<Event> {
    RESUMES.fetch_add(1, SeqCst);
    let place = seen.last().map_or(Place::Begin, |event| Place::After(event.seq, event.id.clone()));
    transport.read(gateway.address, stream, &place, cut).await
}

async fn at_every_byte(gateway: &Arc<Gateway>) -> usize {
    let before = RESUMES.load(SeqCst);
    let (stream, whole, events) = finished(gateway, "sim:tps=0,ttft=0,tokens=24,lang=mix,split=1").await;
    let (stream, whole, events) = (Arc::new(stream), Arc::new(whole), Arc::new(events));
    let mut running = tokio::task::JoinSet::new();
    for lane in 0..ABREAST {
        let (gateway, stream, whole, events) =
            (Arc::clone(gateway), Arc::clone(&stream), Arc::clone(&whole), Arc::clone(&events));
        running.spawn(async move {
            for cut in (lane..=whole.len()).step_by(ABREAST) {
                for transport in [Transport::Sse, Transport::Ndjson] {
                    let mut seen = transport.read(gateway.address, &stream, &Place::Begin, Some(cut)).await;
                    assert_eq!(seen, events[..seen.len()], "{transport:?} up to byte {cut}");
                    seen.extend(resume(&gateway, transport, &stream, &seen, None).await);
                    assert_eq!(seen, *events, "{transport:?} cut at byte {cut}");
                }
            }
            let text: Vec<u8> = events.iter().filter_map(Event::text).collect::<String>().into();
            for cut in (lane..=text.len()).step_by(ABREAST) {
                let mut seen = transport::text(gateway.address, &stream, 0, Some(cut)).await;
                RESUMES.fetch_add(1, SeqCst);
                seen.extend(transport::text(gateway.address, &stream, seen.len(), None).await);
                assert_eq!(seen, text, "text cut at byte {cut}");
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    RESUMES.load(SeqCst) - before
}

/// A stream that is being generated, cut at random and resumed over a random transport until its end.
async fn mixed(gateway: &Gateway, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::connect(gateway.address).await;
    let model =
        format!("sim:tps={},ttft=0,tokens=150,jitter=1,lang=mix,seed={seed}", random.u32(500..20_000));
    client.post("/v1/chat/completions", &ask(&model).to_string()).await;
    let head = client.head().await;
    let stream = head.lines().find_map(|line| line.strip_prefix("flumen-stream-id: ")).unwrap().to_owned();
    drop(client);
    let mut seen: Vec<Event> = Vec::new();
    while seen.last().is_none_or(|event| event.data != "[DONE]") {
        let transport = TRANSPORTS[random.usize(..TRANSPORTS.len())];
        let cut = random.usize(..3000);
        seen.extend(resume(gateway, transport, &stream, &seen, Some(cut)).await);
    }
    let whole = Transport::Sse.read(gateway.address, &stream, &Place::Begin, None).await;
    assert_eq!(seen, whole, "seed {seed}");
    assert!(seen.iter().map(|event| event.seq).eq(1..=seen.len() as u64));
    let said: String = seen.iter().filter_map(Event::text).collect();
    assert_eq!(said, plain(gateway, &model).await, "the model's own words, seed {seed}");
}

/// What the same model says to the same question without resuming.
async fn plain(gateway: &Gateway, model: &str) -> String {
    let mut client = Client::connect(gateway.address).await;
    let headers = [("flumen-resume", "0"), ("accept", "text/plain")];
    let fast = model.replacen("sim:", "sim:tps=0,", 1);
    client.request("POST", "/v1/chat/completions", &headers, &ask(&fast).to_string()).await;
    client.answer().await.text()
}
