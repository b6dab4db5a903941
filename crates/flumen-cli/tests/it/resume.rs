//! A resumable stream is read once and in order over any number of connections.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Answer, Client, Conn, Gateway, Upstream, chat, event, soon};

/// Sends a request with these headers and reads the whole answer.
async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut client = Client::connect(gateway.address).await;
    client.request(method, path, headers, body).await;
    client.answer().await
}

async fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(gateway, "GET", path, headers, "").await
}

const RESUME: (&str, &str) = ("flumen-resume", "1");
const CHAT: &str = "/v1/chat/completions";

async fn post(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    ask(gateway, "POST", CHAT, headers, &chat("m").to_string()).await
}

/// A resumable stream that has said one word.
async fn begin(gateway: &Gateway, say: &mpsc::Sender<&'static str>) -> (Client, String) {
    let mut client = Client::connect(gateway.address).await;
    client.request("POST", CHAT, &[RESUME], &chat("m").to_string()).await;
    say.send("one").await.unwrap();
    let head = client.head().await;
    let stream = head.lines().find_map(|line| line.strip_prefix("flumen-stream-id: "));
    (client, stream.unwrap().to_owned())
}

/// An upstream that says words when it is told to, and tells when the gateway leaves.
struct Speaker {
    upstream: Upstream,
    say: mpsc::Sender<&'static str>,
    left: mpsc::Receiver<()>,
}

async fn speaker() -> Speaker {
    let (say, words) = mpsc::channel(100);
    let (leave, left) = mpsc::channel(10);
    let words = std::sync::Arc::new(tokio::sync::Mutex::new(words));
    let upstream = Upstream::start(move |conn| {
        let (words, leave) = (words.clone(), leave.clone());
        async move { speak(conn, words, leave).await }
    })
    .await;
    Speaker { upstream, say, left }
}

async fn speak(
    mut conn: Conn,
    words: std::sync::Arc<tokio::sync::Mutex<mpsc::Receiver<&'static str>>>,
    leave: mpsc::Sender<()>,
) {
    conn.stream_head().await;
    let mut words = words.lock().await;
    loop {
        let (socket, word) = (&mut conn.socket, words.recv());
        tokio::select! {
            word = word => match word {
                Some("[DONE]") => {
                    conn.chunk(b"data: [DONE]\n\n").await;
                    return conn.finish().await;
                }
                Some(word) => conn.chunk(event(word).as_bytes()).await,
                None => return,
            },
            () = gone(socket) => {
                leave.send(()).await.unwrap();
                return;
            }
        }
    }
}

async fn gone(socket: &mut tokio::net::TcpStream) {
    use tokio::io::AsyncReadExt;
    let mut rest = [0; 64];
    while socket.read(&mut rest).await.unwrap_or(0) > 0 {}
}

/// The ids of the events in a body.
fn ids(body: &str) -> Vec<String> {
    body.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
}

fn without_ids(body: &str) -> String {
    body.split_inclusive('\n').filter(|line| !line.starts_with("id: ")).collect()
}

#[tokio::test]
async fn ids_are_sent_when_they_are_asked_for_and_only_then() {
    let upstream = Upstream::events(&[
        "data: {\"a\":1}\n\ndata: {\"a\":2}\r\n\r\n",
        "event: x\ndata: 3\n\n",
        "data: [DONE]\n\n",
    ])
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let plain = post(&gateway, &[]).await;
    assert_eq!((ids(&plain.text()).len(), plain.header("flumen-stream-id")), (0, None));
    let kept = post(&gateway, &[RESUME]).await;
    let stream = kept.header("flumen-stream-id").unwrap();
    assert_eq!(stream.len(), 32);
    assert_eq!(kept.header("link"), Some(&*format!("</v1/streams/{stream}>; rel=\"resume\"")));
    let expected: Vec<_> = (1..=4).map(|n| format!("{stream}.1-{n}")).collect();
    assert_eq!(ids(&kept.text()), expected);
    assert_eq!(without_ids(&kept.text()).replace("\r\n", "\n"), plain.text().replace("\r\n", "\n"));
}

#[tokio::test]
async fn every_way_to_resume_gives_the_rest_and_the_work_is_done_once() {
    let upstream = Upstream::events(&[
        "data: {\"n\":1}\n\n",
        "data: {\"n\":2}\n\n",
        "data: {\"n\":3}\n\n",
        "data: [DONE]\n\n",
    ])
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let first = post(&gateway, &[RESUME, ("idempotency-key", "k-1")]).await;
    let (text, ids) = (first.text(), ids(&first.text()));
    let stream = first.header("flumen-stream-id").unwrap().to_owned();
    let path = format!("/v1/streams/{stream}");
    let rest = |n: usize| text.split_inclusive("\n\n").skip(n).collect::<String>();
    for n in 0..4_usize {
        let last = n.checked_sub(1).map(|at| ids[at].clone());
        let header: Vec<_> = last.iter().map(|id| ("last-event-id", id.as_str())).collect();
        assert_eq!(get(&gateway, &path, &header).await.text(), rest(n));
        let query = last.as_ref().map_or(path.clone(), |id| format!("{path}?last_event_id={id}"));
        assert_eq!(get(&gateway, &query, &[]).await.text(), rest(n));
        assert_eq!(get(&gateway, &format!("{path}?starting_after={n}"), &[]).await.text(), rest(n));
        if n > 0 {
            assert_eq!(post(&gateway, &header).await.text(), rest(n));
        }
    }
    assert_eq!(post(&gateway, &[RESUME, ("idempotency-key", "k-1")]).await.text(), text);
    let end = get(&gateway, &path, &[("last-event-id", &ids[3])]).await;
    assert_eq!((end.status, end.body.len(), end.header("flumen-stream-id")), (204, 0, Some(&*stream)));
    let metrics = gateway.metrics().await;
    // Three ways from the start and four from three places, the request under its key, and the one that had seen all.
    assert!(metrics.contains("flumen_resumes_total 17"), "{metrics}");
    assert!(metrics.contains("flumen_resumed_frames_total 40"), "{metrics}");
    assert!(metrics.contains("flumen_frames_out_total{model=\"*\",upstream=\"actor\"} 4"), "{metrics}");
    assert_eq!(post(&gateway, &[("last-event-id", &ids[3])]).await.status, 204);
    assert_eq!(upstream.accepted(), 1, "the body was run once");
    let other =
        ask(&gateway, "POST", CHAT, &[RESUME, ("idempotency-key", "k-1")], &chat("other").to_string()).await;
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn places_that_are_not_there_have_answers_of_their_own() {
    let upstream = Upstream::events(&["data: 1\n\n", "data: [DONE]\n\n"]).await;
    let gateway = Gateway::before(upstream.address, "").await;
    let stream = post(&gateway, &[RESUME]).await.header("flumen-stream-id").unwrap().to_owned();
    let other = post(&gateway, &[RESUME]).await.header("flumen-stream-id").unwrap().to_owned();
    let path = format!("/v1/streams/{stream}");
    for (path, header, status, code) in [
        (path.clone(), "7", 400, "bad_cursor"),
        (path.clone(), &*format!("{other}.1-1"), 400, "bad_cursor"),
        (path.clone(), &*format!("{stream}.1-3"), 409, "cursor_beyond_tail"),
        (path.clone(), &*format!("{stream}.2-1"), 409, "cursor_beyond_tail"),
        (format!("{path}?starting_after=99"), "", 409, "cursor_beyond_tail"),
        (format!("{path}?starting_after=x"), "", 400, "bad_request"),
        (format!("{path}?transport=pigeon"), "", 400, "bad_request"),
        (format!("/v1/streams/{:032x}", 5), "", 404, "stream_not_found"),
        ("/v1/streams/nonsense".to_owned(), "", 404, "stream_not_found"),
    ] {
        let answer = get(&gateway, &path, &[("last-event-id", header)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {header}");
        assert!(answer.header("x-request-id").is_some());
    }
    let beyond = get(&gateway, &format!("{path}?starting_after=99"), &[]).await;
    assert_eq!(beyond.json()["error"]["last"], 2);
}

#[tokio::test]
async fn a_reader_that_was_cut_gets_the_rest_live() {
    let Speaker { upstream, say, .. } = speaker().await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let (mut client, stream) = begin(&gateway, &say).await;
    client.until(".1-1\n\n").await;
    drop(client);
    say.send("two").await.unwrap();
    let mut again = Client::connect(gateway.address).await;
    again
        .request("GET", &format!("/v1/streams/{stream}"), &[("last-event-id", &format!("{stream}.1-1"))], "")
        .await;
    let seen = again.until(".1-2\n\n").await;
    assert!(seen.contains("two") && !seen.contains("one"), "{seen}");
    say.send("three").await.unwrap();
    assert!(again.until(".1-3\n\n").await.contains("three"));
    say.send("[DONE]").await.unwrap();
    assert!(again.until(".1-4\n\n").await.contains("[DONE]"));
    let mut lines = vec![gateway.access().await, gateway.access().await];
    lines.sort_by_key(|line| line["method"].as_str().unwrap().to_owned());
    assert_eq!((&lines[0]["method"], &lines[0]["cause"]), (&json!("GET"), &json!("complete")));
    assert_eq!(
        (&lines[1]["method"], &lines[1]["cause"], &lines[1]["frames"]),
        (&json!("POST"), &json!("complete"), &json!(4))
    );
    for line in &lines {
        assert!(!line.to_string().contains(&stream), "no id stands in a log in full");
        assert!(line.to_string().contains(&stream[..8]));
    }
}

#[tokio::test]
async fn without_a_reader_it_goes_on_for_its_grace_and_is_cancelled_then() {
    let Speaker { upstream, say, mut left } = speaker().await;
    let mut gateway =
        Gateway::before(upstream.address, "[resume]\nenabled = true\ngrace = \"300ms\"\n").await;
    let (client, stream) = begin(&gateway, &say).await;
    drop(client);
    soon(left.recv()).await.unwrap();
    assert_eq!(gateway.access().await["cause"], "client_gone");
    let path = format!("/v1/streams/{stream}");
    let state = get(&gateway, &format!("{path}?transport=json"), &[]).await.json();
    assert_eq!(
        (&state["state"], &state["cause"], &state["last"]),
        (&json!("cancelled"), &json!("client_gone"), &json!(2))
    );
    let text = get(&gateway, &path, &[]).await.text();
    assert!(text.contains("\"client_gone\"") && !text.contains("[DONE]"), "an explicit end: {text}");
}

#[tokio::test]
async fn before_its_first_token_too_a_generation_outlives_its_connection() {
    let Speaker { upstream, say, .. } = speaker().await;
    let gateway = Gateway::before(upstream.address, "").await;
    let headers = [RESUME, ("idempotency-key", "again")];
    let mut client = Client::connect(gateway.address).await;
    client.request("POST", CHAT, &headers, &chat("m").to_string()).await;
    upstream.is_asked().await;
    drop(client);
    let mut again = Client::connect(gateway.address).await;
    again.request("POST", CHAT, &headers, &chat("m").to_string()).await;
    say.send("late").await.unwrap();
    say.send("[DONE]").await.unwrap();
    assert!(again.until("[DONE]").await.contains("late"));
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn stopping_ends_the_generation_for_every_reader() {
    let Speaker { upstream, say, mut left } = speaker().await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let (mut client, stream) = begin(&gateway, &say).await;
    let path = format!("/v1/streams/{stream}");
    let mut second = Client::connect(gateway.address).await;
    second.request("GET", &path, &[], "").await;
    client.until("one").await;
    second.until("one").await;
    let stopped = ask(&gateway, "DELETE", &path, &[], "").await;
    assert_eq!((stopped.status, &stopped.json()["state"]), (200, &json!("cancelled")));
    soon(left.recv()).await.unwrap();
    for reader in [&mut client, &mut second] {
        let rest = reader.until("[DONE]").await;
        assert!(rest.contains("\"finish_reason\":\"stopped\""), "{rest}");
    }
    assert_eq!(ask(&gateway, "DELETE", &path, &[], "").await.json()["cause"], "stopped");
    let mut line = gateway.access().await;
    while line["method"] != "POST" {
        line = gateway.access().await;
    }
    assert_eq!(line["cause"], "stopped");
}

#[tokio::test]
async fn what_fails_before_it_begins_is_a_status_and_can_be_asked_again() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.json_answer(
            "429 Too Many Requests",
            "retry-after: 7\r\n",
            "{\"error\":{\"message\":\"slow down\"}}",
        )
        .await;
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    for _ in 0..2 {
        let answer = post(&gateway, &[RESUME, ("idempotency-key", "k")]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
        assert_eq!(gateway.access().await["code"], "upstream_rate_limited");
    }
    assert_eq!(upstream.accepted(), 2);
    let list = get(&gateway, "/v1/streams", &[]).await.json();
    assert_eq!(list["data"], json!([]), "nothing is kept of what never began");
}

#[tokio::test]
async fn a_failure_after_the_first_token_is_an_event_with_a_number() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("one").as_bytes()).await;
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let answer = post(&gateway, &[RESUME]).await;
    let stream = answer.header("flumen-stream-id").unwrap().to_owned();
    let (text, path) = (answer.text(), format!("/v1/streams/{stream}"));
    assert!(text.contains("upstream_") && text.ends_with(".1-2\n\n"), "{text}");
    assert_eq!(
        get(&gateway, &format!("{path}?starting_after=1"), &[]).await.text(),
        text.split_inclusive("\n\n").nth(1).unwrap()
    );
    assert_eq!(get(&gateway, &format!("{path}?starting_after=2"), &[]).await.status, 204);
    assert_eq!(get(&gateway, &format!("{path}?format=json"), &[]).await.json()["state"], "error");
}

#[tokio::test]
async fn a_tenant_has_its_own_streams_only() {
    let upstream = Upstream::events(&["data: 1\n\n", "data: [DONE]\n\n"]).await;
    let gateway = Gateway::before(upstream.address, "").await;
    let (a, b) = (("authorization", "Bearer a"), ("authorization", "Bearer b"));
    let answer = post(&gateway, &[RESUME, a, ("idempotency-key", "k")]).await;
    let stream = answer.header("flumen-stream-id").unwrap().to_owned();
    let (path, id) = (format!("/v1/streams/{stream}"), ids(&answer.text())[0].clone());
    for other in [vec![b], vec![]] {
        assert_eq!(get(&gateway, &path, &other).await.code(), "stream_not_found");
        assert_eq!(get(&gateway, &format!("{path}?transport=json"), &other).await.code(), "stream_not_found");
        assert_eq!(get(&gateway, &format!("{path}/poll"), &other).await.code(), "stream_not_found");
        assert_eq!(ask(&gateway, "DELETE", &path, &other, "").await.code(), "stream_not_found");
        let mut client = Client::connect(gateway.address).await;
        client.request("HEAD", &path, &other, "").await;
        assert!(client.head().await.starts_with("HTTP/1.1 404"));
        let mut headers = other.clone();
        headers.push(("last-event-id", &id));
        assert_eq!(post(&gateway, &headers).await.code(), "stream_not_found");
        assert_eq!(get(&gateway, "/v1/streams", &other).await.json()["data"], json!([]));
    }
    // The same key of another tenant is another request.
    let theirs = post(&gateway, &[RESUME, b, ("idempotency-key", "k")]).await;
    assert_ne!(theirs.header("flumen-stream-id").unwrap(), stream);
    let mine = get(&gateway, "/v1/streams", &[a]).await.json();
    assert_eq!((mine["data"].as_array().unwrap().len(), &mine["data"][0]["id"]), (1, &json!(stream)));
    assert_eq!(get(&gateway, &path, &[("x-api-key", "a")]).await.text(), answer.text());
}

#[tokio::test]
async fn the_state_is_told_in_json_and_in_headers() {
    let upstream = Upstream::events(&["data: 1\n\n", "data: [DONE]\n\n"]).await;
    let gateway = Gateway::before(upstream.address, "").await;
    let stream = post(&gateway, &[RESUME]).await.header("flumen-stream-id").unwrap().to_owned();
    let path = format!("/v1/streams/{stream}");
    let state: Value = get(&gateway, &format!("{path}?format=json"), &[]).await.json();
    assert!(state["created"].as_u64().unwrap() > 1_700_000_000);
    let mut rest = state.clone();
    rest.as_object_mut().unwrap().remove("created");
    assert_eq!(
        rest,
        json!({"id": stream, "object": "stream", "state": "done", "cause": "complete", "dialect": "openai-chat",
               "model": "*", "epoch": 1, "first": 1, "last": 2, "bytes": 23, "readers": 0})
    );
    let mut client = Client::connect(gateway.address).await;
    client.request("HEAD", &path, &[], "").await;
    let head = client.head().await;
    assert!(
        head.contains("flumen-stream-state: done\r\n") && head.contains("flumen-stream-last: 2\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_request_may_ask_for_the_stream_without_its_answer() {
    let Speaker { upstream, say, .. } = speaker().await;
    let gateway = Gateway::before(upstream.address, "").await;
    let answer = post(&gateway, &[("prefer", "respond-async")]).await;
    assert_eq!((answer.status, answer.json()["state"].as_str()), (202, Some("open")));
    let path = answer.header("location").unwrap().to_owned();
    say.send("one").await.unwrap();
    say.send("[DONE]").await.unwrap();
    let text = get(&gateway, &path, &[]).await.text();
    assert!(text.contains("one") && text.contains("[DONE]"));
}

#[tokio::test]
async fn ids_and_keys_of_others_mean_nothing_where_nothing_is_resumable() {
    let upstream = Upstream::events(&["data: 1\n\n", "data: [DONE]\n\n"]).await;
    let gateway = Gateway::before(upstream.address, "").await;
    for foreign in [("last-event-id", "7"), ("idempotency-key", "a b")] {
        assert_eq!(post(&gateway, &[foreign]).await.status, 200);
        assert_eq!(post(&gateway, &[foreign, RESUME]).await.status, 400);
    }
}

#[tokio::test]
async fn a_model_or_the_request_may_decide_otherwise_than_the_configuration() {
    let upstream = Upstream::events(&["data: 1\n\n", "data: [DONE]\n\n"]).await;
    let config = "[resume]\nenabled = true\n[models.plain]\nupstream = \"actor\"\nresume = false\n";
    let gateway = Gateway::before(upstream.address, config).await;
    assert!(post(&gateway, &[]).await.header("flumen-stream-id").is_some());
    assert!(post(&gateway, &[("flumen-resume", "0")]).await.header("flumen-stream-id").is_none());
    let plain = chat("plain").to_string();
    assert!(ask(&gateway, "POST", CHAT, &[], &plain).await.header("flumen-stream-id").is_none());
    assert!(ask(&gateway, "POST", CHAT, &[RESUME], &plain).await.header("flumen-stream-id").is_some());
}
