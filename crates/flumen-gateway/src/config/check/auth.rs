//! Who may use the gateway.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use toml::Table;

use super::{
    super::{
        Auth, Issuer, Jwks, Key, KeyHash, Priority, Secret, Signature, Tenant, Tokens,
        auth::PRIORITIES,
        load::{in_file, relative},
        section::{Section, meant},
    },
    Context,
    limits::limits,
    streams::is_origin,
};
use crate::access::{issuer_keys, looks_like_a_key, looks_like_a_token};

/// A file of keys larger than this is none.
const MAX_KEYS: u64 = 64 << 20;
/// A shorter secret could be found by trying.
const SHORTEST_SECRET: usize = 32;

pub(super) fn auth(mut section: Section<'_>, context: &mut Context) -> Auth {
    let keys_file = section.string("keys_file").map(|file| relative(&context.folder, &file));
    let open = section.boolean("open").unwrap_or(false);
    let tokens = tokens(&mut section, context);
    let mut issuers = BTreeMap::new();
    section.map("issuers", |name, section| {
        if let Some(issuer) = issuer(section, context) {
            issuers.insert(name.to_owned(), issuer);
        }
    });
    let mut named = HashMap::new();
    for (name, issuer) in &issuers {
        if let Some(other) = named.insert(&issuer.issuer, name) {
            let problem = format!("`{name}` and `{other}` name the same `issuer`");
            section.fault("issuers", problem, None);
        }
    }
    section.finish();
    Auth { keys_file, open, tokens, issuers }
}

fn tokens(parent: &mut Section<'_>, context: &mut Context) -> Option<Tokens> {
    let given = parent.has("tokens");
    let mut section = parent.section("tokens");
    let longest = section.duration("longest").unwrap_or(Duration::from_hours(1));
    let secret = secret(&mut section, context, given);
    section.finish();
    secret.map(|secret| Tokens { secret, longest })
}

fn secret(section: &mut Section<'_>, context: &mut Context, given: bool) -> Option<Secret> {
    let (field, value) = match (section.string("secret_env"), section.string("secret_file")) {
        (None, None) if !given => return None,
        (None, None) => {
            let hint = "give `secret_env`, the name of a variable, or `secret_file`".to_owned();
            section.fault("secret_env", "tokens need a secret that signs them", Some(hint));
            return None;
        }
        (Some(_), Some(_)) => {
            section.fault("secret_file", "give either `secret_env` or `secret_file`, not both", None);
            return None;
        }
        (Some(name), None) => {
            let found = context.variables.iter().find(|(variable, _)| *variable == name);
            let found = found.map(|(_, value)| value.clone());
            ("secret_env", found.ok_or(format!("the variable `{name}` is not set")))
        }
        (None, Some(file)) => {
            let path = relative(&context.folder, &file);
            context.files.push(path.clone());
            let read = fs::read_to_string(&path);
            ("secret_file", read.map_err(|error| format!("`{file}` cannot be read: {error}")))
        }
    };
    match value.map(|value| value.trim().to_owned()) {
        Ok(value) if value.len() < SHORTEST_SECRET => {
            let problem = format!("the secret has fewer than {SHORTEST_SECRET} bytes");
            section.fault(field, problem, Some("for example: openssl rand -hex 32".to_owned()));
        }
        Ok(value) => return Some(Secret::new(value)),
        Err(problem) => section.fault(field, problem, None),
    }
    None
}

fn issuer(mut section: Section<'_>, context: &mut Context) -> Option<Issuer> {
    let issuer = section.string("issuer").filter(|issuer| !issuer.is_empty());
    if issuer.is_none() {
        let hint = "what its tokens say in `iss`, for example \"https://id.example.com/\"".to_owned();
        section.fault("issuer", "an identity provider needs its name", Some(hint));
    }
    let audience = section.strings("audience").unwrap_or_default();
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        let hint = "what its tokens for this gateway say in `aud`".to_owned();
        section.fault("audience", "tokens for others must not be taken", Some(hint));
    }
    let tenant_claim = section.string("tenant_claim").unwrap_or_else(|| "sub".to_owned());
    let refresh = section.duration("refresh").unwrap_or(Duration::from_mins(10));
    let algorithms = algorithms(&mut section);
    let keys = jwks(&mut section, context);
    section.finish();
    Some(Issuer { issuer: issuer?, audience, tenant_claim, keys: keys?, refresh, algorithms })
}

fn algorithms(section: &mut Section<'_>) -> Vec<Signature> {
    let default = || vec![Signature::Rs256, Signature::Es256, Signature::EdDsa];
    let Some(given) = section.strings("algorithms") else { return default() };
    let names: Vec<_> = Signature::NAMES.iter().map(|(name, _)| *name).collect();
    let mut algorithms = Vec::new();
    for name in &given {
        match Signature::NAMES.iter().find(|(known, _)| known == name) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None if name.starts_with("HS") || name.eq_ignore_ascii_case("none") => {
                let problem = format!("`{name}` would let whoever knows the public keys sign tokens");
                section.fault("algorithms", problem, Some(format!("known: {}", names.join(", "))));
            }
            None => {
                let hint = meant(name, &names).unwrap_or_else(|| format!("known: {}", names.join(", ")));
                section.fault("algorithms", format_args!("`{name}` is not an algorithm"), Some(hint));
            }
        }
    }
    if given.is_empty() {
        section.fault("algorithms", "without any algorithm no token is valid", None);
    }
    algorithms
}

fn jwks(section: &mut Section<'_>, context: &mut Context) -> Option<Jwks> {
    match (section.string("jwks_file"), section.string("jwks_url")) {
        (Some(file), None) => {
            let path = relative(&context.folder, &file);
            context.files.push(path.clone());
            let text = fs::read_to_string(&path).map_err(|error| format!("`{file}` cannot be read: {error}"));
            match text.and_then(|text| issuer_keys(text.as_bytes()).map(|_| text)) {
                Ok(text) => return Some(Jwks::File(text)),
                Err(problem) => section.fault("jwks_file", problem, None),
            }
        }
        (None, Some(url)) => match crate::access::issuer_url(&url) {
            Ok(_) => return Some(Jwks::Url(url)),
            Err(problem) => section.fault("jwks_url", format_args!("`{url}`: {problem}"), None),
        },
        (Some(_), Some(_)) => {
            section.fault("jwks_url", "give either `jwks_file` or `jwks_url`, not both", None);
        }
        (None, None) => {
            section.fault("jwks_url", "the keys of an identity provider are needed", {
                Some("give `jwks_url` or `jwks_file`".to_owned())
            });
        }
    }
    None
}

pub(super) fn tenants(root: &mut Section<'_>) -> BTreeMap<String, Tenant> {
    let mut tenants = BTreeMap::new();
    let mut unfit = Vec::new();
    root.map("tenants", |name, section| {
        if !may_be_named(name) {
            unfit.push(name.to_owned());
        }
        tenants.insert(name.to_owned(), tenant(section));
    });
    for name in unfit {
        root.fault("tenants", format_args!("`{}`: {UNFIT}", name.escape_debug()), None);
    }
    tenants
}

const UNFIT: &str = "a tenant's name has 1 to 128 visible ASCII characters";

/// Names of tenants stand in logs and labels.
pub(crate) fn may_be_named(tenant: &str) -> bool {
    (1..=128).contains(&tenant.len()) && tenant.bytes().all(|byte| byte.is_ascii_graphic())
}

fn tenant(mut section: Section<'_>) -> Tenant {
    let tenant = Tenant {
        weight: weight(&mut section).unwrap_or(1.0),
        priority: section.choice("priority", &PRIORITIES, Priority::default()),
        models: models(&mut section),
        origins: origins(&mut section),
        limits: limits(&mut section),
    };
    section.finish();
    tenant
}

fn weight(section: &mut Section<'_>) -> Option<f64> {
    section.number("weight", 0.01..=1000.0)
}

fn models(section: &mut Section<'_>) -> Option<Vec<String>> {
    let models = section.strings("models")?;
    for name in &models {
        if name.is_empty() || name.strip_suffix('*').unwrap_or(name).contains('*') {
            let hint = "a name, or a pattern that ends with `*`".to_owned();
            section.fault("models", format_args!("`{name}` names no model"), Some(hint));
        }
    }
    Some(models)
}

fn origins(section: &mut Section<'_>) -> Option<Vec<String>> {
    let origins = section.strings("origins")?;
    for origin in &origins {
        if origin != "*" && !is_origin(origin) {
            let hint = "scheme and host, for example https://chat.example.com".to_owned();
            section.fault("origins", format_args!("`{origin}` is not an origin"), Some(hint));
        }
    }
    // An empty list is what the example shows for "as [cors]".
    Some(origins).filter(|origins| !origins.is_empty())
}

/// The keys of the configuration and of the file that it names.
pub(super) fn keys(root: &mut Section<'_>, auth: &Auth, context: &mut Context) -> BTreeMap<String, Key> {
    let mut keys = BTreeMap::new();
    keys_of(root, &mut keys);
    let Some(path) = &auth.keys_file else { return keys };
    context.files.push(path.clone());
    let read = fs::metadata(path).and_then(|metadata| {
        if metadata.len() > MAX_KEYS { Ok(None) } else { fs::read_to_string(path).map(Some) }
    });
    let text = match read {
        Ok(Some(text)) => text,
        Ok(None) => {
            root.fault_at(&["auth", "keys_file"], "the file is larger than 64 MiB", None);
            return keys;
        }
        Err(error) => {
            let hint = Some("an empty file means no keys yet".to_owned());
            let problem = format!("`{}` cannot be read: {error}", path.display());
            root.fault_at(&["auth", "keys_file"], problem, hint);
            return keys;
        }
    };
    in_file(&text, path, &mut context.located, |table: &Table, faults| {
        let mut own = Section::new(Vec::new(), Some(table), faults);
        keys_of(&mut own, &mut keys);
        own.finish();
    });
    keys
}

fn keys_of(root: &mut Section<'_>, keys: &mut BTreeMap<String, Key>) {
    let (mut unfit, mut double) = (false, Vec::new());
    let digests: HashMap<_, _> = keys.iter().map(|(id, key)| (key.hash, id.clone())).collect();
    let mut digests: HashMap<KeyHash, String> = digests;
    root.map("keys", |id, section| {
        // A fault would show a key that stands where its name should.
        if looks_like_a_key(id) || looks_like_a_token(id) || !may_be_named(id) {
            unfit = true;
            return;
        }
        let Some(key) = key(section) else { return };
        let other = digests.insert(key.hash, id.to_owned());
        if other.is_some() || keys.insert(id.to_owned(), key).is_some() {
            double.push((id.to_owned(), other));
        }
    });
    if unfit {
        let hint = "1 to 128 visible ASCII characters; not the key itself".to_owned();
        root.fault("keys", "the name of a key is none", Some(hint));
    }
    for (id, other) in double {
        let problem = match other.filter(|other| *other != id) {
            Some(other) => format!("`{id}` is the same key as `{other}`"),
            None => format!("`{id}` stands both here and in another file"),
        };
        root.fault_at(&["keys", &id], problem, None);
    }
}

fn key(mut section: Section<'_>) -> Option<Key> {
    let hash = section.secret_string("hash");
    let parsed = hash.as_deref().and_then(KeyHash::parse);
    if parsed.is_none() {
        let hint = Some("`flumen key new` writes it: blake3: and 64 hexadecimal digits".to_owned());
        let problem = if hash.is_some() { "is not the digest of a key" } else { "a key needs its digest" };
        section.fault("hash", problem, hint);
    }
    let tenant = section.string("tenant");
    match &tenant {
        None => section.fault("tenant", "a key needs a tenant", None),
        Some(name) if !may_be_named(name) => section.fault("tenant", UNFIT, None),
        Some(_) => {}
    }
    let (models, expires, origins) = (models(&mut section), expires(&mut section), origins(&mut section));
    let weight = weight(&mut section);
    let priority = section.string("priority").is_some();
    let chosen = section.choice("priority", &PRIORITIES, Priority::default());
    let limits = limits(&mut section);
    section.finish();
    Some(Key {
        hash: parsed?,
        tenant: tenant?,
        models,
        expires,
        origins,
        weight,
        priority: priority.then_some(chosen),
        limits,
    })
}

fn expires(section: &mut Section<'_>) -> Option<SystemTime> {
    section.moment("expires")
}

/// A gateway that others can reach must not serve whoever comes.
pub(super) fn exposure(
    root: &mut Section<'_>,
    auth: &Auth,
    keys: &BTreeMap<String, Key>,
    listen: &[SocketAddr],
) {
    let required = auth.required(keys);
    if auth.open && required {
        let problem = "serves whoever comes, so keys, tokens and issuers would mean nothing";
        root.fault_at(&["auth", "open"], problem, Some("remove either".to_owned()));
    }
    if let Some(address) = auth.exposes(keys, listen) {
        let hint =
            "add keys (`flumen key new` makes one), listen on 127.0.0.1, or set auth.open = true".to_owned();
        let problem = format!("{address} can be reached from elsewhere, and there are no keys");
        root.fault_at(&["server", "listen"], problem, Some(hint));
    }
}
