//! Tokens of identity providers, and forgeries of them.

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

use crate::support::{Answer, Client, Gateway, Upstream};

pub(crate) const SIM: &str = "[upstreams.s]\nkind = \"sim\"\ntokens_per_second = 0\ntokens = 3\nfirst_token = \"1ms\"\n\
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

pub(crate) fn now() -> u64 {
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

pub(crate) async fn models(gateway: &Gateway, token: &str) -> Answer {
    get(gateway, "/v1/models", token).await
}

pub(crate) async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
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
