//! Who has a key gets what the key is for, and nobody else gets anything.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{Answer, Client, Gateway, chat, command, soon};

const ALICE: &str = "fl-alice-0123456789abcdef";
const BOB: &str = "fl-bob-0123456789abcdef";

const SIM: &str = "[upstreams.s]\nkind = \"sim\"\ntokens_per_second = 0\ntokens = 3\nfirst_token = \"1ms\"\n\
                   [models.\"gpt-4o\"]\nupstream = \"s\"\n[models.sim]\nupstream = \"s\"\n[models.\"x-*\"]\nupstream = \"s\"\n";

/// The lines for a key, as `flumen key new` prints them.
async fn lines(key: &str, tenant: &str, id: &str) -> String {
    let mut child = command(&["key", "new", "--tenant", tenant, "--id", id, "--from-stdin"]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{key}\n").as_bytes()).await.unwrap();
    let output = soon(child.wait_with_output()).await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(key));
    text
}

async fn two_tenants(more: &str) -> Gateway {
    let keys = lines(ALICE, "alice", "a1").await + &lines(BOB, "bob", "b1").await;
    Gateway::start(&format!("{more}{keys}{SIM}")).await
}

async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut client = Client::connect(gateway.address).await;
    client.request(method, path, headers, body).await;
    client.answer().await
}

async fn models(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    ask(gateway, "GET", "/v1/models", headers, "").await
}

async fn ask_model(gateway: &Gateway, key: &str, model: &str, more: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers: Vec<_> = [("authorization", &*bearer)].into_iter().chain(more.iter().copied()).collect();
    ask(gateway, "POST", "/v1/chat/completions", &headers, &chat(model).to_string()).await
}

#[tokio::test]
async fn a_key_opens_wherever_it_may_stand() {
    let gateway = two_tenants("").await;
    let bearer = format!("Bearer {ALICE}");
    for headers in [
        &[("authorization", &*bearer)][..],
        &[("authorization", &format!("bearer {ALICE}"))],
        &[("x-api-key", ALICE)],
        &[("x-api-key", ALICE), ("authorization", &bearer)],
    ] {
        assert_eq!(models(&gateway, headers).await.status, 200);
    }
    for headers in [
        &[][..],
        &[("authorization", "Bearer fl-wrong-0123456789abcdef")],
        &[("authorization", &format!("Bearer {ALICE}x"))],
        &[("authorization", &format!("Bearer {}", &ALICE[..ALICE.len() - 1]))],
        &[("authorization", &format!("Basic {ALICE}"))],
        &[("authorization", "Bearer")],
        &[("x-api-key", "eyJhbGciOiJub25lIn0.e30.")],
    ] {
        for path in ["/v1/models", "/v1/streams", "/metrics", "/v1/socket"] {
            let answer = ask(&gateway, "GET", path, headers, "").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "invalid_api_key"),
                "{path} {headers:?}"
            );
            assert_eq!(answer.json()["error"]["type"], "authentication_error");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/tokens"] {
            assert_eq!(ask(&gateway, "POST", path, headers, "{}").await.status, 401, "{path}");
        }
    }
    let both = models(&gateway, &[("x-api-key", BOB), ("authorization", &bearer)]).await;
    assert_eq!((both.status, both.code().as_str()), (400, "bad_request"));
    let in_address = ask(&gateway, "GET", &format!("/v1/models?token={ALICE}"), &[], "").await;
    assert_eq!(in_address.status, 401);
    for path in ["/", "/playground/app.js", "/healthz", "/readyz"] {
        assert_eq!(Client::get(gateway.address, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn tenants_do_not_see_each_others_streams() {
    let second = "fl-alice-second-0123456789";
    let more = lines(second, "alice", "a2").await;
    let gateway = two_tenants(&more).await;
    let answer = ask_model(&gateway, ALICE, "sim", &[("flumen-resume", "1")]).await;
    let id = answer.header("flumen-stream-id").unwrap().to_owned();
    let path = format!("/v1/streams/{id}");
    for (key, status, listed) in [(ALICE, 200, 1), (second, 200, 1), (BOB, 404, 0)] {
        let key = [("x-api-key", key)];
        assert_eq!(ask(&gateway, "GET", &path, &key, "").await.status, status);
        assert_eq!(ask(&gateway, "GET", &format!("{path}/poll?after=0"), &key, "").await.status, status);
        let list = ask(&gateway, "GET", "/v1/streams", &key, "").await;
        assert_eq!(list.json()["data"].as_array().unwrap().len(), listed);
    }
    assert_eq!(ask(&gateway, "DELETE", &path, &[("x-api-key", BOB)], "").await.status, 404);
    let last = format!("{id}.1-1");
    let resumed = ask_model(&gateway, BOB, "sim", &[("last-event-id", &last), ("flumen-resume", "1")]).await;
    assert_eq!(resumed.status, 404);
    assert_eq!(ask(&gateway, "DELETE", &path, &[("x-api-key", second)], "").await.status, 200);
}

#[tokio::test]
async fn keys_are_rotated_by_editing_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let (alice, bob) = (lines(ALICE, "alice", "a1").await, lines(BOB, "bob", "b1").await);
    std::fs::write(&file, alice.clone() + &bob).unwrap();
    let mut gateway = Gateway::start_in(folder, &format!("[auth]\nkeys_file = \"keys.toml\"\n{SIM}")).await;
    for key in [ALICE, BOB] {
        assert_eq!(models(&gateway, &[("x-api-key", key)]).await.status, 200);
    }
    let new = "fl-alice-new-0123456789abcdef";
    std::fs::write(&file, lines(new, "alice", "a2").await + &bob).unwrap();
    gateway.message("the new configuration is in force").await;
    for (key, status) in [(ALICE, 401), (new, 200), (BOB, 200)] {
        assert_eq!(models(&gateway, &[("x-api-key", key)]).await.status, status);
    }
    std::fs::write(&file, "[keys.a1]\nhash = \"oops\"\n").unwrap();
    gateway.message("refused, the old one stays in force").await;
    assert!(gateway.message("keys.a1.hash").await.contains("keys.toml:2"));
    assert_eq!(models(&gateway, &[("x-api-key", BOB)]).await.status, 200);
    std::fs::write(&file, "").unwrap();
    gateway.message("the new configuration is in force").await;
    assert_eq!(models(&gateway, &[("x-api-key", BOB)]).await.status, 401);
    assert_eq!(models(&gateway, &[]).await.status, 401, "without keys the door stays closed");
    let expired = alice + "expires = \"2020-01-01T00:00:00Z\"\n";
    std::fs::write(&file, expired).unwrap();
    gateway.message("the new configuration is in force").await;
    let answer = models(&gateway, &[("x-api-key", ALICE)]).await;
    assert_eq!((answer.status, answer.text().contains("expired")), (401, true));
}

#[tokio::test]
async fn a_key_asks_the_models_that_it_may() {
    let more = "[tenants.alice]\nmodels = [\"gpt-*\", \"x-1\"]\n";
    let gateway = two_tenants(more).await;
    let listed = |answer: Answer| {
        let list = answer.json();
        let names =
            list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed(models(&gateway, &[("x-api-key", ALICE)]).await), ["gpt-4o"]);
    assert_eq!(listed(models(&gateway, &[("x-api-key", BOB)]).await), ["gpt-4o", "sim"]);
    for (key, model, status) in [
        (ALICE, "gpt-4o", 200),
        (ALICE, "x-1", 200),
        (ALICE, "sim", 403),
        (ALICE, "nothing", 403),
        (BOB, "nothing", 404),
        (BOB, "sim", 200),
    ] {
        let answer = ask_model(&gateway, key, model, &[]).await;
        assert_eq!(answer.status, status, "{model}");
        let path = format!("/v1/models/{model}");
        assert_eq!(ask(&gateway, "GET", &path, &[("x-api-key", key)], "").await.status, status, "{model}");
        if status == 403 {
            let error = answer.json()["error"].clone();
            assert_eq!(
                (&error["code"], &error["type"]),
                (&json!("model_not_allowed"), &json!("permission_error"))
            );
        }
    }
}

#[tokio::test]
async fn a_page_uses_the_keys_that_allow_it() {
    let more = "[cors]\norigins = [\"https://all.example.com\"]\n[tenants.alice]\norigins = [\"https://a.example.com\"]\n";
    let gateway = two_tenants(more).await;
    for (key, origin, status) in [
        (ALICE, "https://a.example.com", 200),
        (ALICE, "https://all.example.com", 403),
        (ALICE, "https://evil.example.com", 403),
        (ALICE, "http://test", 403),
        (BOB, "https://a.example.com", 403),
        (BOB, "https://all.example.com", 200),
        (BOB, "http://test", 200),
        (BOB, "https://evil.example.com", 403),
    ] {
        let answer = models(&gateway, &[("x-api-key", key), ("origin", origin)]).await;
        assert_eq!(answer.status, status, "{key} {origin}");
        if status == 403 {
            assert_eq!(answer.code(), "origin_not_allowed");
        }
        let preflight = ask(
            &gateway,
            "OPTIONS",
            "/v1/models",
            &[("origin", origin), ("access-control-request-method", "GET")],
            "",
        )
        .await;
        let known = ["https://a.example.com", "https://all.example.com", "http://test"].contains(&origin);
        assert_eq!(preflight.status, if known { 200 } else { 403 }, "a preflight has no key");
    }
    let denied = models(&gateway, &[("origin", "https://a.example.com")]).await;
    assert_eq!(
        (denied.status, denied.header("access-control-allow-origin")),
        (401, Some("https://a.example.com"))
    );
}

#[tokio::test]
async fn an_address_that_others_reach_needs_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flumen.toml");
    let run = async |arguments: &[&str]| {
        let output = soon(command(arguments).output()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    std::fs::write(&file, "[server]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    for subcommand in ["check", "serve"] {
        let (code, said) = run(&[subcommand, "-c", file.to_str().unwrap()]).await;
        assert_eq!(code, Some(78));
        for part in
            ["flumen.toml:2: server.listen: 0.0.0.0:0", "flumen key new", "127.0.0.1", "auth.open = true"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let (code, said) = run(&["serve", "--listen", "[::]:0"]).await;
    assert_eq!(
        (code, said.contains("--listen: server.listen: [::]:0 can be reached")),
        (Some(78), true),
        "{said}"
    );
    for good in ["[auth]\nopen = true\n", &lines(ALICE, "alice", "a1").await] {
        std::fs::write(&file, format!("[server]\nlisten = \"0.0.0.0:0\"\n{good}")).unwrap();
        assert_eq!(run(&["check", "-c", file.to_str().unwrap()]).await.0, Some(0));
    }
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let mut gateway = two_tenants("[log]\nlevel = \"trace\"\n").await;
    let wrong = "fl-wrong-0123456789abcdef";
    let mut shown = String::new();
    for key in [ALICE, wrong] {
        for answer in [
            ask_model(&gateway, key, "sim", &[]).await,
            ask_model(&gateway, key, "no-such-model", &[]).await,
            models(&gateway, &[("x-api-key", key), ("authorization", "Bearer other")]).await,
            ask(&gateway, "GET", &format!("/v1/models?token={key}"), &[], "").await,
            models(&gateway, &[("authorization", key)]).await,
        ] {
            shown += &format!("{}{}{}\n", answer.head, answer.text(), gateway.access().await);
        }
    }
    let metrics = ask(&gateway, "GET", "/metrics", &[("x-api-key", ALICE)], "").await.text();
    shown += &metrics;
    gateway.signal("HUP").await;
    shown += &gateway.message("the new configuration is in force").await;
    let check = |file: &Path| command(&["check", "-c", file.to_str().unwrap()]).output();
    let output = soon(check(&gateway.file())).await.unwrap();
    shown += &String::from_utf8(output.stdout).unwrap();
    std::fs::write(
        gateway.file(),
        format!("[keys.{ALICE}]\nhash = \"{ALICE}\"\n[keys.x]\nhash = \"{ALICE}\"\nkey = \"{ALICE}\"\n"),
    )
    .unwrap();
    let output = soon(check(&gateway.file())).await.unwrap();
    assert_eq!(output.status.code(), Some(78));
    shown += &String::from_utf8(output.stderr).unwrap();
    gateway.signal("TERM").await;
    gateway.stopped().await;
    shown += &gateway.all_messages().await;
    for key in [ALICE, wrong] {
        assert!(!shown.contains(key), "{shown}");
    }
    for line in [
        "flumen_tenant_requests_total{tenant=\"alice\",cause=\"complete\"} 1",
        "flumen_tenant_requests_total{tenant=\"alice\",cause=\"rejected\"} 1",
        "flumen_turned_away_total{code=\"invalid_api_key\"} 6",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in:\n{metrics}");
    }
    assert!(
        metrics.contains("flumen_tenant_tokens_total{tenant=\"alice\",kind=\"completion\"} 3"),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_access_log_names_tenant_and_key() {
    let mut gateway = two_tenants("").await;
    ask_model(&gateway, ALICE, "sim", &[]).await;
    let line = gateway.access().await;
    assert_eq!((&line["tenant"], &line["key"]), (&json!("alice"), &json!("a1")));
    models(&gateway, &[]).await;
    let line = gateway.access().await;
    assert_eq!((&line["tenant"], &line["code"]), (&Value::Null, &json!("invalid_api_key")));
}

#[tokio::test]
async fn a_new_key_works_as_it_is_printed() {
    let output =
        soon(command(&["key", "new", "--tenant", "t", "--expires", "2099-01-01T00:00:00Z"]).output())
            .await
            .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (key, toml) = text.split_once('\n').unwrap();
    assert!(key.starts_with("fl-") && key.len() == 46 && !toml.contains(key));
    let gateway = Gateway::start(toml).await;
    assert_eq!(models(&gateway, &[("x-api-key", key)]).await.status, 200);
    for bad in [&["--tenant", "a b"][..], &["--tenant", "t", "--expires", "soon"], &[]] {
        let arguments: Vec<_> = ["key", "new"].iter().chain(bad).copied().collect();
        assert!(!soon(command(&arguments).output()).await.unwrap().status.success());
    }
}
