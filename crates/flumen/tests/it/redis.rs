//! Redis tasks against a real server.

use std::process::Command;

use flumen::{
    flow::Error,
    futures_util::StreamExt,
    task::redis::{Redis, cmd, pipe, redis::streams::StreamId},
};

use crate::support::{Program, eventually};

/// A Redis server with a socket of its own, or nothing when there is none on this machine.
async fn start(dir: &std::path::Path) -> Option<(Program, String)> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("skipped: this machine has no redis-server");
        return None;
    }
    let socket = dir.join("redis.sock");
    let mut server = Command::new("redis-server");
    server.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).arg("--dir").arg(dir);
    let server = Program::start(&mut server);
    eventually("Redis", || std::os::unix::net::UnixStream::connect(&socket).ok()).await;
    Some((server, format!("unix://{}", socket.display())))
}

#[tokio::test]
async fn commands_pipelines_messages_and_streams() {
    let dir = tempfile::tempdir().unwrap();
    let Some((server, url)) = start(dir.path()).await else { return };
    let redis = Redis::open(&url).unwrap();
    redis.command::<()>(cmd("SET").arg("river").arg("Flumen")).await.unwrap();
    assert_eq!(redis.command::<String>(cmd("GET").arg("river")).await.unwrap(), "Flumen");
    let (one, two): (u32, u32) =
        redis.pipeline(pipe().cmd("INCR").arg("n").cmd("INCR").arg("n")).await.unwrap();
    assert_eq!((one, two), (1, 2));
    let error = redis.command::<()>(cmd("GET").arg("river").arg("too many")).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().starts_with("redis: "), "{error}");

    let mut messages = redis.subscribe(&["news"]).await.unwrap();
    redis.command::<u32>(cmd("PUBLISH").arg("news").arg("it flows")).await.unwrap();
    assert_eq!(messages.next().await.unwrap().get_payload::<String>().unwrap(), "it flows");

    for n in 0..250 {
        redis.command::<String>(cmd("XADD").arg("log").arg("*").arg("n").arg(n)).await.unwrap();
    }
    let number = |entry: Result<StreamId, Error>| entry.unwrap().get::<u32>("n").unwrap();
    let mut entries = redis.entries("log", "0").await.unwrap();
    for n in 0..250 {
        assert_eq!(number(entries.next().await.unwrap()), n, "every entry once, in order");
    }
    redis.command::<String>(cmd("XADD").arg("log").arg("*").arg("n").arg(250)).await.unwrap();
    assert_eq!(number(entries.next().await.unwrap()), 250, "and those that come later");

    drop(server);
    assert!(entries.next().await.unwrap().is_err());
    assert!(messages.next().await.is_none());
    let error = redis.command::<String>(cmd("GET").arg("river")).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    // A new server under the same address: the client finds it by itself.
    let Some((_server, _)) = start(dir.path()).await else { return };
    let mut again = redis.command::<Option<String>>(cmd("GET").arg("river")).await;
    for _ in 0..3 {
        if again.is_ok() {
            break;
        }
        again = redis.command(cmd("GET").arg("river")).await;
    }
    assert_eq!(again.unwrap(), None);
}
