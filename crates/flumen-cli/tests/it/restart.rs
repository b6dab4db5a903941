//! Streams on disk survive the process.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, Gateway, Upstream, chat, event, soon};

fn config(upstream: &Upstream, folder: &TempDir, more: &str) -> String {
    let folder = folder.path().display();
    let own = format!("[resume]\nenabled = true\nstore = \"disk\"\nfolder = \"{folder}\"\n{more}");
    crate::support::config(upstream.address, &own)
}

async fn get(gateway: &Gateway, path: &str) -> crate::support::Answer {
    Client::get(gateway.address, path).await
}

async fn open(gateway: &Gateway) -> (Client, String) {
    let (client, head) = Client::open(gateway.address, &chat("m")).await;
    let stream = head.lines().find_map(|line| line.strip_prefix("flumen-stream-id: ")).unwrap().to_owned();
    (client, stream)
}

/// Says one word and waits.
async fn waiting() -> Upstream {
    Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
        conn.closed().await;
    })
    .await
}

#[tokio::test]
async fn after_a_kill_finished_streams_are_whole_and_others_end_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
        if conn.json()["model"] == "ends" {
            conn.chunk(b"data: [DONE]\n\n").await;
            return conn.finish().await;
        }
        conn.closed().await;
    })
    .await;
    let mut gateway = Gateway::start(&config(&upstream, &folder, "")).await;
    let (mut ended, ended_id) = Client::open(gateway.address, &chat("ends")).await;
    let ended_id =
        ended_id.lines().find_map(|line| line.strip_prefix("flumen-stream-id: ")).unwrap().to_owned();
    let whole = ended.until("[DONE]").await;
    ended.until("\r\n0\r\n").await;
    let (mut open, open_id) = open(&gateway).await;
    open.until(".1-1\n\n").await;
    gateway.signal("KILL").await;
    open.closed().await;
    gateway.stopped().await;

    let gateway = Gateway::start(&config(&upstream, &folder, "")).await;
    let text = get(&gateway, &format!("/v1/streams/{ended_id}")).await.text();
    assert!(text.contains("[DONE]") && whole.contains("\"a\""));
    assert_eq!(get(&gateway, &format!("/v1/streams/{ended_id}?starting_after=2")).await.status, 204);
    let mut again = Client::connect(gateway.address).await;
    let last = format!("{open_id}.1-1");
    again.request("GET", &format!("/v1/streams/{open_id}"), &[("last-event-id", &last)], "").await;
    let rest = again.answer().await;
    let text = rest.text();
    assert!(
        text.contains("\"stream_lost\"")
            && text.contains(&format!("id: {open_id}.2-2\n"))
            && !text.contains("[DONE]"),
        "{text}"
    );
    let state: Value = get(&gateway, &format!("/v1/streams/{open_id}?transport=json")).await.json();
    assert_eq!(
        (&state["state"], &state["epoch"], &state["cause"]),
        (&json!("lost"), &json!(2), &Value::Null)
    );
}

#[tokio::test]
async fn on_a_drain_readers_are_sent_away_between_two_events_and_find_the_rest_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (go, gone) = tokio::sync::mpsc::channel::<()>(4);
    let gone = std::sync::Arc::new(tokio::sync::Mutex::new(gone));
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.clone();
        async move {
            conn.stream_head().await;
            conn.chunk(event("a").as_bytes()).await;
            let mut gone = gone.lock().await;
            gone.recv().await;
            conn.chunk(event("b").as_bytes()).await;
            gone.recv().await;
            conn.chunk(event("c").as_bytes()).await;
            conn.chunk(b"data: [DONE]\n\n").await;
            conn.finish().await;
        }
    })
    .await;
    let mut gateway = Gateway::start(&config(&upstream, &folder, "")).await;
    let (mut client, stream) = open(&gateway).await;
    client.until(".1-1\n\n").await;
    gateway.signal("TERM").await;
    gateway.message("draining").await;
    go.send(()).await.unwrap();
    let farewell = client.closed().await;
    // With a word; and with its time to come back where an event was there to carry it.
    assert!(farewell.contains(": the server stops"), "{farewell}");
    assert!(!farewell.contains("retry: ") || farewell.contains("\"b\""), "{farewell}");
    assert!(farewell.ends_with("0\r\n\r\n") && !farewell.contains("error"), "{farewell}");
    go.send(()).await.unwrap();
    assert!(soon(gateway.stopped()).await.success());

    let gateway = Gateway::start(&config(&upstream, &folder, "")).await;
    let text = get(&gateway, &format!("/v1/streams/{stream}?starting_after=1")).await.text();
    let words = ["\"b\"", "\"c\"", "[DONE]"].map(|word| text.find(word).unwrap());
    assert!(words.is_sorted(), "the generation was finished while it drained: {text}");
}

#[tokio::test]
async fn in_memory_a_drain_lets_readers_stay_to_the_end() {
    let upstream = waiting().await;
    let config =
        crate::support::config(upstream.address, "[resume]\nenabled = true\n[timeouts]\ndrain = \"300ms\"\n");
    let mut gateway = Gateway::start(&config).await;
    let (mut client, stream) = open(&gateway).await;
    client.until(".1-1\n\n").await;
    gateway.signal("TERM").await;
    let last = client.closed().await;
    assert!(
        last.contains("\"code\":\"shutdown\"") && last.contains(&format!("id: {stream}.1-2\n")),
        "{last}"
    );
    assert!(gateway.stopped().await.success());
}

#[tokio::test]
async fn a_folder_that_is_in_use_is_refused_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = waiting().await;
    let _first = Gateway::start(&config(&upstream, &folder, "")).await;
    let file = folder.path().join("second.toml");
    std::fs::write(&file, config(&upstream, &folder, "")).unwrap();
    let second =
        crate::support::command(&["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()])
            .env("TEST_KEY", "k")
            .output();
    let output = soon(second).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"));
    assert_eq!(output.status.code(), Some(78));
}
