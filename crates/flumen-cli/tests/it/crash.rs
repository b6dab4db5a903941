//! Killed at any moment, the gateway finds on disk what it had promised: whatever a reader saw is there again.

use std::{net::SocketAddr, sync::Arc};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, watch},
    task::JoinSet,
};

use crate::support::{Client, Gateway, soon};

/// Kills; several gateways are killed side by side.
const KILLS: u64 = 200;
const ABREAST: u64 = 4;

/// What a reader saw of a stream: its id and the body so far.
type Seen = (String, Arc<Mutex<Vec<u8>>>);

fn config(folder: &std::path::Path) -> String {
    format!("[resume]\nenabled = true\nstore = \"disk\"\nfolder = \"{}\"\n", folder.display())
}

/// The whole events of a chunked body, framing taken out.
fn events(received: &[u8]) -> Vec<String> {
    let (mut body, mut at) = (Vec::new(), 0);
    while let Some(line) = received[at..].windows(2).position(|part| part == b"\r\n") {
        let Ok(size) = usize::from_str_radix(&String::from_utf8_lossy(&received[at..at + line]), 16) else {
            break;
        };
        let begin = at + line + 2;
        let end = (begin + size).min(received.len());
        body.extend_from_slice(&received[begin..end]);
        at = end + 2;
        if at >= received.len() || size == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let whole = text.rfind("\n\n").map_or(0, |end| end + 2);
    text[..whole].split_inclusive("\n\n").map(str::to_owned).collect()
}

/// Reads an answer for as long as the gateway lives, and tells how many bytes came.
async fn read(gateway: SocketAddr, model: String, seen: Arc<Mutex<Vec<Seen>>>, heard: watch::Sender<usize>) {
    let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.to_string().len()
    );
    // The kill may come before the question.
    let Ok(mut socket) = TcpStream::connect(gateway).await else { return };
    if socket.write_all(request.as_bytes()).await.is_err() {
        return;
    }
    let mut client = Client::with(socket);
    let Some(head) = client.head_if_any().await else { return };
    let stream = head.lines().find_map(|line| line.strip_prefix("flumen-stream-id: ")).unwrap().to_owned();
    let received = Arc::new(Mutex::new(client.rest()));
    seen.lock().await.push((stream, Arc::clone(&received)));
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = client.socket.read(&mut piece).await {
        received.lock().await.extend_from_slice(&piece[..count]);
        heard.send_modify(|bytes| *bytes += count);
    }
}

async fn kill_and_look(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(&config(folder.path())).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (heard, mut hearing) = watch::channel(0);
    let mut readers = JoinSet::new();
    // A hundred now and then.
    let count = if seed.is_multiple_of(20) { 100 } else { 10 };
    for n in 0..count {
        // Some end before the kill, most do not.
        let model =
            format!("sim:ttft=0,tps={},tokens={},seed={n}", random.u32(50..5000), random.u32(40..400));
        readers.spawn(read(gateway.address, model, Arc::clone(&seen), heard.clone()));
    }
    // At any moment up to when each has read some 8 KB, less than all of its answer.
    let moment = random.usize(1..count * 8_000);
    soon(hearing.wait_for(|bytes| *bytes >= moment)).await.unwrap();
    gateway.signal("KILL").await;
    gateway.stopped().await;
    while let Some(reader) = soon(readers.join_next()).await {
        reader.unwrap();
    }

    let gateway = Gateway::start(&config(folder.path())).await;
    let mut promised = 0;
    for (stream, received) in seen.lock().await.iter() {
        let before = events(&received.lock().await);
        let after = Client::get(gateway.address, &format!("/v1/streams/{stream}")).await;
        assert_eq!(after.status, 200, "seed {seed}: a stream whose id was sent is there: {}", after.text());
        assert!(after.complete, "nobody waits");
        let text = after.text();
        let after: Vec<_> = text.split_inclusive("\n\n").collect();
        assert!(
            after.len() >= before.len(),
            "seed {seed}: {} events were seen, {} are there",
            before.len(),
            after.len()
        );
        assert_eq!(before, after[..before.len()], "seed {seed}");
        let last = after.last().unwrap();
        assert!(
            last.contains("[DONE]") || last.contains("stream_lost"),
            "seed {seed}: an explicit end: {last}"
        );
        promised += before.len();
    }
    promised
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reader_saw_is_there_after_a_kill_at_any_moment() {
    let mut lanes = JoinSet::new();
    for lane in 0..ABREAST {
        lanes.spawn(async move {
            let mut promised = 0;
            for seed in (lane..KILLS).step_by(usize::try_from(ABREAST).unwrap()) {
                promised += kill_and_look(seed).await;
            }
            promised
        });
    }
    let mut promised = 0;
    while let Some(lane) = lanes.join_next().await {
        promised += lane.unwrap();
    }
    assert!(promised > 1000, "{promised} events were seen before the kills");
    println!("{KILLS} kills, {promised} events that readers had seen, all of them there");
}
