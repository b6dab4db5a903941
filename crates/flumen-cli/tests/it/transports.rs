//! One stream, read over any transport, begun on one and finished on another.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Upstream, chat};

const WORDS: &[&str] = &[
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"万物\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"皆流\"}}]}\n\nevent: note\ndata: not json\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 🌊\"}}]}\n\n",
    "data: [DONE]\n\n",
];
const TEXT: &str = "万物皆流 🌊";

async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(gateway.address).await;
    client.request(method, path, headers, &chat("m").to_string()).await;
    client.answer().await
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    Client::get(gateway.address, path).await
}

async fn finished(config: &str) -> (Upstream, Gateway, String, Answer) {
    let upstream = Upstream::events(WORDS).await;
    let gateway = Gateway::before(upstream.address, config).await;
    let answer = ask(&gateway, "POST", "/v1/chat/completions", &[("flumen-resume", "1")]).await;
    let path = format!("/v1/streams/{}", answer.header("flumen-stream-id").unwrap());
    (upstream, gateway, path, answer)
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn ndjson_has_an_envelope_a_line() {
    let (_upstream, gateway, path, _) = finished("").await;
    let answer = get(&gateway, &format!("{path}?transport=ndjson")).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let all = lines(&answer);
    assert_eq!(all.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(all[1]["data"]["choices"][0]["delta"]["content"], "万物");
    assert_eq!((&all[3]["event"], &all[3]["data"]), (&json!("note"), &json!("not json")));
    assert_eq!(all[5]["data"], "[DONE]");
    for after in 0..6 {
        let id = all[after]["id"].as_str().unwrap();
        let rest = lines(&get(&gateway, &format!("{path}?transport=ndjson&last_event_id={id}")).await);
        assert_eq!(rest, all[after + 1..]);
    }
}

#[tokio::test]
async fn text_is_the_answer_alone_and_goes_on_at_any_byte() {
    let (_upstream, gateway, path, _) = finished("").await;
    let answer = get(&gateway, &format!("{path}?transport=text")).await;
    assert_eq!((answer.header("content-type"), &*answer.text()), (Some("text/plain; charset=utf-8"), TEXT));
    for skip in 0..=TEXT.len() {
        let rest = get(&gateway, &format!("{path}?transport=text&skip={skip}")).await;
        assert_eq!(rest.body, TEXT.as_bytes()[skip..]);
        assert!(rest.complete);
    }
}

#[tokio::test]
async fn long_polls_join_to_the_stream() {
    let (_upstream, gateway, path, _) = finished("").await;
    let all = lines(&get(&gateway, &format!("{path}?transport=ndjson")).await);
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let answer = get(&gateway, &format!("{path}/poll?after={after}&wait=5s")).await;
        if answer.status == 204 {
            break;
        }
        let page = answer.json();
        assert_eq!(page["stream"], path.rsplit('/').next().unwrap());
        seen.extend(page["events"].as_array().unwrap().clone());
        after = page["last"].as_u64().unwrap();
    }
    assert_eq!(seen, all);
    assert_eq!(get(&gateway, &format!("{path}/poll?after=99")).await.code(), "cursor_beyond_tail");
    assert_eq!(get(&gateway, &format!("{path}/poll?wait=1h")).await.code(), "bad_request");
}

#[tokio::test]
async fn a_poll_waits_for_what_comes_and_no_longer_than_it_was_told() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(WORDS[0].as_bytes()).await;
        conn.closed().await;
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    let answer = ask(&gateway, "POST", "/v1/chat/completions", &[("prefer", "respond-async")]).await;
    let path = answer.header("location").unwrap().to_owned();
    let page = get(&gateway, &format!("{path}/poll?wait=20s")).await.json();
    assert_eq!((&page["last"], &page["state"]), (&json!(1), &json!("open")));
    let nothing = get(&gateway, &format!("{path}/poll?after=1&wait=10ms")).await.json();
    assert_eq!((&nothing["events"], &nothing["last"]), (&json!([]), &json!(1)));
    let stopped = ask(&gateway, "DELETE", &path, &[]).await.json();
    assert_eq!(stopped["state"], "cancelled");
}

#[tokio::test]
async fn the_first_request_chooses_its_transport_too_resumable_or_not() {
    let (_upstream, gateway, _, _) = finished("").await;
    for resume in ["0", "1"] {
        let headers = |accept: &'static str| [("flumen-resume", resume), ("accept", accept)];
        let text = ask(&gateway, "POST", "/v1/chat/completions", &headers("text/plain")).await;
        assert_eq!((text.text().as_str(), text.complete), (TEXT, true));
        let ndjson = ask(&gateway, "POST", "/v1/chat/completions", &headers("application/x-ndjson")).await;
        let all = lines(&ndjson);
        assert_eq!((all.len(), all[0].get("id").is_some()), (6, resume == "1"));
        assert_eq!(ndjson.header("flumen-stream-id").is_some(), resume == "1");
        let named = ask(&gateway, "POST", "/v1/chat/completions?transport=text", &headers("*/*")).await;
        assert_eq!(named.text(), TEXT);
    }
}

#[tokio::test]
async fn an_answer_that_fails_says_so_on_every_transport() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(WORDS[1].as_bytes()).await;
    })
    .await;
    let gateway = Gateway::before(upstream.address, "").await;
    for resume in ["0", "1"] {
        let ask = async |accept| {
            ask(&gateway, "POST", "/v1/chat/completions", &[("flumen-resume", resume), ("accept", accept)])
                .await
        };
        let text = ask("text/plain").await;
        assert_eq!((text.text().as_str(), text.complete), ("万物", false), "cut short");
        let last = lines(&ask("application/x-ndjson").await).pop().unwrap();
        assert!(last["data"]["error"]["code"].as_str().unwrap().starts_with("upstream_"), "{last}");
    }
}

#[tokio::test]
async fn streams_are_compressed_where_client_and_configuration_agree() {
    let (_upstream, gateway, path, plain) = finished("[stream]\ncompression = [\"gzip\"]\n").await;
    let gzip = ask(&gateway, "GET", &path, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&gzip.body[..]), &mut text).unwrap();
    assert_eq!(text, plain.text());
    assert_eq!(
        ask(&gateway, "GET", &path, &[("accept-encoding", "br")]).await.header("content-encoding"),
        None
    );
    let (_upstream, gateway, path, _) = finished("").await;
    assert_eq!(
        ask(&gateway, "GET", &path, &[("accept-encoding", "gzip")]).await.header("content-encoding"),
        None
    );
}
