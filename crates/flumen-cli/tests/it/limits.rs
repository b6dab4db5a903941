//! Limits hold to the exact request, and whoever is refused is told when to come back.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Upstream, chat, event, soon};

const KEYS: [(&str, &str); 2] = [("alice", "fl-alice-0123456789abcdef"), ("bob", "fl-bob-0123456789abcdef")];

fn keys() -> String {
    let line = |(tenant, key): &(&str, &str)| {
        let hash = blake3::hash(key.as_bytes()).to_hex();
        format!("[keys.{tenant}]\nhash = \"blake3:{hash}\"\ntenant = \"{tenant}\"\n")
    };
    KEYS.iter().map(line).collect()
}

const SIM: &str = "[upstreams.s]\nkind = \"sim\"\ntokens_per_second = 0\nfirst_token = \"1ms\"\n\
                   [models.sim]\nupstream = \"s\"\n[models.\"sim:*\"]\nupstream = \"s\"\n";

async fn limited(limits: &str) -> Gateway {
    Gateway::start(&format!("{}{limits}{SIM}", keys())).await
}

async fn open(gateway: &Gateway, tenant: &str, body: &Value) -> Client {
    let (_, key) = KEYS.iter().find(|(name, _)| *name == tenant).unwrap();
    let mut client = Client::connect(gateway.address).await;
    let bearer = format!("Bearer {key}");
    client.request("POST", "/v1/chat/completions", &[("authorization", &bearer)], &body.to_string()).await;
    client
}

async fn ask(gateway: &Gateway, tenant: &str, model: &str) -> Answer {
    let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    open(gateway, tenant, &body).await.answer().await
}

#[tokio::test]
async fn so_many_requests_and_not_one_more() {
    let gateway = limited(
        "[tenants.alice.limits]\nrequests_per_minute = 5\n[models.sim.limits]\nrequests_per_minute = 8\n",
    )
    .await;
    for left in (0..5).rev() {
        let answer = ask(&gateway, "alice", "sim:tokens=1").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("5"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(&*left.to_string()));
        assert!(answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some());
    }
    let refused = ask(&gateway, "alice", "sim:tokens=1").await;
    assert_eq!((refused.status, &*refused.code()), (429, "rate_limit_exceeded"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(refused.text().contains("tenant"), "{}", refused.text());
    // Others are not touched, until the limit of a model that all share.
    assert_eq!(ask(&gateway, "bob", "sim:tokens=1").await.status, 200);
    let mut served = 0;
    while ask(&gateway, "bob", "sim").await.status == 200 {
        served += 1;
    }
    assert_eq!(served, 8);
}

#[tokio::test]
async fn requests_that_come_together_do_not_slip_through() {
    let gateway = limited("[limits]\nrequests_per_minute = 20\n").await;
    let asked = (0..60).map(|_| ask(&gateway, "alice", "sim:tokens=1"));
    let statuses: Vec<_> =
        futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
}

#[tokio::test]
async fn tokens_are_paid_when_they_are_known() {
    let gateway = limited("[tenants.alice.limits]\ntokens_per_minute = 100\n").await;
    // The first answer may overdraw the account; the next has to wait until it is paid.
    assert_eq!(ask(&gateway, "alice", "sim:tokens=150").await.status, 200);
    let refused = ask(&gateway, "alice", "sim:tokens=1").await;
    assert_eq!((refused.status, &*refused.code()), (429, "rate_limit_exceeded"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    // 151 tokens and an estimate of the prompt against 100, at 100 a minute.
    assert!((30..=60).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-limit-tokens"), Some("100"));
}

#[tokio::test]
async fn whole_answers_are_paid_for_however_large_they_are() {
    let gateway = limited(
        "[tenants.alice.limits]\ntokens_per_minute = 100\n[tenants.bob.limits]\ntokens_per_minute = 100\n",
    )
    .await;
    for (tenant, model) in [("alice", "sim:tokens=150"), ("bob", "sim:tokens=150,size=2000")] {
        let whole = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let answer = open(&gateway, tenant, &whole).await.answer().await;
        assert!(answer.complete && answer.status == 200);
        let refused = ask(&gateway, tenant, "sim:tokens=1").await;
        assert_eq!(refused.status, 429, "{tenant}");
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((30..=60).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn who_is_turned_away_at_the_queue_has_used_nothing() {
    let pool = "[pools.p]\nupstreams = [\"s\"]\nconcurrency = 1\n[pools.p.queue]\nlength = 0\n[models.narrow]\npool = \"p\"\nname = \"sim:tokens=endless,tps=20\"\n\
                [tenants.alice.limits]\ntokens_per_minute = 1000\n";
    let gateway = limited(pool).await;
    let body = json!({"model": "narrow", "stream": true, "max_tokens": 1_000_000,
                      "messages": [{"role": "user", "content": "long ".repeat(600)}]});
    let mut plug = open(&gateway, "bob", &body).await;
    plug.until("data:").await;
    for _ in 0..10 {
        let refused = open(&gateway, "alice", &body).await.answer().await;
        assert_eq!((refused.status, &*refused.code()), (503, "queue_full"));
    }
    assert_eq!(ask(&gateway, "alice", "sim:tokens=1").await.status, 200);
}

#[tokio::test]
async fn a_place_is_free_when_its_stream_ends_however_it_ends() {
    let mut gateway = limited("[keys.alice.limits]\nconcurrent_streams = 2\n").await;
    let endless = json!({"model": "sim:tokens=endless,tps=100", "stream": true,
                         "messages": [{"role": "user", "content": "hi"}]});
    for _ in 0..3 {
        let mut one = open(&gateway, "alice", &endless).await;
        one.head().await;
        let two = open(&gateway, "alice", &endless).await;
        one.until("data:").await;
        let third = ask(&gateway, "alice", "sim:tokens=1").await;
        assert_eq!(third.status, 429, "{}", third.text());
        assert_eq!(gateway.access().await["cause"], "rejected");
        drop((one, two));
        assert_eq!(gateway.access().await["cause"], "client_gone");
        assert_eq!(gateway.access().await["cause"], "client_gone");
    }
    assert_eq!(ask(&gateway, "alice", "sim:tokens=1").await.status, 200);
}

#[tokio::test]
async fn answers_are_no_longer_than_allowed() {
    let gateway = limited("[tenants.alice.limits]\nmax_tokens = 7\n").await;
    let tokens = |answer: Answer| answer.text().matches("\"content\":\"").count() - 1;
    assert_eq!(tokens(ask(&gateway, "alice", "sim:tokens=50").await), 7);
    assert_eq!(tokens(ask(&gateway, "bob", "sim:tokens=50").await), 50);
}

#[tokio::test]
async fn answers_go_out_at_their_pace_and_the_model_waits() {
    let shape = "frames_per_second = 50\nshape = \"leaky-bucket\"\n";
    let mut gateway = limited(&format!("[tenants.alice.limits]\n{shape}")).await;
    let answer = ask(&gateway, "alice", "sim:tokens=20,size=20000").await;
    assert!(answer.text().contains("[DONE]"));
    let line = gateway.access().await;
    // Some twenty events at 20 ms each. Nothing here can be too slow, only too fast.
    assert!(line["total_ms"].as_f64().unwrap() >= 380.0, "{line}");
    assert!(line["paused_ms"].as_f64().unwrap() > 0.0, "the model waited: {line}");
}

#[tokio::test]
async fn a_stream_ends_with_its_key_at_the_next_frame() {
    let mut gateway = limited("").await;
    let endless = json!({"model": "sim:tokens=endless,tps=200", "stream": true,
                         "messages": [{"role": "user", "content": "hi"}]});
    let mut stays = open(&gateway, "bob", &endless).await;
    let mut goes = open(&gateway, "alice", &endless).await;
    goes.until("data:").await;
    stays.until("data:").await;
    let text = std::fs::read_to_string(gateway.file()).unwrap();
    let at = text.find("[keys.alice]").unwrap();
    let end = at + text[at..].find("[keys.bob]").unwrap();
    std::fs::write(gateway.file(), format!("{}{}", &text[..at], &text[end..])).unwrap();
    let rest = soon(goes.until("key_revoked")).await;
    assert!(!rest.contains("[DONE]"), "{rest}");
    assert_eq!(gateway.access().await["code"], "key_revoked");
    stays.until("data:").await;
    let refused = ask(&gateway, "alice", "sim:tokens=1").await;
    assert_eq!((refused.status, &*refused.code()), (401, "invalid_api_key"));
}

#[tokio::test]
async fn the_rest_of_an_answer_that_comes_after_its_key_is_gone_stays_here() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.lock().unwrap().take().unwrap();
        async move {
            conn.stream_head().await;
            conn.chunk(event("one").as_bytes()).await;
            let _ = gone.await;
            conn.chunk((event("rest") + "data: [DONE]\n\n").as_bytes()).await;
            conn.finish().await;
        }
    })
    .await;
    let config = |keys: &str| {
        let address = upstream.address;
        format!(
            "[auth]\n{keys}[upstreams.u]\nbase_url = \"http://{address}/v1\"\n[models.\"*\"]\nupstream = \"u\"\n"
        )
    };
    let mut gateway = Gateway::start(&config(&keys())).await;
    let mut client = open(&gateway, "alice", &chat("m")).await;
    client.until("one").await;
    let (_, bob) = keys().split_once("[keys.bob]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    std::fs::write(gateway.file(), config(&format!("[keys.bob]{bob}"))).unwrap();
    gateway.message("configuration is in force").await;
    go.send(()).unwrap();
    let rest = client.until("0\r\n\r\n").await;
    assert!(rest.contains("key_revoked") && !rest.contains("rest") && !rest.contains("[DONE]"), "{rest}");
}

#[tokio::test]
async fn polling_is_no_faster_than_the_stream_would_be() {
    let shape = "frames_per_second = 50\nshape = \"leaky-bucket\"\n";
    let mut gateway = limited(&format!("[tenants.alice.limits]\n{shape}")).await;
    let bearer = format!("Bearer {}", KEYS[0].1);
    let body = chat("sim:tokens=20").to_string();
    let mut client = Client::connect(gateway.address).await;
    let headers = [("authorization", &*bearer), ("prefer", "respond-async")];
    client.request("POST", "/v1/chat/completions", &headers, &body).await;
    let id = client.answer().await.json()["id"].as_str().unwrap().to_owned();
    // The generation has ended: all of it is there at once.
    while gateway.access().await["dialect"].is_null() {}
    client.request("GET", &format!("/v1/streams/{id}/poll?after=0"), &headers[..1], "").await;
    let polled = client.answer().await;
    assert!(polled.json()["events"].as_array().unwrap().len() >= 20, "{}", polled.text());
    let line = gateway.access().await;
    // Nothing here can be too slow, only too fast.
    assert!(line["total_ms"].as_f64().unwrap() >= 400.0, "{line}");
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused_with_their_line() {
    for (limits, key) in [
        ("[limits]\nrequests_per_minute = 0\n", "limits.requests_per_minute"),
        ("[limits]\ntokens_per_day = -1\n", "limits.tokens_per_day"),
        ("[tenants.x.limits]\nshape = \"square\"\n", "tenants.x.limits.shape"),
        ("[models.sim.limits]\nconcurrent_streams = \"many\"\n", "models.sim.limits.concurrent_streams"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flumen.toml");
        std::fs::write(&file, format!("{limits}{}", SIM.replace("[models.sim]\nupstream = \"s\"\n", "")))
            .unwrap();
        let mut command = crate::support::command(&["check", "--config", file.to_str().unwrap()]);
        let output = soon(command.output()).await.unwrap();
        assert_eq!(output.status.code(), Some(78), "{limits}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("flumen.toml:2: {key}")), "{said}");
    }
}
