//! Upstreams that do much worse than others, or say that they are unwell, are left out; and slow ones are overtaken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Gateway, Upstream, chat, event, pooled, post, soon, until_metric};

const PATH: &str = "/v1/chat/completions";

fn outcomes(line: &Value) -> Vec<String> {
    let attempts = line["attempts"].as_array().cloned().unwrap_or_default();
    attempts
        .iter()
        .map(|tried| format!("{} {}", tried["upstream"], tried["outcome"]).replace('"', ""))
        .collect()
}

/// Refuses two of three requests, so that it never fails often in a row.
async fn shaky() -> Upstream {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Upstream::start(move |mut conn| {
        let fails = !count.fetch_add(1, SeqCst).is_multiple_of(3);
        async move {
            if fails {
                let closing = "connection: close\r\n";
                return conn.json_answer("503 Service Unavailable", closing, "{}").await;
            }
            conn.stream_head().await;
            conn.chunk((event("shaky") + "data: [DONE]\n\n").as_bytes()).await;
        }
    })
    .await
}

async fn ejects(gateway: &Gateway) {
    soon(async {
        while !gateway.metrics().await.contains("flumen_upstream_up{upstream=\"a\"} 0") {
            // So many retries may be more than the budget pays for.
            assert!([200, 503].contains(&post(gateway.address, PATH, &chat("m")).await.status));
        }
    })
    .await;
    for _ in 0..6 {
        let text = post(gateway.address, PATH, &chat("m")).await.text();
        assert!(!text.contains("shaky"), "{text}");
    }
}

const OUTLIERS: &str =
    "[health]\nfailures = 100\noutlier_interval = \"200ms\"\noutlier_requests = 3\nopen = \"1m\"\n";

#[tokio::test]
async fn an_upstream_that_fails_much_more_than_the_others_is_left_out() {
    let (shaky, b, c) = (shaky().await, Upstream::named("b").await, Upstream::named("c").await);
    let of = [("a", shaky.address, ""), ("b", b.address, ""), ("c", c.address, "")];
    let gateway = Gateway::start(&pooled(&of, "", OUTLIERS)).await;
    ejects(&gateway).await;
}

#[tokio::test]
async fn outliers_are_found_after_a_reload_too() {
    let (shaky, b, c) = (shaky().await, Upstream::named("b").await, Upstream::named("c").await);
    let of = [("a", shaky.address, ""), ("b", b.address, ""), ("c", c.address, "")];
    let mut gateway = Gateway::start(&pooled(&of[1..], "", OUTLIERS)).await;
    assert_eq!(post(gateway.address, PATH, &chat("m")).await.status, 200);
    std::fs::write(gateway.file(), pooled(&of, "", OUTLIERS)).unwrap();
    gateway.message("the new configuration is in force").await;
    ejects(&gateway).await;
}

#[tokio::test]
async fn an_upstream_that_says_it_is_unwell_gets_nothing_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&well);
    let checked = Upstream::start(move |mut conn| {
        let now = Arc::clone(&now);
        async move {
            loop {
                if conn.head.starts_with("GET /health ") {
                    let status = if now.load(SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                    conn.json_answer(status, "", "{}").await;
                } else {
                    conn.stream_head().await;
                    conn.chunk((event("checked") + "data: [DONE]\n\n").as_bytes()).await;
                    conn.finish().await;
                }
                if !conn.request().await {
                    return;
                }
            }
        }
    })
    .await;
    let other = Upstream::named("b").await;
    let of = [("a", checked.address, "health_path = \"/health\""), ("b", other.address, "")];
    let health = "[health]\ncheck_interval = \"20ms\"\nslow_start = \"1ms\"\n";
    let gateway = Gateway::start(&pooled(&of, "", health)).await;
    let seen = async || {
        let mut seen = 0;
        for _ in 0..6 {
            seen += usize::from(post(gateway.address, PATH, &chat("m")).await.text().contains("checked"));
        }
        seen
    };
    assert_eq!(seen().await, 3);
    for _ in 0..2 {
        well.store(false, SeqCst);
        until_metric(&gateway, "flumen_upstream_up{upstream=\"a\"} 0").await;
        assert_eq!(seen().await, 0);
        well.store(true, SeqCst);
        until_metric(&gateway, "flumen_upstream_up{upstream=\"a\"} 1").await;
        // Its share grows from then on.
        soon(async { while seen().await != 3 {} }).await;
    }
}

#[tokio::test]
async fn all_tries_share_one_deadline_to_the_first_token() {
    // Its refusal comes late.
    let (_late, late) = crate::simulator::start(&[]).await;
    let silent = Upstream::silent().await;
    let of = [("a", late, ""), ("b", silent.address, "")];
    let mut gateway = Gateway::start(&pooled(&of, "", "[timeouts]\nfirst_token = \"4s\"\n")).await;
    let answer = post(gateway.address, PATH, &chat("sim:header=500ms,fault=status:503")).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "first_token_timeout"));
    let line = gateway.access().await;
    assert_eq!(outcomes(&line), ["a upstream_overloaded", "b first_token_timeout"], "{line}");
    // It would be more than four seconds, were the clock started anew.
    assert!(line["attempts"][1]["ms"].as_f64().unwrap() < 3900.0, "{line}");
}

#[tokio::test]
async fn an_upstream_is_held_to_its_own_deadline() {
    let silent = Upstream::silent().await;
    let of = [("a", silent.address, "first_token = \"200ms\"")];
    let gateway = Gateway::start(&pooled(&of, "", "")).await;
    let answer = post(gateway.address, PATH, &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "first_token_timeout"));
}

/// Says nothing after its head, and tells when its client has left.
async fn slow() -> (Upstream, mpsc::Receiver<()>) {
    let (tell, left) = mpsc::channel(10);
    let upstream = Upstream::start(move |mut conn| {
        let tell = tell.clone();
        async move {
            conn.stream_head().await;
            conn.closed().await;
            let _ = tell.send(()).await;
        }
    })
    .await;
    (upstream, left)
}

#[tokio::test]
async fn the_first_token_wins_and_the_other_upstream_is_let_go() {
    for resumable in [false, true] {
        let ((slow, mut left), quick) = (slow().await, Upstream::named("quick").await);
        let of = [("a", slow.address, ""), ("b", quick.address, "")];
        let more = format!("[resume]\nenabled = {resumable}\n");
        let mut gateway = Gateway::start(&pooled(&of, "hedge = \"50ms\"", &more)).await;
        let answer = post(gateway.address, PATH, &chat("m")).await;
        assert!(answer.text().contains("quick") && answer.text().contains("[DONE]"), "{}", answer.text());
        soon(left.recv()).await.unwrap();
        let line = gateway.access().await;
        assert_eq!(outcomes(&line), ["a cancelled", "b complete"], "{line}");
        assert!(gateway.metrics().await.contains("flumen_hedges_total{pool=\"p\"} 1"));
        until_metric(&gateway, "flumen_upstream_in_flight{upstream=\"a\"} 0").await;
    }
}

#[tokio::test]
async fn the_second_upstream_is_let_go_when_the_first_wins() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let first = Upstream::start(move |mut conn| {
        let gone = gone.lock().unwrap().take();
        async move {
            conn.stream_head().await;
            let _ = gone.unwrap().await;
            conn.chunk((event("first") + "data: [DONE]\n\n").as_bytes()).await;
            conn.finish().await;
        }
    })
    .await;
    let (second, mut left) = slow().await;
    let of = [("a", first.address, ""), ("b", second.address, "")];
    let mut gateway = Gateway::start(&pooled(&of, "hedge = \"20ms\"", "")).await;
    let address = gateway.address;
    let asking = tokio::spawn(async move { post(address, PATH, &chat("m")).await });
    second.is_asked().await;
    go.send(()).unwrap();
    assert!(asking.await.unwrap().text().contains("first"));
    soon(left.recv()).await.unwrap();
    assert_eq!(outcomes(&gateway.access().await), ["b cancelled", "a complete"]);
}

#[tokio::test]
async fn a_hedge_that_is_refused_does_not_win() {
    let told = "200 OK: an error event";
    for status in ["500 Internal Server Error", "503 Service Unavailable", "401 Unauthorized", told] {
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let gone = std::sync::Mutex::new(Some(gone));
        let first = Upstream::start(move |mut conn| {
            let gone = gone.lock().unwrap().take();
            async move {
                conn.stream_head().await;
                let _ = gone.unwrap().await;
                conn.chunk((event("first") + "data: [DONE]\n\n").as_bytes()).await;
                conn.finish().await;
            }
        })
        .await;
        let second = Upstream::start(move |mut conn| async move {
            if status == told {
                conn.stream_head().await;
                conn.chunk(b"data: {\"error\":{\"message\":\"m\"}}\n\n").await;
            } else {
                conn.json_answer(status, "", "{}").await;
            }
            conn.closed().await;
        })
        .await;
        let of = [("a", first.address, ""), ("b", second.address, "")];
        let mut gateway = Gateway::start(&pooled(&of, "hedge = \"20ms\"", "")).await;
        let address = gateway.address;
        let asking = tokio::spawn(async move { post(address, PATH, &chat("m")).await });
        // The gateway has the refusal before the first token.
        soon(async {
            while !gateway.metrics().await.contains("flumen_upstream_attempts_total{upstream=\"b\"") {
                tokio::task::yield_now().await;
            }
        })
        .await;
        go.send(()).unwrap();
        let answer = asking.await.unwrap();
        assert_eq!(answer.status, 200, "{status}: {}", answer.text());
        let line = gateway.asked().await;
        let told = outcomes(&line);
        assert!(told.len() == 2 && told[0].starts_with("b upstream_") && told[1] == "a complete", "{line}");
    }
}

#[tokio::test]
async fn who_is_quick_enough_is_not_hedged() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let of = [("a", a.address, ""), ("b", b.address, "")];
    let mut gateway = Gateway::start(&pooled(&of, "hedge = \"1m\"", "")).await;
    assert!(post(gateway.address, PATH, &chat("m")).await.text().contains("\"a\""));
    assert_eq!((gateway.access().await["attempts"].clone(), b.accepted()), (json!(null), 0));
}
