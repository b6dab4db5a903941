//! What operators see and say on their own listener.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, chat, post};

const POOLS: &str = "[upstreams.a]\nkind = \"sim\"\n[upstreams.b]\nkind = \"sim\"\n\
    [pools.p]\nupstreams = [\"a\", \"b\"]\nconcurrency = 1\n[models.\"*\"]\npool = \"p\"\n";

/// A gateway, and where its operators are listened to.
async fn start(more: &str) -> (Gateway, SocketAddr) {
    let config = format!("[admin]\nlisten = \"127.0.0.1:0\"\n{more}{POOLS}");
    let gateway = Gateway::start(&config).await;
    let address = gateway.admin().expect("it says where operators are listened to");
    (gateway, address)
}

async fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    ask_with(admin, method, path, &[("host", "localhost:9191")], body).await
}

async fn ask_with(
    admin: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut client = Client::connect(admin).await;
    client.request(method, path, headers, body).await;
    client.answer().await
}

/// Asks until what is shown is as it should be.
async fn until(admin: SocketAddr, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    crate::support::soon(async {
        loop {
            let shown = ask(admin, "GET", path, "").await.json();
            if is(&shown) {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn what_waits_and_runs_is_shown_and_can_be_stopped() {
    let (mut gateway, admin) = start("").await;
    let endless = chat("sim:tokens=endless,ttft=1ms");
    let (mut first, _) = Client::open(gateway.address, &endless).await;
    first.until("\"content\":\"").await;
    let mut second = Client::connect(gateway.address).await;
    second.post("/v1/chat/completions", &endless.to_string()).await;

    let shown = until(admin, "/admin/overview", |shown| shown["streams"]["queued"] == 1).await;
    assert_eq!(shown["streams"], json!({"queued": 1, "waiting": 0, "streaming": 1}));
    let streams = ask(admin, "GET", "/admin/streams", "").await.json();
    let [one, two] = &streams["data"].as_array().unwrap()[..] else { panic!("{streams}") };
    assert_eq!((&one["state"], &two["state"]), (&json!("streaming"), &json!("queued")));
    assert_eq!(
        (&one["tenant"], &one["pool"], &two["position"]),
        (&json!("anonymous"), &json!("p"), &json!(0))
    );
    assert!(one["tokens"].as_u64().unwrap() > 0 && one["first_token_ms"].is_number());
    let pools = ask(admin, "GET", "/admin/pools", "").await.json();
    assert_eq!((&pools["data"][0]["running"], &pools["data"][0]["waiting"]), (&json!(1), &json!(1)));
    let tenants = ask(admin, "GET", "/admin/tenants", "").await.json();
    assert_eq!(tenants["data"][0]["tenant"], "anonymous");

    let path = format!("/admin/streams/{}", one["id"].as_str().unwrap());
    assert_eq!(ask(admin, "GET", &path, "").await.status, 200);
    assert_eq!(ask(admin, "DELETE", &path, "").await.status, 204);
    let rest = first.until("[DONE]").await;
    assert!(rest.contains("\"finish_reason\":\"stopped\""), "{rest}");
    assert_eq!(gateway.access().await["cause"], "stopped");
    assert_eq!(ask(admin, "DELETE", &path, "").await.status, 404);

    let mut third = Client::connect(gateway.address).await;
    third.post("/v1/chat/completions", &endless.to_string()).await;
    let queued = until(admin, "/admin/streams", |shown| shown["data"][1]["state"] == "queued").await;
    let path = format!("/admin/streams/{}", queued["data"][1]["id"].as_str().unwrap());
    ask(admin, "DELETE", &path, "").await;
    let refused = third.answer().await;
    assert_eq!((refused.status, &*refused.code()), (403, "stopped"));
    assert_eq!(gateway.access().await["cause"], "stopped");

    second.head().await;
    let queued = until(admin, "/admin/streams", |shown| shown["data"][0]["state"] == "streaming").await;
    let path = format!("/admin/streams/{}", queued["data"][0]["id"].as_str().unwrap());
    ask(admin, "DELETE", &path, "").await;
    second.until("[DONE]").await;
    assert_eq!(gateway.access().await["cause"], "stopped");
}

#[tokio::test]
async fn upstreams_are_drained_and_their_breakers_held() {
    let (gateway, admin) = start("").await;
    let state = |shown: &Value, name: &str| {
        let upstreams = shown["data"][0]["upstreams"].as_array().unwrap().clone();
        upstreams.into_iter().find(|upstream| upstream["name"] == name).unwrap()["state"].clone()
    };
    let drained = ask(admin, "POST", "/admin/upstreams/a/drain", "").await;
    assert_eq!((drained.status, &drained.json()["state"]), (200, &json!("draining")));
    for _ in 0..4 {
        post(gateway.address, "/v1/chat/completions", &chat("sim:tokens=1,ttft=1ms")).await;
    }
    let pools = ask(admin, "GET", "/admin/pools", "").await.json();
    assert_eq!(pools["data"][0]["upstreams"][0]["requests"], 0, "{pools}");
    assert_eq!(pools["data"][0]["upstreams"][1]["requests"], 4);

    let opened = ask(admin, "POST", "/admin/upstreams/b/open", "").await.json();
    assert_eq!((&opened["breaker"], &opened["state"]), (&json!("open"), &json!("broken")));
    let refused = post(gateway.address, "/v1/chat/completions", &chat("sim")).await;
    assert_eq!((refused.status, &*refused.code()), (503, "no_upstream"));
    assert!(refused.header("retry-after").is_some());
    ask(admin, "POST", "/admin/upstreams/b/close", "").await;
    ask(admin, "POST", "/admin/upstreams/a/undrain", "").await;
    let pools = ask(admin, "GET", "/admin/pools", "").await.json();
    assert_eq!((state(&pools, "a"), state(&pools, "b")), (json!("up"), json!("up")));
    assert_eq!(ask(admin, "POST", "/admin/upstreams/x/drain", "").await.status, 404);
    assert_eq!(ask(admin, "POST", "/admin/upstreams/a/paint", "").await.status, 404);
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets_and_read_again() {
    let more = "[upstreams.c]\nbase_url = \"http://127.0.0.1:1/v1\"\nkey_env = \"TEST_KEY\"\n\
                headers = { x-secret = \"sk-very-secret-too\" }\n";
    let (gateway, admin) = start(more).await;
    let shown = ask(admin, "GET", "/admin/config", "").await;
    assert!(!shown.text().contains("sk-very-secret"), "{}", shown.text());
    let shown = shown.json();
    assert_eq!(shown["upstreams"]["c"]["headers"]["x-secret"], "***");
    assert_eq!((&shown["pools"]["p"]["concurrency"], &shown["timeouts"]["idle"]), (&json!(1), &json!("30s")));

    let text = std::fs::read_to_string(gateway.file()).unwrap();
    std::fs::write(gateway.file(), text.replace("concurrency = 1", "concurrency = 2")).unwrap();
    let reloaded = ask(admin, "POST", "/admin/reload", "").await;
    assert_eq!((reloaded.status, reloaded.json()), (200, json!({"needs_restart": []})));
    assert_eq!(ask(admin, "GET", "/admin/config", "").await.json()["pools"]["p"]["concurrency"], 2);
    assert_eq!(ask(admin, "GET", "/admin/pools", "").await.json()["data"][0]["slots"], 2);
    std::fs::write(gateway.file(), text.replace("concurrency = 1", "concurrency = 0")).unwrap();
    let refused = ask(admin, "POST", "/admin/reload", "").await;
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("pools.p.concurrency"), "{}", refused.text());
    assert_eq!(ask(admin, "GET", "/admin/pools", "").await.json()["data"][0]["slots"], 2);
}

#[tokio::test]
async fn the_log_says_more_or_less_at_once() {
    let (mut gateway, admin) = start("").await;
    let quiet = ask(admin, "PUT", "/admin/log", "{\"level\":\"error\"}").await;
    assert_eq!((quiet.status, quiet.json()), (200, json!({"level": "error"})));
    ask(admin, "POST", "/admin/upstreams/a/drain", "").await;
    ask(admin, "PUT", "/admin/log", "{\"level\":\"info\"}").await;
    ask(admin, "POST", "/admin/upstreams/a/undrain", "").await;
    let said = gateway.message("the operator told").await;
    assert!(said.contains("undrain"), "{said}");
    for wrong in ["", "{}", "{\"level\":\"loud\"}", "[1]"] {
        assert_eq!(ask(admin, "PUT", "/admin/log", wrong).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn operators_are_no_web_pages_and_know_the_token() {
    let (gateway, admin) = start("token_env = \"TEST_KEY\"\n").await;
    let right = ("authorization", "Bearer sk-very-secret");
    assert_eq!(ask_with(admin, "GET", "/admin/overview", &[right], "").await.status, 200);
    for wrong in
        [&[][..], &[("authorization", "Bearer sk-very-secreT")], &[("authorization", "sk-very-secret")]]
    {
        let answer = ask_with(admin, "GET", "/admin/overview", wrong, "").await;
        assert_eq!((answer.status, &*answer.code()), (401, "invalid_admin_token"));
    }
    let page = ask_with(admin, "GET", "/admin/overview", &[right, ("origin", "http://127.0.0.1")], "").await;
    assert_eq!((page.status, &*page.code()), (403, "origin_not_allowed"));
    let metrics = ask_with(admin, "GET", "/metrics", &[right], "").await;
    assert!(metrics.text().contains("flumen_pool_slots"));
    // Without a token, a name that a page's owner points here is not enough.
    let (_open, admin) = start("").await;
    for (host, status) in
        [("127.0.0.1:9191", 200), ("[::1]:9191", 200), ("evil.example:9191", 403), ("", 403)]
    {
        let answer = ask_with(admin, "GET", "/admin/overview", &[("host", host)], "").await;
        assert_eq!(answer.status, status, "{host:?}");
    }
    // The public listener knows nothing of it.
    assert_eq!(Client::get(gateway.address, "/admin/overview").await.status, 404);
}
