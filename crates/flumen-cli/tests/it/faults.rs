//! A thousand upstreams that fail at random: every client gets all of its answer, or one error.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Conn, Gateway, Upstream, event, pooled, post_with, until_metric};

const FAULTS: usize = 1000;
const TOKENS: usize = 12;

/// What goes wrong, and how often it did.
#[derive(Default)]
struct Faults {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    all: AtomicUsize,
}

impl Faults {
    fn count(&self, fault: &'static str) {
        *self.counts.lock().unwrap().entry(fault).or_default() += 1;
        self.all.fetch_add(1, SeqCst);
    }
}

/// How many words of the answer the request brings along.
fn said(conn: &Conn) -> usize {
    let messages = conn.json()["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.last().filter(|last| last["role"] == "assistant");
    last.map_or(0, |last| last["content"].as_str().unwrap().split_whitespace().count())
}

/// Answers with numbered words from where the answer stands, and fails at random before one of them.
async fn answer(mut conn: Conn, mut random: fastrand::Rng, faults: Arc<Faults>) {
    let said = said(&conn);
    let at = if random.u32(..5) == 0 { usize::MAX } else { random.usize(said..=TOKENS + 2) };
    let fault =
        *random.choice(&["refuse", "overload", "kill", "cut", "end", "error", "garbage", "stall"]).unwrap();
    match fault {
        "refuse" if at < usize::MAX => {
            faults.count(fault);
            return;
        }
        "overload" if at < usize::MAX => {
            faults.count(fault);
            return conn.json_answer("503 Service Unavailable", "", r#"{"error":{"code":"busy"}}"#).await;
        }
        _ => {}
    }
    conn.stream_head().await;
    for token in said..TOKENS {
        if token == at {
            faults.count(fault);
            match fault {
                "kill" => {
                    // A reset instead of a proper end.
                    let _ = conn.socket.set_zero_linger();
                }
                "end" => conn.finish().await,
                "error" => {
                    conn.chunk(b"data: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n").await;
                    conn.finish().await;
                }
                "garbage" => conn.write(b"\xff\x00 no chunk").await,
                "stall" => conn.closed().await,
                _ => {}
            }
            return;
        }
        conn.chunk(event(&format!("w{token} ")).as_bytes()).await;
    }
    conn.chunk(b"data: [DONE]\n\n").await;
    conn.finish().await;
}

/// Whether an answer is whole; else it must be one error.
fn verdict(status: u16, text: &str) -> Result<bool, String> {
    if status != 200 {
        let body: Value = serde_json::from_str(text).map_err(|_| format!("{status} {text}"))?;
        return if status >= 500 && body["error"]["code"].is_string() {
            Ok(false)
        } else {
            Err(text.to_owned())
        };
    }
    let (mut words, mut errors, mut done) = (String::new(), 0, 0);
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            done += 1;
            continue;
        }
        let event: Value = serde_json::from_str(data).map_err(|_| format!("{data:?} in {text}"))?;
        errors += usize::from(event["error"].is_object());
        words += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    let whole = (0..TOKENS).fold(String::new(), |text, token| text + "w" + &token.to_string() + " ");
    match (done, errors) {
        (1, 0) if words == whole => Ok(true),
        (0, 1) if whole.starts_with(&words) => Ok(false),
        _ => Err(format!("{done} ends, {errors} errors, {words:?}: {text}")),
    }
}

#[tokio::test]
async fn a_thousand_faults_and_nobody_is_left_without_a_word() {
    let seed = std::env::var("FAULTS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("FAULTS_SEED={seed}");
    let faults = Arc::new(Faults::default());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        let (random, faults) = (Mutex::new(random.fork()), Arc::clone(&faults));
        let script = move |conn| answer(conn, random.lock().unwrap().fork(), Arc::clone(&faults));
        upstreams.push(Upstream::start(script).await);
    }
    let of: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .zip(&upstreams)
        .map(|(name, upstream)| {
            (name, upstream.address, "continuation = \"prefill\"\nidle = \"150ms\"\nfirst_token = \"500ms\"")
        })
        .collect();
    let health = "[health]\nopen = \"10ms\"\nopen_longest = \"20ms\"\n";
    let gateway =
        Gateway::start(&pooled(&of, "continues = true\nconcurrency = 40\nattempts = 4", health)).await;
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "count"}]});
    let mut clients = JoinSet::new();
    for client in 0..48 {
        let (address, faults, body) = (gateway.address, Arc::clone(&faults), body.clone());
        clients.spawn(async move {
            let mut counts = [0; 2];
            while faults.all.load(SeqCst) < FAULTS {
                let headers: &[_] = if client % 2 == 0 { &[] } else { &[("flumen-resume", "1")] };
                let answer = post_with(address, headers, &body).await;
                assert!(answer.complete, "cut without a word: {}", answer.text());
                let whole = verdict(answer.status, &answer.text()).unwrap_or_else(|fault| panic!("{fault}"));
                counts[usize::from(whole)] += 1;
            }
            counts
        });
    }
    let (mut told, mut whole) = (0, 0);
    while let Some(counts) = clients.join_next().await {
        let counts: [usize; 2] = counts.unwrap();
        (told, whole) = (told + counts[0], whole + counts[1]);
    }
    println!("{whole} whole, {told} told of an error; {:?}", faults.counts.lock().unwrap());
    assert!(faults.all.load(SeqCst) >= FAULTS && whole > 0);
    until_metric(&gateway, "flumen_pool_running{pool=\"p\"} 0").await;
    for name in ["a", "b", "c"] {
        until_metric(&gateway, &format!("flumen_upstream_in_flight{{upstream=\"{name}\"}} 0")).await;
    }
}
