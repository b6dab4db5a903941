//! Tokens: those of identity providers, and those that the gateway signs itself for pages.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::SystemTime,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Upstream, chat, command, soon};

const SIM: &str = "[upstreams.s]\nkind = \"sim\"\ntokens_per_second = 0\ntokens = 3\nfirst_token = \"1ms\"\n\
                   [models.\"gpt-4o\"]\nupstream = \"s\"\n[models.sim]\nupstream = \"s\"\n";

/// A key pair of an identity provider.
struct Signer {
    algorithm: Algorithm,
    kid: String,
    pair: KeyPair,
}

impl Signer {
    fn new(algorithm: Algorithm, kid: &str) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            _ => &rcgen::PKCS_RSA_SHA256,
        };
        Self { algorithm, kid: kid.to_owned(), pair: KeyPair::generate_for(kind).unwrap() }
    }

    fn key(&self) -> EncodingKey {
        let pem = self.pair.serialize_pem();
        match self.algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .unwrap()
    }

    fn jwk(&self) -> Value {
        let mut jwk = if self.algorithm == Algorithm::EdDSA {
            json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.pair.public_key_raw())})
        } else {
            let jwk = Jwk::from_encoding_key(&self.key(), self.algorithm).unwrap();
            serde_json::to_value(jwk).unwrap()
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.algorithm, Some(&self.kid), claims)
    }

    fn sign_as(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, claims, &self.key()).unwrap()
    }
}

fn set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"iss": "https://id.example.com/", "aud": "flumen", "sub": "acme", "exp": now() + 600, "iat": now()})
}

/// The claims with one of them changed; null takes it away.
fn with(name: &str, value: &Value) -> Value {
    let mut claims = claims();
    claims[name] = value.clone();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    }
    claims
}

const ISSUER: &str = "[auth.issuers.corporate]\nissuer = \"https://id.example.com/\"\naudience = [\"flumen\", \"other-name\"]\n";

async fn with_file(signers: &[&Signer], more: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwks.json"), set(signers)).unwrap();
    Gateway::start_in(folder, &format!("{ISSUER}jwks_file = \"jwks.json\"\n{more}{SIM}")).await
}

async fn get(gateway: &Gateway, path: &str, token: &str) -> Answer {
    let mut client = Client::connect(gateway.address).await;
    client.request("GET", path, &[("authorization", &format!("Bearer {token}"))], "").await;
    client.answer().await
}

async fn models(gateway: &Gateway, token: &str) -> Answer {
    get(gateway, "/v1/models", token).await
}

async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut client = Client::connect(gateway.address).await;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.request("POST", path, headers, &body).await;
    client.answer().await
}

#[tokio::test]
async fn tokens_of_an_issuer_stand_for_its_tenants() {
    let signers = [
        Signer::new(Algorithm::RS256, "r"),
        Signer::new(Algorithm::ES256, "e"),
        Signer::new(Algorithm::EdDSA, "d"),
    ];
    let more = "[tenants.acme]\nmodels = [\"sim\"]\n";
    let mut gateway = with_file(&signers.each_ref(), more).await;
    for signer in &signers {
        let token = signer.sign(&claims());
        let answer = models(&gateway, &token).await;
        assert_eq!(answer.status, 200, "{:?}: {}", signer.algorithm, answer.text());
        assert!(!answer.text().contains("gpt-4o"), "the tenant's permissions hold");
        let line = gateway.access().await;
        assert_eq!((&line["tenant"], &line["key"]), (&json!("acme"), &Value::Null));
        assert!(!line.to_string().contains(&token));
        let by_address = Client::get(gateway.address, &format!("/v1/models?token={token}")).await;
        assert_eq!(by_address.status, 200);
        assert!(!gateway.access().await.to_string().contains("eyJ"));
        // The only key that can have signed it needs no name.
        assert_eq!(models(&gateway, &signer.sign_as(signer.algorithm, None, &claims())).await.status, 200);
        gateway.access().await;
    }
    let for_both = with("aud", &json!(["x", "other-name"]));
    assert_eq!(models(&gateway, &signers[0].sign(&for_both)).await.status, 200);
    let other = signers[0].sign(&with("sub", &json!("somebody")));
    assert!(models(&gateway, &other).await.text().contains("gpt-4o"));
    let started =
        post(&gateway, "/v1/tokens", &[("authorization", &format!("Bearer {other}"))], &Value::Null).await;
    assert_eq!((started.status, started.code().as_str()), (403, "key_needed"));
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (good, other) = (Signer::new(Algorithm::RS256, "r"), Signer::new(Algorithm::RS256, "other"));
    let (curve, rsa384) = (Signer::new(Algorithm::ES256, "e"), Algorithm::RS384);
    // With a secret of its own, so that tokens signed with one are looked at.
    let secret = "[auth.tokens]\nsecret_file = \"jwks.json\"\n";
    let mut gateway = with_file(&[&good, &curve], secret).await;
    let token = good.sign(&claims());
    assert_eq!(models(&gateway, &token).await.status, 200);
    let parts: Vec<&str> = token.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    let encoded = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let by_secret = |secret: &[u8], claims: &Value| {
        let header = Header { kid: Some("r".to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let public = good.pair.public_key_pem();
    let modulus = good.jwk()["n"].as_str().unwrap().to_owned();
    let none = encoded(&json!({"alg": "none", "kid": "r"}));
    let mut cases = vec![
        ("alg none", format!("{none}.{body}.")),
        ("alg none, signed", format!("{none}.{body}.{signature}")),
        ("alg None", format!("{}.{body}.", encoded(&json!({"alg": "None"})))),
        ("no alg", format!("{}.{body}.{signature}", encoded(&json!({"kid": "r"})))),
        ("signed with the public key as a secret", by_secret(public.as_bytes(), &claims())),
        ("signed with the modulus as a secret", by_secret(modulus.as_bytes(), &claims())),
        ("another's key under this name", other.sign_as(Algorithm::RS256, Some("r"), &claims())),
        ("a key of another kind under this name", curve.sign_as(Algorithm::ES256, Some("r"), &claims())),
        ("an unknown key", other.sign(&claims())),
        ("no name of a key, another's signature", other.sign_as(Algorithm::RS256, None, &claims())),
        ("an algorithm that is not allowed", good.sign_as(rsa384, Some("r"), &claims())),
        ("other claims", format!("{head}.{}.{signature}", encoded(&with("sub", &json!("admin"))))),
        ("no signature", format!("{head}.{body}.")),
        ("no claims", format!("{head}..{signature}")),
        ("its own header's key", {
            let header =
                Header { jwk: serde_json::from_value(other.jwk()).ok(), ..Header::new(Algorithm::RS256) };
            encode(&header, &claims(), &other.key()).unwrap()
        }),
        // Whoever knows the secret of tokens for pages could sign one, but not in the name of the issuer.
        ("another's name, signed with the secret", by_secret(set(&[&good, &curve]).as_bytes(), &claims())),
    ];
    for (name, value) in [
        ("exp", json!(now() - 3600)),
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("nbf", json!(now() + 3600)),
        ("iss", json!("https://evil.example.com/")),
        ("iss", json!("https://id.example.com")),
        ("iss", Value::Null),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!("a b\nc")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(129))),
    ] {
        cases.push((name, good.sign(&with(name, &value))));
    }
    while !gateway.access().await["path"].is_string() {}
    for (what, token) in cases {
        let answer = models(&gateway, &token).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "invalid_api_key"),
            "{what}: {}",
            answer.text()
        );
        let shown = format!("{}{}", answer.text(), gateway.access().await);
        assert!(!shown.contains(&token), "{what}");
    }
}

#[tokio::test]
async fn keys_of_an_issuer_are_fetched_and_fetched_again_when_a_new_one_appears() {
    let old = Signer::new(Algorithm::ES256, "old");
    let new = Signer::new(Algorithm::ES256, "new");
    let newest = Signer::new(Algorithm::ES256, "newest");
    let served = Arc::new(Mutex::new(set(&[&old])));
    let serving = Arc::clone(&served);
    let provider = Upstream::start(move |mut conn| {
        let body = serving.lock().unwrap().clone();
        async move { conn.json_answer("200 OK", "connection: close\r\n", &body).await }
    })
    .await;
    let config = format!("{ISSUER}jwks_url = \"http://{}/keys?a=b\"\n{SIM}", provider.address);
    let gateway = Gateway::start(&config).await;
    assert_eq!(models(&gateway, &old.sign(&claims())).await.status, 200);
    let fetched = provider.accepted();
    *served.lock().unwrap() = set(&[&old, &new]);
    assert_eq!(models(&gateway, &new.sign(&claims())).await.status, 200);
    assert_eq!(models(&gateway, &old.sign(&claims())).await.status, 200);
    assert_eq!(provider.accepted(), fetched + 1);
    // Unknown keys must not make the gateway hammer the provider.
    *served.lock().unwrap() = set(&[&newest]);
    for _ in 0..20 {
        assert_eq!(models(&gateway, &newest.sign(&claims())).await.status, 401);
    }
    assert_eq!(provider.accepted(), fetched + 1);
    assert_eq!(models(&gateway, &old.sign(&claims())).await.status, 200);
}

#[tokio::test]
async fn while_an_issuers_keys_are_missing_its_tokens_have_to_wait() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let healthy = Arc::new(AtomicBool::new(false));
    let (state, body) = (Arc::clone(&healthy), set(&[&signer]));
    let provider = Upstream::start(move |mut conn| {
        let (healthy, body) = (state.load(SeqCst), body.clone());
        async move {
            let (status, body) = if healthy { ("200 OK", body) } else { ("500 Oops", "{}".to_owned()) };
            conn.json_answer(status, "connection: close\r\n", &body).await;
        }
    })
    .await;
    let config = format!("{ISSUER}jwks_url = \"http://{}/keys\"\n{SIM}", provider.address);
    let mut gateway = Gateway::start(&config).await;
    gateway.message("cannot be fetched").await;
    let answer = models(&gateway, &signer.sign(&claims())).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "issuer_unavailable"));
    assert!(answer.header("retry-after").is_some());
    let unknown = models(&gateway, &signer.sign(&with("iss", &json!("x")))).await;
    assert_eq!(unknown.status, 401);
    healthy.store(true, SeqCst);
    // Taken over with the next configuration at the latest.
    std::fs::write(
        gateway.file(),
        format!("{config}\n[tenants.acme]\nmodels = \"sim\"\n").replace("/keys", "/keys2"),
    )
    .unwrap();
    gateway.message("the new configuration is in force").await;
    let answer = models(&gateway, &signer.sign(&claims())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

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
