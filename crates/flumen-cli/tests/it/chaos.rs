//! Model servers that die, come back and freeze under load: every client gets all of its answer or one error, and no place is lost.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
};

use crate::support::{Answer, Gateway, command, pooled, post_with, until_metric};

const REQUESTS: usize = 1000;
const AT_ONCE: usize = 60;

fn simulator(port: u16) -> Child {
    let listen = format!("127.0.0.1:{port}");
    let settings = ["--tokens-per-second", "300", "--first-token", "5ms", "--tokens", "40", "--seed", "7"];
    let mut command = command(&[&["sim", "--listen", &listen], &settings[..]].concat());
    command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap()
}

/// A port that is free now.
async fn port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn send(signal: &str, child: &Child) {
    if let Some(pid) = child.id() {
        let _ = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().await;
    }
}

/// Kills, starts and freezes until it is aborted. What happens when follows from how many answers have ended, so that a slow
/// machine sees as much of it as a quick one.
async fn havoc(
    ports: [u16; 3],
    mut random: fastrand::Rng,
    kills: Arc<AtomicUsize>,
    mut ended: watch::Receiver<usize>,
) {
    let mut servers = ports.map(simulator);
    loop {
        let at = random.usize(..3);
        further(&mut ended, random.usize(1..20)).await;
        if random.u32(..4) == 0 {
            send("STOP", &servers[at]).await;
            further(&mut ended, random.usize(10..60)).await;
            send("CONT", &servers[at]).await;
            continue;
        }
        let _ = servers[at].kill().await;
        kills.fetch_add(1, SeqCst);
        further(&mut ended, random.usize(..20)).await;
        servers[at] = simulator(ports[at]);
    }
}

/// Waits until so many further answers have ended. Two servers run meanwhile, so they do.
async fn further(ended: &mut watch::Receiver<usize>, answers: usize) {
    let then = *ended.borrow() + answers;
    if ended.wait_for(|ended| *ended >= then).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How an answer ended: whole, or with one error. Anything else is a fault.
fn verdict(answer: &Answer, whole: &str) -> Result<bool, String> {
    if answer.status != 200 {
        let told = answer.complete && answer.status >= 500 && !answer.code().is_empty();
        return if told { Ok(false) } else { Err(format!("{} {}", answer.status, answer.text())) };
    }
    let (mut text, mut done, mut errors) = (String::new(), 0, 0);
    for data in answer.text().lines().filter_map(|line| line.strip_prefix("data: ")) {
        if done + errors > 0 {
            return Err(format!("after its end: {data}"));
        }
        if data == "[DONE]" {
            done += 1;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))?;
        errors += usize::from(chunk["error"]["code"].is_string());
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    match (done, errors) {
        (1, 0) if text == whole => Ok(true),
        (0, 1) if whole.starts_with(&text) => Ok(false),
        _ => Err(answer.text()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_kills_and_stalls_everybody_is_answered_or_told_and_no_place_is_lost() {
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("CHAOS_SEED={seed}");
    let ports = [port().await, port().await, port().await];
    let can = "continuation = \"continue-final-message\"\nconcurrency = 15";
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let of = [("a", at(ports[0]), can), ("b", at(ports[1]), can), ("c", at(ports[2]), can)];
    let more = "[timeouts]\nidle = \"400ms\"\nfirst_token = \"2s\"\n\
                [health]\nopen = \"50ms\"\nopen_longest = \"200ms\"\nslow_start = \"100ms\"\n";
    let pool = "continues = true\nattempts = 6\nbalance = \"least-in-flight\"";
    // The same servers without that answers go on: there many are told of an error.
    let more = format!("{more}[models.plain]\npool = \"q\"\n[pools.q]\nupstreams = [\"a\", \"b\", \"c\"]\n");
    let gateway = Gateway::start_on("2", &pooled(&of, pool, &more)).await;
    let kills = Arc::new(AtomicUsize::new(0));
    let body = json!({"model": "sim", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let whole = {
        let (_sim, address) = crate::simulator::start(&["--tokens", "40", "--seed", "7"]).await;
        let answer = post_with(address, &[], &body).await.text();
        let chunks = answer.lines().filter_map(|line| line.strip_prefix("data: {"));
        let chunks = chunks.map(|line| serde_json::from_str::<Value>(&format!("{{{line}")).unwrap());
        let words = chunks.map(|chunk| chunk["choices"][0]["delta"]["content"].clone());
        words.filter_map(|word| word.as_str().map(str::to_owned)).collect::<String>()
    };
    let (end, ended) = watch::channel(0);
    let end = Arc::new(end);
    let chaos = tokio::spawn(havoc(ports, fastrand::Rng::with_seed(seed), Arc::clone(&kills), ended));
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..AT_ONCE {
        let mut body = body.clone();
        if client % 4 == 3 {
            body["model"] = json!("plain");
        }
        let (address, body, whole, next) = (gateway.address, body, whole.clone(), Arc::clone(&next));
        let end = Arc::clone(&end);
        clients.spawn(async move {
            let (mut good, mut told) = (0, 0);
            while next.fetch_add(1, SeqCst) < REQUESTS {
                let headers: &[_] = if client % 2 == 0 { &[] } else { &[("flumen-resume", "1")] };
                let verdict = verdict(&post_with(address, headers, &body).await, &whole);
                end.send_modify(|ended| *ended += 1);
                match verdict {
                    Ok(true) => good += 1,
                    Ok(false) => told += 1,
                    Err(fault) => panic!("neither whole nor one error: {fault}"),
                }
            }
            (good, told)
        });
    }
    let (mut good, mut told) = (0, 0);
    while let Some(counts) = clients.join_next().await {
        let counts = counts.unwrap();
        (good, told) = (good + counts.0, told + counts.1);
    }
    chaos.abort();
    println!("{good} whole, {told} told of an error, {} kills", kills.load(SeqCst));
    assert_eq!(good + told, REQUESTS);
    assert!(kills.load(SeqCst) >= 10, "{kills:?} kills");
    // How many depends on what dies together, and for how long.
    assert!(good > REQUESTS / 10, "some are whole: {good}, {told} told");
    for pool in ["p", "q"] {
        until_metric(&gateway, &format!("flumen_pool_running{{pool=\"{pool}\"}} 0")).await;
        until_metric(&gateway, &format!("flumen_queue_waiting{{pool=\"{pool}\"}} 0")).await;
    }
    for name in ["a", "b", "c"] {
        until_metric(&gateway, &format!("flumen_upstream_in_flight{{upstream=\"{name}\"}} 0")).await;
    }
}
