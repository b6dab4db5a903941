//! When an upstream fails before its first event, another one answers; never without bounds, and the log tells all of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Upstream, chat, event, pooled, post, until_metric};

const PATH: &str = "/v1/chat/completions";

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Answers everything with this status.
async fn refusing(status: &'static str) -> Upstream {
    Upstream::start(move |mut conn| async move {
        loop {
            conn.json_answer(
                status,
                "retry-after: 7\r\n",
                r#"{"error":{"message":"own words","code":"own"}}"#,
            )
            .await;
            if !conn.request().await {
                return;
            }
        }
    })
    .await
}

/// The names and outcomes of the attempts in a line of the access log.
fn attempts(line: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    line["attempts"].as_array().map_or_else(Vec::new, |attempts| {
        attempts.iter().map(|tried| (text(&tried["upstream"]), text(&tried["outcome"]))).collect()
    })
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
}

/// A pool of an upstream that fails and of one that answers; the first to be asked is the one that fails.
async fn two(bad: SocketAddr, good: &Upstream, pool: &str, more: &str) -> Gateway {
    Gateway::start(&pooled(&[("bad", bad, ""), ("good", good.address, "")], pool, more)).await
}

#[tokio::test]
async fn another_upstream_answers_and_the_log_tells_of_both() {
    const ERROR: &str = "data: {\"error\":{\"message\":\"no GPU\"}}\n\n";
    let cut_after_head = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(b": still here\n\n").await;
    })
    .await;
    let bad: [(&str, Option<Upstream>); 10] = [
        ("upstream_connect", None),
        ("upstream_rate_limited", Some(refusing("429 Too Many Requests").await)),
        ("upstream_overloaded", Some(refusing("502 Bad Gateway").await)),
        ("upstream_overloaded", Some(refusing("503 Service Unavailable").await)),
        ("upstream_overloaded", Some(refusing("504 Gateway Timeout").await)),
        ("upstream_overloaded", Some(refusing("529 Overloaded").await)),
        ("upstream_closed", Some(Upstream::bytes("").await)),
        ("upstream_truncated", Some(cut_after_head)),
        ("upstream_truncated", Some(Upstream::events(&[]).await)),
        ("upstream_told", Some(Upstream::events(&[ERROR]).await)),
    ];
    let refused = nobody().await;
    for (outcome, bad) in &bad {
        for resumable in [false, true] {
            let good = Upstream::named("g").await;
            let address = bad.as_ref().map_or(refused, |bad| bad.address);
            let more = format!("[resume]\nenabled = {resumable}\n");
            let mut gateway = two(address, &good, "", &more).await;
            let answer = post(gateway.address, PATH, &chat("m")).await;
            assert_eq!(answer.status, 200, "{outcome}: {}", answer.text());
            let text = answer.text();
            assert!(text.contains("\"g\"") && text.contains("[DONE]") && !text.contains("error"), "{text}");
            let line = gateway.access().await;
            assert_eq!(attempts(&line), pairs(&[("bad", outcome), ("good", "complete")]), "{line}");
            assert_eq!((&line["upstream"], &line["cause"]), (&json!("good"), &json!("complete")));
            assert!(line["seams"].is_null(), "nothing had been said: {line}");
            let counted =
                format!("flumen_upstream_attempts_total{{upstream=\"bad\",outcome=\"{outcome}\"}} 1");
            assert!(gateway.metrics().await.contains(&counted), "{counted}");
        }
    }
}

#[tokio::test]
async fn whole_answers_go_elsewhere_too() {
    let good = Upstream::start(|mut conn| async move {
        conn.json_answer("200 OK", "", "{\"choices\":[]}").await;
    })
    .await;
    let bad = refusing("503 Service Unavailable").await;
    let mut gateway = two(bad.address, &good, "", "").await;
    let answer = post(gateway.address, PATH, &json!({"model": "m", "messages": []})).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"choices\":[]}"));
    let line = gateway.access().await;
    assert_eq!(attempts(&line), pairs(&[("bad", "upstream_overloaded"), ("good", "complete")]), "{line}");
}

#[tokio::test]
async fn what_concerns_the_request_is_not_asked_twice() {
    for (status, expected) in [
        ("500 Internal Server Error", 502),
        ("400 Bad Request", 400),
        ("401 Unauthorized", 502),
        ("404 Not Found", 404),
        ("422 Unprocessable Content", 422),
    ] {
        let (bad, good) = (refusing(status).await, Upstream::named("g").await);
        let mut gateway = two(bad.address, &good, "", "").await;
        let answer = post(gateway.address, PATH, &chat("m")).await;
        assert_eq!((answer.status, good.accepted()), (expected, 0), "{status}");
        assert_eq!(attempts(&gateway.access().await), []);
    }
}

#[tokio::test]
async fn the_log_tells_of_the_last_attempt_too_when_that_one_is_refused() {
    let bad = refusing("503 Service Unavailable").await;
    let good = refusing("400 Bad Request").await;
    let mut gateway = two(bad.address, &good, "", "").await;
    assert_eq!(post(gateway.address, PATH, &chat("m")).await.status, 400);
    let line = gateway.access().await;
    assert_eq!(
        attempts(&line),
        pairs(&[("bad", "upstream_overloaded"), ("good", "upstream_refused")]),
        "{line}"
    );
}

#[tokio::test]
async fn after_the_first_event_nobody_else_is_asked() {
    let bad = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
    })
    .await;
    let good = Upstream::named("g").await;
    let gateway = two(bad.address, &good, "", "").await;
    let text = post(gateway.address, PATH, &chat("m")).await.text();
    assert!(text.ends_with("\"code\":\"upstream_truncated\"}}\n\n"), "{text}");
    assert_eq!(good.accepted(), 0);
}

#[tokio::test]
async fn no_more_upstreams_are_asked_than_the_pool_allows() {
    let bad = [
        refusing("503 Service Unavailable").await,
        refusing("503 Service Unavailable").await,
        refusing("503 Service Unavailable").await,
        refusing("429 Too Many Requests").await,
    ];
    let of: Vec<_> =
        ["a", "b", "c", "d"].into_iter().zip(&bad).map(|(name, bad)| (name, bad.address, "")).collect();
    let mut gateway = Gateway::start(&pooled(&of, "attempts = 2", "")).await;
    let answer = post(gateway.address, PATH, &chat("m")).await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("retry-after")),
        (503, "own", Some("7"))
    );
    let refused = "upstream_overloaded";
    assert_eq!(attempts(&gateway.access().await), pairs(&[("a", refused), ("b", refused)]));
    assert_eq!(bad[2].accepted() + bad[3].accepted(), 0);
    // Nobody is asked twice for one request, whatever is allowed.
    std::fs::write(gateway.file(), pooled(&of, "attempts = 50", "")).unwrap();
    gateway.message("the new configuration is in force").await;
    assert!([429, 503].contains(&post(gateway.address, PATH, &chat("m")).await.status));
    assert_eq!(attempts(&gateway.access().await).len(), 4);
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let (bad, good) = (refusing("503 Service Unavailable").await, Upstream::named("g").await);
    let health = "[health]\nfailures = 1000\noutlier_failures = 1.0\n";
    let mut gateway = two(bad.address, &good, "", health).await;
    let began = tokio::time::Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let address = gateway.address;
        asking.spawn(async move { post(address, PATH, &chat("m")).await.status });
    }
    let refused = asking.join_all().await.into_iter().filter(|status| *status == 503).count();
    let spent = began.elapsed().as_secs_f64();
    let mut retried = 0;
    for _ in 0..300 {
        retried += u32::from(attempts(&gateway.access().await).len() == 2);
    }
    // Ten at first, ten a second, a fifth of the requests.
    let most = 10.0 + spent * 10.0 + 300.0 * 0.2;
    assert!(f64::from(retried) <= most + 1.0, "{retried} retries, {most} allowed");
    assert!(retried >= 50, "{retried}");
    // On a machine so slow that the seconds pay for all of them nothing is refused.
    assert!(refused > 0 || most > 100.0, "then the refusal is passed on");
}

#[tokio::test]
async fn an_upstream_that_fails_in_a_row_is_left_alone() {
    let (bad, good) = (refusing("503 Service Unavailable").await, Upstream::named("g").await);
    let health = "[health]\nfailures = 2\nopen = \"1m\"\n";
    let mut gateway = two(bad.address, &good, "", health).await;
    for round in 0..12 {
        assert_eq!(post(gateway.address, PATH, &chat("m")).await.status, 200);
        let asked_bad = attempts(&gateway.access().await).len() == 2;
        assert_eq!(asked_bad, round == 0 || round == 2, "in its turn, until it has failed twice: {round}");
    }
    until_metric(&gateway, "flumen_upstream_up{upstream=\"bad\"} 0").await;
    until_metric(&gateway, "flumen_upstream_up{upstream=\"good\"} 1").await;
}

#[tokio::test]
async fn an_upstream_that_does_not_take_the_key_is_left_alone() {
    // It refuses faster than any other answers, and would get the most where the quickest does.
    for status in ["401 Unauthorized", "500 Internal Server Error"] {
        let (bad, good) = (refusing(status).await, Upstream::named("g").await);
        let gateway = two(bad.address, &good, "", "[health]\nfailures = 2\nopen = \"1m\"\n").await;
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push(post(gateway.address, PATH, &chat("m")).await.status);
        }
        assert_eq!(statuses, [502, 200, 502, 200, 200, 200, 200, 200], "{status}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_well_again_gets_its_share_again() {
    let well = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&well);
    let moody = Upstream::start(move |mut conn| {
        let now = Arc::clone(&now);
        async move {
            loop {
                if now.load(SeqCst) {
                    conn.stream_head().await;
                    conn.chunk((event("moody") + "data: [DONE]\n\n").as_bytes()).await;
                    conn.finish().await;
                } else {
                    conn.json_answer("503 Service Unavailable", "", "{}").await;
                }
                if !conn.request().await {
                    return;
                }
            }
        }
    })
    .await;
    let good = Upstream::named("g").await;
    let health = "[health]\nfailures = 2\nopen = \"50ms\"\nopen_longest = \"50ms\"\nslow_start = \"1ms\"\n";
    let gateway = two(moody.address, &good, "", health).await;
    for _ in 0..6 {
        assert_eq!(post(gateway.address, PATH, &chat("m")).await.status, 200);
    }
    well.store(true, SeqCst);
    let mut last = Vec::new();
    crate::support::soon(async {
        while last.len() < 10 || last[last.len() - 10..].iter().filter(|it| **it).count() != 5 {
            let answer = post(gateway.address, PATH, &chat("m")).await;
            assert_eq!(answer.status, 200);
            last.push(answer.text().contains("moody"));
        }
    })
    .await;
    until_metric(&gateway, "flumen_upstream_up{upstream=\"bad\"} 1").await;
}

#[tokio::test]
async fn one_that_tries_again_has_its_breaker_closed_by_its_first_token() {
    let first = Arc::new(AtomicBool::new(true));
    let bad = Upstream::start(move |mut conn| {
        let fail = first.swap(false, SeqCst);
        async move {
            if fail {
                return conn.json_answer("503 Service Unavailable", "", "{}").await;
            }
            conn.stream_head().await;
            conn.chunk(event("back").as_bytes()).await;
            conn.closed().await;
        }
    })
    .await;
    let good = Upstream::named("g").await;
    let health = "[health]\nfailures = 1\nopen = \"1ms\"\nopen_longest = \"1ms\"\nslow_start = \"1ms\"\n";
    let gateway = two(bad.address, &good, "", health).await;
    assert_eq!(post(gateway.address, PATH, &chat("m")).await.status, 200);
    // A long answer must not keep all other requests away.
    let mut open = Vec::new();
    crate::support::soon(async {
        while open.len() < 2 {
            let (mut client, _) = Client::open(gateway.address, &chat("hold")).await;
            let begin = client.until("\"}}]}").await;
            if begin.contains("back") {
                open.push(client);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_upstream_is_asked_whatever_it_did() {
    let health = "[health]\nfailures = 1\nopen = \"1h\"\nopen_longest = \"1h\"\n";
    let bad = refusing("503 Service Unavailable").await;
    let gateway = Gateway::start(&pooled(&[("a", bad.address, "")], "", health)).await;
    for _ in 0..5 {
        let answer = post(gateway.address, PATH, &chat("m")).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "own"), "its own words: it was asked");
    }
    let (one, two) = (refusing("503 Service Unavailable").await, refusing("503 Service Unavailable").await);
    let of = [("a", one.address, ""), ("b", two.address, "")];
    let gateway = Gateway::start(&pooled(&of, "", health)).await;
    for _ in 0..5 {
        assert_eq!(post(gateway.address, PATH, &chat("m")).await.code(), "own");
    }
    let metrics = gateway.metrics().await;
    let up = |name: &str| metrics.contains(&format!("flumen_upstream_up{{upstream=\"{name}\"}} 1"));
    assert!(up("a") != up("b"), "one of them is left");
}
