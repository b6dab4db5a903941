//! Who may use the gateway: keys, tenants, tokens and identity providers.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

pub use flumen_admit::Priority;

use super::{Limits, Secret};

/// How callers prove who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// A file with further keys.
    pub keys_file: Option<PathBuf>,
    /// Whether the gateway serves without keys on any address. Default false.
    pub open: bool,
    /// Short-lived tokens that this gateway signs.
    pub tokens: Option<Tokens>,
    /// Identity providers by name.
    pub issuers: BTreeMap<String, Issuer>,
}

impl Auth {
    /// Whether callers have to prove who they are. A file of keys says so even while it is empty: taking the last key away must
    /// not open the door.
    pub fn required(&self, keys: &BTreeMap<String, Key>) -> bool {
        !keys.is_empty() || self.keys_file.is_some() || self.tokens.is_some() || !self.issuers.is_empty()
    }

    /// An address at which others could reach a gateway that asks nobody who they are, though nobody said that it should.
    pub(crate) fn exposes(&self, keys: &BTreeMap<String, Key>, listen: &[SocketAddr]) -> Option<SocketAddr> {
        if self.open || self.required(keys) {
            return None;
        }
        listen.iter().find(|address| !address.ip().to_canonical().is_loopback()).copied()
    }
}

/// Short-lived tokens for web pages, signed with a secret (JWT, HS256).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// What signs them: at least 32 bytes.
    pub secret: Secret,
    /// A token that lives longer is refused. Default 1 h.
    pub longest: Duration,
}

/// An identity provider, whose tokens (JWT) are checked with its public keys (JWKS).
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// What its tokens say in `iss`.
    pub issuer: String,
    /// What they say in `aud`: one of these.
    pub audience: Vec<String>,
    /// The claim that names the tenant. Default `sub`.
    pub tenant_claim: String,
    /// Where its keys are.
    pub keys: Jwks,
    /// How often they are fetched. Default 10 min.
    pub refresh: Duration,
    /// How its tokens may be signed. Default RS256, ES256 and `EdDSA`.
    pub algorithms: Vec<Signature>,
}

/// Where the public keys of an identity provider are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// In a file, which was read.
    File(String),
    /// At a URL.
    Url(String),
}

/// How tokens of identity providers are signed: only in ways whose checking needs no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum Signature {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Signature {
    pub(super) const NAMES: &[(&str, Self)] = &[
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];
}

/// Who is asking: weight, limits and permissions that its keys share.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// Its share where tenants wait for the same thing. Default 1.
    pub weight: f64,
    /// Whom it may overtake. Default normal.
    pub priority: Priority,
    /// The models that it may use, as names or patterns that end with `*`; `None` means all.
    pub models: Option<Vec<String>>,
    /// The web pages that may use its keys; `None` means those of [`Cors`](super::Cors).
    pub origins: Option<Vec<String>>,
    /// What it may use.
    pub limits: Limits,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            weight: 1.0,
            priority: Priority::Normal,
            models: None,
            origins: None,
            limits: Limits::default(),
        }
    }
}

/// A key that callers present. The key itself is not known, only its digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The digest of the whole key.
    pub hash: KeyHash,
    /// The name of the tenant that it belongs to.
    pub tenant: String,
    /// Overrides the tenant's models, which stay the outer bound.
    pub models: Option<Vec<String>>,
    /// When it stops to be one.
    pub expires: Option<SystemTime>,
    /// Overrides the tenant's origins.
    pub origins: Option<Vec<String>>,
    /// Overrides the tenant's weight.
    pub weight: Option<f64>,
    /// Overrides the tenant's priority.
    pub priority: Option<Priority>,
    /// What this key may use, within what its tenant may.
    pub limits: Limits,
}

/// The BLAKE3 digest of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    /// The digest of a key.
    pub fn of(key: &str) -> Self {
        Self(*blake3::hash(key.as_bytes()).as_bytes())
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text.strip_prefix("blake3:")?).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for KeyHash {
    /// As it stands in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for KeyHash {
    /// Nothing: a key that somebody thought up could be guessed from its digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:…")
    }
}

/// The names of the classes.
pub(super) const PRIORITIES: [(&str, Priority); 3] =
    [("interactive", Priority::Interactive), ("normal", Priority::Normal), ("batch", Priority::Batch)];

/// Whether a text can be a key: long enough not to be guessed, fit for a header, and not mistaken for a token.
///
/// # Errors
/// Why it cannot, without showing it.
pub fn may_be_key(text: &str) -> Result<(), &'static str> {
    if text.len() < 16 {
        return Err("has fewer than 16 characters");
    }
    if text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must have up to 512 visible ASCII characters");
    }
    if crate::access::looks_like_a_token(text) {
        return Err("is a token (JWT), not a key");
    }
    Ok(())
}
