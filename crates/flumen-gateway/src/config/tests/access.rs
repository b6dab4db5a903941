//! Keys, tenants, tokens, issuers and limits.

use super::*;

const HASH: &str = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

#[test]
fn keys_and_tenants_are_read() {
    let text = format!(
        "[limits]\nconcurrent_streams = 9\n[tenants.acme]\nweight = 2\npriority = \"interactive\"\nmodels = \"gpt-*\"\n\
         [tenants.acme.limits]\ntokens_per_day = 5\nbytes_per_second = \"1KiB\"\nshape = \"leaky-bucket\"\n\
         [keys.k1]\nhash = \"{HASH}\"\ntenant = \"acme\"\nexpires = 2027-01-01T00:00:00Z\nlimits = {{ requests_per_second = 1 }}\n\
         {MINIMAL}limits = {{ requests_per_minute = 7 }}\n"
    );
    let config = parse_with(&text, &[]).unwrap();
    let acme = &config.tenants["acme"];
    assert_eq!((acme.weight, acme.priority), (2.0, Priority::Interactive));
    assert_eq!(acme.models.as_deref(), Some(&["gpt-*".to_owned()][..]));
    assert_eq!((acme.limits.tokens_per_day, acme.limits.bytes_per_second), (Some(5), Some(1024)));
    assert_eq!((acme.limits.shape, acme.origins.is_none()), (Shape::LeakyBucket, true));
    let key = &config.keys["k1"];
    assert_eq!((key.hash, key.hash.to_string()), (KeyHash::of(""), HASH.to_owned()));
    assert_eq!(key.expires, Some(humantime::parse_rfc3339("2027-01-01T00:00:00Z").unwrap()));
    assert_eq!(key.limits.requests_per_second, Some(1));
    assert_eq!(config.limits.concurrent_streams, Some(9));
    assert_eq!(config.models["*"].limits.requests_per_minute, Some(7));
    assert!(!format!("{config:?}").contains("af1349"));
}

#[test]
fn names_of_models_may_have_any_letters() {
    let config = parse_with("[tenants.a]\nmodels = [\"modèle-é\", \"é*\", \"*\"]\n", &[]).unwrap();
    assert_eq!(config.tenants["a"].models.as_ref().map(Vec::len), Some(3));
}

#[test]
fn malformed_keys_and_limits_are_refused_with_their_line() {
    for (text, fault) in [
        ("[keys.a]\nhash = \"fl-secret\"\ntenant = \"t\"", ":2: keys.a.hash: is not the digest of a key"),
        ("[keys.a]\ntenant = \"t\"", ":1: keys.a.hash: a key needs its digest"),
        ("[keys.a]\nhash = \"HASH\"", ":1: keys.a.tenant: a key needs a tenant"),
        ("[keys.a]\nhash = \"HASH\"\ntenant = \"a b\"", ":3: keys.a.tenant: a tenant's name has"),
        (
            "[keys.a]\nhash = \"HASH\"\ntenant = \"t\"\nexpires = \"soon\"",
            ":4: keys.a.expires: \"soon\" is not a moment",
        ),
        ("[keys.a]\nhash = \"HASH\"\ntenant = \"t\"\nexpires = 2027-01-01", ":4: keys.a.expires"),
        (
            "[keys.a]\nhash = \"HASH\"\ntenant = \"t\"\n[keys.b]\nhash = \"HASH\"\ntenant = \"t\"",
            ":4: keys.b: `b` is the same key as `a`",
        ),
        ("[keys.a]\nhash = \"HASH\"\ntenant = \"t\"\nkey = \"fl-secret\"", ":4: keys.a.key: unknown key"),
        (
            "[keys.fl-secret-secret-secret]\nhash = \"HASH\"\ntenant = \"t\"",
            ":1: keys: the name of a key is none",
        ),
        ("[tenants.\"a\\n\"]", ":1: tenants: `a\\n`: a tenant's name has"),
        ("[tenants.a]\nweight = 0", ":2: tenants.a.weight: 0 is not between"),
        ("[tenants.a]\nmodels = [\"a*b\"]", ":2: tenants.a.models: `a*b` names no model"),
        ("[tenants.a]\norigins = [\"x.com\"]", ":2: tenants.a.origins: `x.com` is not an origin"),
        ("[tenants.a.limits]\ntokens_per_day = 0", ":2: tenants.a.limits.tokens_per_day: 0 is not between"),
        ("[limits]\nrequests_per_minute = -1", ":2: limits.requests_per_minute"),
        ("[limits]\nrequests_per_minute = 1.5", ":2: limits.requests_per_minute"),
        ("[limits]\nrequests_burst = 1", ":2: limits.requests_burst: means nothing without"),
        ("[limits]\nshape = \"leaky-bucket\"", ":2: limits.shape: means nothing without"),
        ("[limits]\nrequests_per_minut = 1", ":2: limits.requests_per_minut: unknown key (did you mean"),
        ("[auth]\nkeys_file = \"none.toml\"", ":2: auth.keys_file: `dir/none.toml` cannot be read"),
        ("[auth.tokens]\nlongest = \"1h\"", ":1: auth.tokens.secret_env: tokens need a secret"),
        ("[auth.tokens]\nsecret_env = \"SHORT\"", ":2: auth.tokens.secret_env: the secret has fewer than 32"),
        (
            "[auth.tokens]\nsecret_env = \"NONE\"",
            ":2: auth.tokens.secret_env: the variable `NONE` is not set",
        ),
        (
            "[auth.issuers.i]\nissuer = \"i\"\njwks_url = \"https://i/\"",
            ":1: auth.issuers.i.audience: tokens for others",
        ),
        ("[auth.issuers.i]\nissuer = \"i\"\naudience = \"f\"", ":1: auth.issuers.i.jwks_url: the keys of"),
        (
            "[auth.issuers.i]\nissuer = \"i\"\naudience = \"f\"\njwks_url = \"http://i.com/\"",
            ":4: auth.issuers.i.jwks_url: `http://i.com/`: keys that come without TLS",
        ),
        (
            "[auth.issuers.i]\nissuer = \"i\"\naudience = \"f\"\njwks_url = \"https://i/\"\nalgorithms = [\"HS256\"]",
            ":5: auth.issuers.i.algorithms: `HS256` would let",
        ),
        (
            "[auth.issuers.i]\nissuer = \"i\"\naudience = \"f\"\njwks_url = \"https://i/\"\nalgorithms = [\"none\"]",
            ":5: auth.issuers.i.algorithms: `none` would let",
        ),
        (
            "[auth]\nopen = true\n[keys.a]\nhash = \"HASH\"\ntenant = \"t\"",
            ":2: auth.open: serves whoever comes",
        ),
    ] {
        let text = text.replace("HASH", HASH);
        let faults = parse_with(&text, &[("SHORT", "too-short-a-secret")]).unwrap_err();
        assert!(
            faults.iter().any(|found| found.contains(&format!("dir/flumen.toml{fault}"))),
            "{fault}: {faults:#?}"
        );
        let all = faults.join("\n");
        assert!(!all.contains("fl-secret") && !all.contains("too-short-a-secret"), "{all}");
    }
}

#[test]
fn whoever_can_be_reached_needs_keys() {
    let listen =
        |address: &str, more: &str| parse_with(&format!("[server]\nlisten = \"{address}\"\n{more}"), &[]);
    for address in ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "[::ffff:10.0.0.1]:80"] {
        let faults = listen(address, "").unwrap_err();
        assert!(
            faults[0].starts_with("dir/flumen.toml:2: server.listen:") && faults[0].contains("auth.open"),
            "{faults:?}"
        );
        listen(address, "[auth]\nopen = true").unwrap();
        listen(address, &format!("[keys.a]\nhash = \"{HASH}\"\ntenant = \"t\"")).unwrap();
    }
    for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        listen(address, "").unwrap();
    }
    let argument = parse_with("", &[(LISTEN, "[\"0.0.0.0:80\"]")]).unwrap_err();
    assert!(argument[0].starts_with("--listen: server.listen: 0.0.0.0:80 can be reached"), "{argument:?}");
}

#[test]
fn a_file_of_keys_has_faults_with_its_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("flumen.toml");
    let load = |keys: &str| {
        std::fs::write(
            &main,
            format!("[auth]\nkeys_file = \"keys.toml\"\n[keys.a]\nhash = \"{HASH}\"\ntenant = \"t\"\n"),
        )
        .unwrap();
        std::fs::write(folder.path().join("keys.toml"), keys).unwrap();
        Config::load(Some(&main), std::iter::empty())
    };
    let other = KeyHash::of("other");
    let loaded = load(&format!("[keys.b]\nhash = \"{other}\"\ntenant = \"t\"\n")).unwrap();
    assert_eq!(loaded.config.keys.len(), 2);
    assert!(loaded.files.contains(&folder.path().join("keys.toml")));
    assert!(load("").unwrap().config.auth.required(&BTreeMap::new()), "an empty file keeps the door closed");
    for (keys, fault) in [
        ("[keys.b]\nhash = 5\ntenant = \"t\"", "keys.toml:2: keys.b.hash"),
        ("\n[key.b]", "keys.toml:2: key: unknown key (did you mean `keys`?)"),
        ("\n\nx", "keys.toml:3: "),
        (
            &format!("[keys.a]\nhash = \"{other}\"\ntenant = \"t\"") as &str,
            "keys.toml:1: keys.a: `a` stands both here and",
        ),
        (
            &format!("[keys.b]\nhash = \"{HASH}\"\ntenant = \"t\""),
            "keys.toml:1: keys.b: `b` is the same key as `a`",
        ),
    ] {
        let error = load(keys).unwrap_err().to_string();
        assert!(error.contains(fault), "{fault}: {error}");
    }
}
