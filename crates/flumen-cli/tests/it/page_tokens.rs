//! Tokens that the gateway signs itself, for pages.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::{
    support::{Answer, Client, Gateway, chat, command, soon},
    tokens::{SIM, models, now, post},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "fl-the-key-0123456789abcdef";

/// A gateway that signs tokens, with a key that may ask `gpt-*` and `sim`.
async fn signing() -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    Gateway::start_in(folder, &own(&hash())).await
}

fn hash() -> String {
    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_flumen"))
        .args(["key", "new", "--tenant", "acme", "--id", "k", "--from-stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(KEY.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn own(keys: &str) -> String {
    format!("[auth.tokens]\nsecret_file = \"secret\"\nlongest = \"10m\"\n{keys}{SIM}")
}

async fn mint(gateway: &Gateway, body: Value) -> Answer {
    post(gateway, "/v1/tokens", &[("x-api-key", KEY)], &body).await
}

fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_asks_for_tokens_that_may_no_more_than_itself() {
    let keys = hash()
        + "models = [\"gpt-*\", \"sim\"]\norigins = [\"https://a.example.com\", \"https://b.example.com\"]\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let mut gateway = Gateway::start_in(folder, &own(&keys)).await;
    let plain = mint(&gateway, Value::Null).await;
    assert_eq!(plain.header("cache-control"), Some("no-store"));
    let expires = plain.json()["expires"].as_u64().unwrap();
    assert!((now() + 295..=now() + 300).contains(&expires), "five minutes");
    let plain = token_of(&plain);
    gateway.access().await;
    assert_eq!(Client::get(gateway.address, &format!("/v1/models?token={plain}")).await.status, 200);
    let line = gateway.access().await;
    assert_eq!((&line["tenant"], &line["key"]), (&json!("acme"), &json!("k")));
    assert!(!line.to_string().contains(&plain));

    let narrow = json!({"lives": "1m", "models": ["gpt-4*"], "origin": "https://a.example.com"});
    let narrow = token_of(&mint(&gateway, narrow).await);
    let bearer = format!("Bearer {narrow}");
    for (model, origin, status) in [
        ("gpt-4o", None, 200),
        ("sim", None, 403),
        ("gpt-4o", Some("https://a.example.com"), 200),
        ("gpt-4o", Some("https://b.example.com"), 403),
    ] {
        let mut headers = vec![("authorization", &*bearer)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = post(&gateway, "/v1/chat/completions", &headers, &chat(model)).await;
        assert_eq!(answer.status, status, "{model} {origin:?}");
    }
    for (asked, status, code) in [
        (json!({"models": ["*"]}), 403, "model_not_allowed"),
        (json!({"models": ["gpt*"]}), 403, "model_not_allowed"),
        (json!({"origin": "https://c.example.com"}), 403, "origin_not_allowed"),
        (json!({"origin": "*"}), 400, "bad_request"),
        (json!({"lives": "11m"}), 400, "bad_request"),
        (json!({"lives": "soon"}), 400, "bad_request"),
        (json!({"lives": "0s"}), 400, "bad_request"),
        (json!({"live": "1m"}), 400, "bad_request"),
        (json!([1]), 400, "bad_request"),
    ] {
        let answer = mint(&gateway, asked.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{asked}");
    }
    let again = post(&gateway, "/v1/tokens", &[("authorization", &bearer)], &Value::Null).await;
    assert_eq!((again.status, again.code().as_str()), (403, "key_needed"));
    let metrics = Client::get(gateway.address, &format!("/metrics?token={plain}")).await;
    assert_eq!((metrics.status, metrics.code().as_str()), (403, "key_needed"), "they tell of all tenants");
}

#[tokio::test]
async fn an_event_source_reads_its_tenants_stream_by_a_token_in_the_address() {
    let gateway = signing().await;
    let begun =
        post(&gateway, "/v1/chat/completions", &[("x-api-key", KEY), ("flumen-resume", "1")], &chat("sim"))
            .await;
    let id = begun.header("flumen-stream-id").unwrap().to_owned();
    let token = token_of(&mint(&gateway, Value::Null).await);
    let file = gateway.file();
    let arguments = ["token", "-c", file.to_str().unwrap(), "--tenant", "other"];
    let other = soon(command(&arguments).output()).await.unwrap().stdout;
    let other = String::from_utf8(other).unwrap();
    for (path, token, status) in [
        (format!("/v1/streams/{id}"), &*token, 200),
        (format!("/v1/streams/{id}/poll"), &token, 200),
        ("/v1/streams".to_owned(), &token, 200),
        (format!("/v1/streams/{id}"), other.trim(), 404),
        (format!("/v1/streams/{id}/poll"), other.trim(), 404),
        (format!("/v1/streams/{id}"), KEY, 401),
    ] {
        let answer = Client::get(gateway.address, &format!("{path}?starting_after=0&token={token}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_token_ends_with_its_key() {
    let mut gateway = signing().await;
    let token = token_of(&mint(&gateway, Value::Null).await);
    assert_eq!(models(&gateway, &token).await.status, 200);
    let another = hash();
    let another = another.lines().map(|line| match line.strip_prefix("hash = ") {
        Some(_) => format!("hash = \"blake3:{}\"\n", "0f".repeat(32)),
        None => format!("{line}\n"),
    });
    for keys in [String::new(), another.collect()] {
        std::fs::write(gateway.file(), own(&keys)).unwrap();
        gateway.message("the new configuration is in force").await;
        let answer = models(&gateway, &token).await;
        assert_eq!(
            (answer.status, answer.text().contains("behind this token")),
            (401, true),
            "{}",
            answer.text()
        );
    }
    std::fs::write(gateway.file(), own(&hash())).unwrap();
    gateway.message("the new configuration is in force").await;
    assert_eq!(models(&gateway, &token).await.status, 200, "the same key again");
    std::fs::write(gateway.folder.path().join("secret"), "another-secret-0123456789abcdef-").unwrap();
    gateway.message("the new configuration is in force").await;
    assert_eq!(models(&gateway, &token).await.status, 401);
}

#[tokio::test]
async fn the_command_line_signs_tokens_for_a_tenant() {
    let mut gateway = signing().await;
    let file = gateway.file();
    let file = file.to_str().unwrap();
    let sign = async |more: &[&str]| {
        let arguments: Vec<_> =
            ["token", "-c", file, "--tenant", "web"].iter().chain(more).copied().collect();
        let output = soon(command(&arguments).output()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned(), output.stderr)
    };
    let (code, token, _) = sign(&["--lives", "1m", "--model", "sim"]).await;
    assert_eq!(code, Some(0));
    let answer = models(&gateway, &token).await;
    assert!(answer.status == 200 && !answer.text().contains("gpt-4o"), "{}", answer.text());
    assert_eq!(gateway.access().await["tenant"], "web");
    let (code, _, said) = sign(&["--lives", "11m"]).await;
    assert_eq!((code, String::from_utf8_lossy(&said).contains("at most 10m")), (Some(1), true));
    assert_eq!(sign(&["--origin", "nowhere"]).await.0, Some(1));
    for (claims, secret) in [
        // A token that lives longer than tokens may, with the right secret.
        (
            json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "web", "iat": now(), "exp": now() + 3600}),
            SECRET,
        ),
        (
            json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "web", "iat": now() + 3500, "exp": now() + 3600}),
            SECRET,
        ),
        (
            json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "web", "iat": now() - 90, "exp": now() - 30}),
            SECRET,
        ),
        (
            json!({"iss": "other", "aud": "flumen-gateway", "tenant": "web", "iat": now(), "exp": now() + 60}),
            SECRET,
        ),
        (
            json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "", "iat": now(), "exp": now() + 60}),
            SECRET,
        ),
        (
            json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "web", "key": "k", "iat": now(), "exp": now() + 60}),
            SECRET,
        ),
        (
            json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "web", "iat": now(), "exp": now() + 60}),
            "wrong-secret",
        ),
    ] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(models(&gateway, &token).await.status, 401, "{claims}");
    }
    let good =
        json!({"iss": "flumen", "aud": "flumen-gateway", "tenant": "web", "iat": now(), "exp": now() + 60});
    for (algorithm, status) in [(Algorithm::HS256, 200), (Algorithm::HS512, 401)] {
        let token =
            encode(&Header::new(algorithm), &good, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert_eq!(models(&gateway, &token).await.status, status, "{algorithm:?}");
    }
}
