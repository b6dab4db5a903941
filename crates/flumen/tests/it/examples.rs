//! Every example runs and does what it says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
};

use flumen::{Router, get};

use crate::support::{Program, eventually, serve};

fn example(name: &str, arguments: &[&str]) -> Program {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is built by `cargo test --workspace`", path.display());
    Program::start(Command::new(path).args(arguments))
}

/// A port that was free a moment ago.
fn port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn connect(address: &str) -> TcpStream {
    eventually(address, || TcpStream::connect(address).ok()).await
}

/// One exchange on a connection that closes after it.
async fn exchange(address: &str, request: &str) -> String {
    let mut socket = connect(address).await;
    socket.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn sort_and_matrix_are_right() {
    assert!(example("sort", &["50000"]).output().ends_with("the same\n"));
    let out = example("matrix", &["30"]).output();
    assert!(out.starts_with("30 x 30: A x 1 = A\nqueue matrix:"), "{out}");
}

#[test]
fn push_protocol_pushes_until_the_client_leaves() {
    let out = example("push_protocol", &[]).output();
    assert_eq!(
        out,
        "river 1\nriver 2\nriver 3\nriver 4\nriver 5\nthe server has seen the client leave, and stopped\n"
    );
}

#[test]
fn graph_joins_what_it_fetched() {
    let out = example("graph", &[]).output();
    assert!(out.starts_with("flowchart TD"), "{out}");
    assert!(out.contains("the left bank, the right bank,"), "{out}");
    assert!(out.contains("✓ join"), "{out}");
}

#[test]
fn repeater_loops_and_stops_well() {
    let out = example("repeater", &["400"]).output();
    assert!(out.contains("A: round 1\nB: round 1\nC: round 1\n"), "{out}");
    let last = out.lines().last().unwrap();
    let rounds: u32 = last.strip_prefix("stopped before round ").unwrap().parse().unwrap();
    assert!(rounds > 2 && out.contains(&format!("C: round {}\n", rounds - 1)), "{out}");
}

#[test]
fn classes_finish_together_by_count_and_one_by_one_by_time() {
    let out = example("classes", &[]).output();
    let (count, time) = out.split_once("policy Time").unwrap();
    let spread = |table: &str| {
        let rows = table.lines().filter_map(|line| {
            let row: Vec<i64> = line.split_whitespace().map_while(|cell| cell.parse().ok()).collect();
            <[i64; 4]>::try_from(row).ok()
        });
        rows.map(|row| row[1] - row[3]).max().unwrap()
    };
    assert!(spread(count) <= 10, "{out}");
    assert!(spread(time) >= 50, "{out}");
}

#[test]
fn sentences_come_one_by_one() {
    let out = example("sentences", &[]).output();
    let expected = [
        "You cannot step twice into the same river.",
        "Other waters are ever flowing on to you.",
        "万物皆流。",
        "All is well.",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn wget_fetches_and_parallel_wget_sums_up() {
    let server = serve(Router::new().route("/", get(|| async { "panta rhei" })));
    let url = server.url.clone();
    let single = tokio::task::spawn_blocking(move || example("wget", &[&url]).output());
    assert_eq!(single.await.unwrap(), "panta rhei");
    let (url, closed) = (server.url.clone(), format!("http://{}/", port()));
    let many = tokio::task::spawn_blocking(move || example("parallel_wget", &[&url, &closed, &url]).output());
    let out = many.await.unwrap();
    assert!(out.ends_with("20 bytes in all, 1 failed\n"), "{out}");
}

#[tokio::test]
async fn redis_wget_goes_through_redis() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("skipped: this machine has no redis-server");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let mut redis = Command::new("redis-server");
    let _redis = Program::start(redis.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket));
    eventually("Redis", || std::os::unix::net::UnixStream::connect(&socket).ok()).await;
    let server = serve(Router::new().route("/", get(|| async { "twelve bytes" })));
    let (url, redis) = (server.url.clone(), format!("unix://{}", socket.display()));
    let out = tokio::task::spawn_blocking(move || example("redis_wget", &[&redis, &url]).output());
    assert_eq!(out.await.unwrap(), "12 bytes went through Redis\n");
}

#[tokio::test]
async fn http_echo_answers_and_http_proxy_passes_on() {
    let (echo, proxy) = (port(), port());
    let _echo = example("http_echo", &[&echo]);
    let _proxy = example("http_proxy", &[&proxy]);
    drop(connect(&echo).await);
    let body = "content-length: 5\nconnection: close\n\nhello";
    let direct = exchange(&echo, &format!("POST / HTTP/1.1\nhost: x\n{body}")).await;
    assert!(direct.starts_with("HTTP/1.1 200") && direct.ends_with("hello"), "{direct}");
    let through = exchange(&proxy, &format!("POST http://{echo}/ HTTP/1.1\nhost: {echo}\n{body}")).await;
    assert!(through.starts_with("HTTP/1.1 200") && through.ends_with("hello"), "{through}");
}

#[tokio::test]
async fn file_server_serves_its_directory() {
    let (dir, address) = (tempfile::tempdir().unwrap(), port());
    std::fs::write(dir.path().join("a.txt"), "0123456789").unwrap();
    let _server = example("file_server", &[&address, dir.path().to_str().unwrap()]);
    let answer =
        exchange(&address, "GET /a.txt HTTP/1.1\nhost: x\nrange: bytes=3-5\nconnection: close\n\n").await;
    assert!(answer.starts_with("HTTP/1.1 206") && answer.ends_with("345"), "{answer}");
}

#[tokio::test]
async fn typewriter_types() {
    // It has a fixed port: only what it is built of is sure to be free.
    if TcpStream::connect("127.0.0.1:3000").is_ok() {
        eprintln!("skipped: port 3000 is taken");
        return;
    }
    let _typewriter = example("typewriter", &[]);
    let mut socket = connect("127.0.0.1:3000").await;
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "data: P") && lines.any(|line| line == "data: a"));
}

#[tokio::test]
async fn resumable_goes_on_after_any_word() {
    let address = port();
    let _program = example("resumable", &[&address]);
    connect(&address).await;
    let begun =
        exchange(&address, "POST / HTTP/1.1\nhost: x\nconnection: close\ncontent-length: 0\n\n").await;
    let path = begun.lines().last().unwrap().trim().to_owned();
    let words = |answer: &str| {
        let data = answer.lines().filter_map(|line| line.strip_prefix("data: ")?.split_once(' '));
        data.map(|(_, word)| word.to_owned()).collect::<String>()
    };
    let ask = |query: &str| format!("GET {path}{query} HTTP/1.1\nhost: x\nconnection: close\n\n");
    let live = words(&exchange(&address, &ask("")).await);
    assert!(live.starts_with("Upon those who step") && live.ends_with("flow."), "{live}");
    let rest = words(&exchange(&address, &ask("?after=3")).await);
    assert_eq!(rest, live.strip_prefix("Upon those who ").unwrap());
}

#[tokio::test]
async fn a_chain_of_events_flow_and_rpc_tells_the_words_of_its_prompt() {
    let (service, chain) = (port(), port());
    let _service = example("model_service", &[&service]);
    let _chain = example("rpc_chain", &[&format!("http://{service}"), &chain]);
    connect(&service).await;
    let request = "POST /ask HTTP/1.1\nhost: x\nconnection: close\ncontent-length: 12\n\nall is  well";
    let answer = exchange(&chain, request).await;
    let words: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(words, ["all ", "is ", " ", "well"], "{answer}");
}
