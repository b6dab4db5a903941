//! Short-lived tokens that the gateway signs itself, for pages.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::gatekeeper::refused;
use crate::{
    config::{Config, KeyHash, Secret, Tokens, is_origin, may_be_named},
    error::Failure,
};

const ISSUER: &str = "flumen";
const AUDIENCE: &str = "flumen-gateway";
/// Clocks of gateways that share a secret differ by less.
const LEEWAY: Duration = Duration::from_secs(5);

/// Signs tokens and checks what it signed.
pub(super) struct Signer {
    secret: Secret,
    pub(super) longest: Duration,
    /// Cancelled when the secret is no longer that of tokens.
    pub(super) revoked: CancellationToken,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("longest", &self.longest).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    pub(super) tenant: String,
    /// The name of the key that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// What tells that key from others that had its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) print: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) models: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
}

impl Claims {
    pub(super) fn expires(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.exp)).unwrap_or(UNIX_EPOCH)
    }
}

/// What a token is to say.
#[derive(Clone, Debug, Default)]
pub struct TokenWish {
    /// Whom it stands for.
    pub tenant: String,
    /// How long it lives.
    pub lives: Duration,
    /// The models that it may ask; `None` means those of its tenant.
    pub models: Option<Vec<String>>,
    /// The only page that may use it.
    pub origin: Option<String>,
}

/// Signs a token for a tenant, with the secret of a configuration. Returns it and when it ends.
///
/// # Errors
/// Words for the user: the configuration has no secret, or the wish cannot be granted.
pub fn sign_token(config: &Config, wish: &TokenWish) -> Result<(String, SystemTime), String> {
    let tokens = config.auth.tokens.as_ref();
    let tokens = tokens.ok_or("the configuration has no [auth.tokens] with a secret that signs tokens")?;
    if !may_be_named(&wish.tenant) {
        return Err("a tenant's name has 1 to 128 visible ASCII characters".to_owned());
    }
    if wish.origin.as_deref().is_some_and(|origin| !is_origin(origin)) {
        return Err("the origin must be scheme and host, such as https://chat.example.com".to_owned());
    }
    Signer::new(tokens).sign(wish, None, None)
}

impl Signer {
    pub(super) fn new(tokens: &Tokens) -> Self {
        Self { secret: tokens.secret.clone(), longest: tokens.longest, revoked: CancellationToken::new() }
    }

    pub(super) fn is_of(&self, tokens: &Tokens) -> bool {
        self.secret == tokens.secret && self.longest == tokens.longest
    }

    /// What tells a key from others, to those who have the secret only.
    pub(super) fn print(&self, hash: KeyHash) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("flumen 2026 the key behind a token");
        hasher.update(self.secret.expose().as_bytes());
        hasher.update(&hash.0);
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// Signs a token; `key` is the one that asked for it, `until` when that ends.
    pub(super) fn sign(
        &self,
        wish: &TokenWish,
        key: Option<(&str, KeyHash)>,
        until: Option<SystemTime>,
    ) -> Result<(String, SystemTime), String> {
        if wish.lives > self.longest {
            let longest = humantime::format_duration(self.longest);
            return Err(format!("a token lives at most {longest} (auth.tokens.longest)"));
        }
        let now = SystemTime::now();
        let end = until.map_or(now + wish.lives, |until| until.min(now + wish.lives));
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: seconds(now),
            exp: seconds(end),
            tenant: wish.tenant.clone(),
            key: key.map(|(id, _)| id.to_owned()),
            print: key.map(|(_, hash)| self.print(hash)),
            models: wish.models.clone(),
            origin: wish.origin.clone(),
        };
        let signing = EncodingKey::from_secret(self.secret.expose().as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &signing);
        token.map(|token| (token, claims.expires())).map_err(|_| "the token cannot be signed".to_owned())
    }

    pub(super) fn verify(&self, token: &str) -> Result<Claims, Failure> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY.as_secs();
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        let key = DecodingKey::from_secret(self.secret.expose().as_bytes());
        let claims = decode::<Claims>(token, &key, &validation).map_err(|error| invalid(&error))?.claims;
        let longest = (self.longest + LEEWAY).as_secs();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if claims.exp.saturating_sub(claims.iat) > longest || claims.exp.saturating_sub(now) > longest {
            return Err(refused("this token lives longer than tokens may here"));
        }
        if !may_be_named(&claims.tenant) {
            return Err(refused("this token names no tenant"));
        }
        Ok(claims)
    }
}

/// Whether a token is signed in the way of our own: nobody else's are signed with a secret.
pub(super) fn is_own(token: &str) -> bool {
    decode_header(token).is_ok_and(|header| header.alg == Algorithm::HS256)
}

/// Why a token is refused, without a word of what is in it.
pub(super) fn invalid(error: &jsonwebtoken::errors::Error) -> Failure {
    use jsonwebtoken::errors::ErrorKind;
    refused(match error.kind() {
        ErrorKind::ExpiredSignature => "this token has expired",
        ErrorKind::ImmatureSignature => "this token is not valid yet",
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => "this token is for another gateway",
        _ => "this token is not valid",
    })
}
