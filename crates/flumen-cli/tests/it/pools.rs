//! A pool shares its requests as it was told to, and nobody but the operator says where requests go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Upstream, ask, chat, event, pooled, post, post_with, until_metric};

async fn named() -> [Upstream; 3] {
    [Upstream::named("a").await, Upstream::named("b").await, Upstream::named("c").await]
}

fn all<'a>([a, b, c]: &'a [Upstream; 3], own: &'a str) -> [(&'static str, std::net::SocketAddr, &'a str); 3] {
    [("a", a.address, own), ("b", b.address, own), ("c", c.address, own)]
}

/// Which upstream answered.
fn by(answer: &crate::support::Answer) -> String {
    let text = answer.text();
    let at = text.find("\"content\":\"").unwrap_or_else(|| panic!("{} {text}", answer.status)) + 11;
    text[at..=at].to_owned()
}

async fn who(gateway: &Gateway, headers: &[(&str, &str)], body: &Value) -> String {
    by(&post_with(gateway.address, headers, body).await)
}

#[tokio::test]
async fn turns_follow_weights_exactly() {
    let upstreams = named().await;
    let pool = "weights = { a = 3, b = 2 }";
    let gateway = Gateway::start(&pooled(&all(&upstreams, ""), pool, "")).await;
    let mut counts = BTreeMap::new();
    for _ in 0..60 {
        *counts.entry(who(&gateway, &[], &chat("m")).await).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".into(), 30), ("b".into(), 20), ("c".into(), 10)]));
}

#[tokio::test]
async fn the_upstream_with_the_least_to_do_gets_the_next_request() {
    let upstreams = named().await;
    let pool = "balance = \"least-in-flight\"";
    let gateway = Gateway::start(&pooled(&all(&upstreams, ""), pool, "")).await;
    let mut held = Vec::new();
    for name in ["a", "b", "c", "a", "b"] {
        let (mut client, _) = Client::open(gateway.address, &chat("hold")).await;
        client.until(&format!("\"{name}\"")).await;
        held.push(client);
    }
    assert_eq!(who(&gateway, &[], &chat("m")).await, "c");
    drop(held.remove(0));
    drop(held.remove(2));
    until_metric(&gateway, "flumen_upstream_in_flight{upstream=\"a\"} 0").await;
    until_metric(&gateway, "flumen_upstream_in_flight{upstream=\"c\"} 1").await;
    assert_eq!(who(&gateway, &[], &chat("m")).await, "a");
}

#[tokio::test]
async fn a_session_stays_where_it_is_until_its_upstream_goes() {
    let upstreams = named().await;
    let pool = "balance = \"hash-header\"\nhash_header = \"x-session-id\"";
    let mut gateway = Gateway::start(&pooled(&all(&upstreams, ""), pool, "")).await;
    let mut homes = Vec::new();
    for session in 0..24 {
        let session = session.to_string();
        let headers = [("x-session-id", session.as_str())];
        let home = who(&gateway, &headers, &chat("m")).await;
        assert_eq!(who(&gateway, &headers, &ask("m", "another prompt")).await, home);
        homes.push((session.clone(), home));
    }
    for name in ["a", "b", "c"] {
        assert!(homes.iter().any(|(_, home)| home == name), "{name} has its share: {homes:?}");
    }
    let spread: Vec<_> = [
        who(&gateway, &[], &chat("m")).await,
        who(&gateway, &[], &chat("m")).await,
        who(&gateway, &[], &chat("m")).await,
    ]
    .into();
    assert!(
        spread.contains(&"a".into()) && spread.contains(&"b".into()),
        "who has none takes turns: {spread:?}"
    );

    std::fs::write(gateway.file(), pooled(&all(&upstreams, "")[..2], pool, "")).unwrap();
    gateway.message("the new configuration is in force").await;
    for (session, home) in homes {
        let now = who(&gateway, &[("x-session-id", &session)], &chat("m")).await;
        assert!(if home == "c" { now != "c" } else { now == home }, "{session}: {home} -> {now}");
    }
}

#[tokio::test]
async fn prompts_that_begin_alike_go_to_the_same_upstream() {
    let upstreams = named().await;
    let pool = "balance = \"hash-prompt\"\nhash_prompt = \"64\"";
    let gateway = Gateway::start(&pooled(&all(&upstreams, ""), pool, "")).await;
    let mut used = BTreeMap::new();
    for subject in 0..16 {
        let begin = format!("{subject} {}", "the same long beginning ".repeat(5));
        let home = who(&gateway, &[], &ask("m", &begin)).await;
        for end in ["one", "two"] {
            assert_eq!(who(&gateway, &[], &ask("m", &format!("{begin}{end}"))).await, home);
        }
        *used.entry(home).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 3, "{used:?}");
}

#[tokio::test]
async fn the_fastest_to_the_first_token_gets_most() {
    let (_slow, slow) = crate::simulator::start(&["--first-token", "100ms", "--tokens", "1"]).await;
    let quick = Upstream::named("q").await;
    let upstreams = [("slow", slow, ""), ("quick", quick.address, "")];
    let gateway = Gateway::start(&pooled(&upstreams, "balance = \"fastest\"", "")).await;
    let mut quick = 0;
    for _ in 0..80 {
        quick += usize::from(who(&gateway, &[], &chat("m")).await == "q");
    }
    // It is chosen unless the slow one is drawn twice: 60 of 80, and fewer than half once in a million runs.
    assert!(quick > 40, "{quick} of 80");
}

#[tokio::test]
async fn names_aliases_and_patterns_lead_to_their_pools() {
    let [a, b, c] = named().await;
    let more = format!(
        "[upstreams.b]\nbase_url = \"http://{}/v1\"\n[upstreams.c]\nbase_url = \"http://{}/v1\"\n\
         [pools.q]\nupstreams = [\"b\"]\n[models.large]\npool = \"q\"\naliases = [\"gpt-9\", \"claude-9\"]\n\
         [models.\"gpt-*\"]\nupstream = \"c\"\n",
        b.address, c.address
    );
    let gateway = Gateway::start(&pooled(&[("a", a.address, "")], "", &more)).await;
    for (model, upstream) in [
        ("large", "b"),
        ("gpt-9", "b"),
        ("claude-9", "b"),
        ("gpt-8", "c"),
        ("gpt-", "c"),
        ("other", "a"),
        ("gp", "a"),
    ] {
        assert_eq!(who(&gateway, &[], &chat(model)).await, upstream, "{model}");
    }
}

#[tokio::test]
async fn an_upstream_never_has_more_than_it_may() {
    let upstreams = named().await;
    let mut of = all(&upstreams, "");
    (of[0].2, of[1].2) = ("concurrency = 1", "concurrency = 2");
    let gateway = Gateway::start(&pooled(&of[..2], "", "")).await;
    until_metric(&gateway, "flumen_pool_slots{pool=\"p\"} 3").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let (mut client, _) = Client::open(gateway.address, &chat("hold")).await;
        client.until("data: ").await;
        held.push(client);
    }
    for (name, count) in [("a", 1), ("b", 2)] {
        until_metric(&gateway, &format!("flumen_upstream_in_flight{{upstream=\"{name}\"}} {count}")).await;
    }
    let address = gateway.address;
    let waiting = tokio::spawn(async move { post(address, "/v1/chat/completions", &chat("m")).await });
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 1").await;
    assert_eq!(upstreams[0].accepted() + upstreams[1].accepted(), 3, "nobody was asked for more");
    held.pop();
    assert_eq!(waiting.await.unwrap().status, 200);
}

#[tokio::test]
async fn upstreams_come_and_go_while_streams_run() {
    let [a, b, c] = named().await;
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let leaving = Upstream::start(move |mut conn| {
        let gone = gone.lock().unwrap().take();
        async move {
            conn.stream_head().await;
            conn.chunk(event("first").as_bytes()).await;
            let _ = gone.unwrap().await;
            conn.chunk((event("last") + "data: [DONE]\n\n").as_bytes()).await;
            conn.finish().await;
        }
    })
    .await;
    let before = [("a", leaving.address, ""), ("b", b.address, "")];
    let mut gateway = Gateway::start(&pooled(&before, "", "")).await;
    let (mut client, _) = Client::open(gateway.address, &chat("m")).await;
    client.until("\"first\"").await;
    std::fs::write(gateway.file(), pooled(&[("b", b.address, ""), ("c", c.address, "")], "", "")).unwrap();
    gateway.message("the new configuration is in force").await;
    let mut seen: Vec<_> = Vec::new();
    for _ in 0..4 {
        seen.push(who(&gateway, &[], &chat("m")).await);
    }
    assert_eq!(seen.iter().filter(|name| *name == "c").count(), 2, "{seen:?}");
    assert_eq!((leaving.accepted(), a.accepted()), (1, 0));
    go.send(()).unwrap();
    let rest = client.until("[DONE]").await;
    assert!(rest.contains("\"last\"") && !rest.contains("error"), "{rest}");
    until_metric(&gateway, "flumen_pool_running{pool=\"p\"} 0").await;
}

#[tokio::test]
async fn a_client_cannot_choose_where_its_request_goes() {
    let (a, trap) = (Upstream::named("a").await, Upstream::named("t").await);
    let gateway = Gateway::start(&pooled(&[("a", a.address, "")], "", "")).await;
    let (own, trap_at) = (gateway.address, trap.address.to_string());
    let url = format!("http://{trap_at}/v1");
    for name in [
        "host",
        "x-forwarded-host",
        "x-forwarded-server",
        "forwarded",
        "x-original-url",
        "x-upstream",
        "x-base-url",
        "openai-base-url",
        "flumen-upstream",
        "proxy",
        "via",
    ] {
        for value in [trap_at.as_str(), url.as_str(), &format!("host={trap_at}")] {
            let body = chat("m").to_string();
            let host = if name == "host" { value } else { "test" };
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nx-nothing: 1\r\n{}: {value}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                if name == "host" { "x-host" } else { name },
                body.len()
            );
            let mut client = Client::connect(own).await;
            client.send(head.as_bytes()).await;
            let answer = client.answer().await;
            // A host that is no host may be refused, but leads nowhere either.
            assert!(answer.status == 400 || by(&answer) == "a", "{name}: {value}");
        }
    }
    let mut client = Client::connect(own).await;
    client.request("POST", &format!("{url}/chat/completions"), &[], &chat("m").to_string()).await;
    assert_eq!(by(&client.answer().await), "a", "a URI in absolute form");
    for model in
        [url.as_str(), "http:///etc/passwd", "a/../../x", "//t", "http://user@host:1/v1#x", "a\u{0}b"]
    {
        assert_eq!(who(&gateway, &[], &chat(model)).await, "a", "{model}");
    }
    let mut body = chat("m");
    for key in ["base_url", "api_base", "endpoint", "host", "upstream", "url", "provider", "pool"] {
        body[key] = json!(url);
    }
    assert_eq!(who(&gateway, &[], &body).await, "a");
    assert_eq!(trap.accepted(), 0);
}
