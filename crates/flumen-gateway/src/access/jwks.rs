//! The public keys of an identity provider (RFC 7517).

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Providers have a handful.
const MOST: usize = 100;

/// Keys that check signatures.
#[derive(Clone, Debug)]
pub(crate) struct KeySet(Vec<Known>);

#[derive(Clone)]
struct Known {
    kid: Option<String>,
    /// The only way in which it signs, if it says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Known").field(&self.kid).finish()
    }
}

/// Reads a set of keys. What cannot be used is left out: a provider may have keys for other purposes.
///
/// # Errors
/// When it is no set, or has no key that can be used.
pub(crate) fn parse(json: &[u8]) -> Result<KeySet, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set =
        serde_json::from_slice(json).map_err(|error| format!("is no set of keys (JWKS): {error}"))?;
    let known: Vec<_> = set.keys.into_iter().take(MOST).filter_map(known).collect();
    if known.is_empty() {
        return Err("has no public key that checks signatures".to_owned());
    }
    Ok(KeySet(known))
}

fn known(value: Value) -> Option<Known> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    // A secret among public keys would let whoever reads them sign.
    let public = !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    if !public || !signs {
        return None;
    }
    Some(Known {
        kid: common.key_id.clone(),
        algorithm: common.key_algorithm.as_ref().map(ToString::to_string),
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}

impl KeySet {
    /// The key with this name; without a name the only one that can have signed in this way.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let fits = |known: &&Known| {
            known.key.family() == algorithm.family()
                && known.algorithm.as_deref().is_none_or(|own| own == format!("{algorithm:?}"))
        };
        let mut fitting = self.0.iter().filter(fits);
        match kid {
            Some(kid) => fitting.find(|known| known.kid.as_deref() == Some(kid)).map(|known| &known.key),
            None => fitting.next().filter(|_| fitting.next().is_none()).map(|known| &known.key),
        }
    }
}
