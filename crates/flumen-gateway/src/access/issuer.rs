//! An identity provider: checks its tokens with its public keys, wherever these come from.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use http::{StatusCode, Uri};
use jsonwebtoken::{Algorithm, Validation, dangerous::insecure_decode_claims, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    gatekeeper::refused,
    jwks::{self, KeySet},
    token::invalid,
};
use crate::{
    config::{self, Jwks, Signature, may_be_named},
    error::Failure,
};

/// Clocks of identity providers differ from ours by less.
const LEEWAY: u64 = 30;
/// An unknown key makes us ask at most so often.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// A request waits so long for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(5);

/// An identity provider.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) settings: config::Issuer,
    keys: ArcSwapOption<KeySet>,
    /// Cancelled when it is no longer one.
    pub(super) revoked: CancellationToken,
    /// A key was not there.
    pub(super) missed: Notify,
    fetched: watch::Sender<u64>,
    asked: Mutex<Asked>,
}

#[derive(Debug)]
struct Asked {
    last: Option<Instant>,
    under_way: bool,
}

/// What a token proved.
pub(super) struct Proved {
    pub(super) tenant: String,
    pub(super) expires: SystemTime,
}

impl Issuer {
    pub(super) fn new(settings: &config::Issuer) -> Self {
        let keys = match &settings.keys {
            Jwks::File(text) => jwks::parse(text.as_bytes()).ok().map(Into::into),
            Jwks::Url(_) => None,
        };
        Self {
            settings: settings.clone(),
            keys: ArcSwapOption::new(keys),
            revoked: CancellationToken::new(),
            missed: Notify::new(),
            fetched: watch::Sender::new(0),
            // They are fetched without being asked for at first.
            asked: Mutex::new(Asked { last: None, under_way: matches!(settings.keys, Jwks::Url(_)) }),
        }
    }

    /// Takes over what was fetched; `None` if that failed, and what was known stays.
    pub(super) fn take(&self, keys: Option<KeySet>) {
        if let Some(keys) = keys {
            self.keys.store(Some(keys.into()));
        }
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).under_way = false;
        self.fetched.send_modify(|times| *times += 1);
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Proved, Failure> {
        let header = decode_header(token).map_err(|error| invalid(&error))?;
        if !self.settings.algorithms.iter().any(|allowed| algorithm(*allowed) == header.alg) {
            return Err(refused("this token is signed in a way that is not taken here"));
        }
        let kid = header.kid.as_deref();
        // Before looking, so that nothing that comes meanwhile is missed.
        let fetched = self.fetched.subscribe();
        let mut keys = self.keys.load_full();
        if keys.as_ref().is_none_or(|keys| keys.find(kid, header.alg).is_none())
            && self.refreshed(fetched).await
        {
            keys = self.keys.load_full();
        }
        let keys = keys.ok_or_else(|| {
            let message = "the keys of this token's issuer are not there yet; try again in a moment";
            Failure::rejected(StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable", message).retry_after(5)
        })?;
        let key =
            keys.find(kid, header.alg).ok_or_else(|| refused("this token is signed with an unknown key"))?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&self.settings.audience);
        let claims =
            decode::<Map<String, Value>>(token, key, &validation).map_err(|error| invalid(&error))?.claims;
        let claim = &self.settings.tenant_claim;
        let tenant = claims.get(claim).and_then(Value::as_str).filter(|tenant| may_be_named(tenant));
        let tenant =
            tenant.ok_or_else(|| refused(format!("this token names no tenant in its claim `{claim}`")))?;
        let exp = claims.get("exp").and_then(|exp| exp.as_u64().or_else(|| whole(exp.as_f64()?)));
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(exp.unwrap_or(0)));
        Ok(Proved { tenant: tenant.to_owned(), expires: expires.unwrap_or(UNIX_EPOCH) })
    }

    /// Has the keys fetched again, unless they were just now, and waits a moment for them. False when that is not to be.
    async fn refreshed(&self, mut fetched: watch::Receiver<u64>) -> bool {
        if matches!(self.settings.keys, Jwks::File(_)) {
            return false;
        }
        if !fetched.has_changed().unwrap_or(false) {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if !asked.under_way {
                if asked.last.is_some_and(|last| last.elapsed() < ASK_AGAIN) {
                    return false;
                }
                *asked = Asked { last: Some(Instant::now()), under_way: true };
                self.missed.notify_one();
            }
        }
        timeout(PATIENCE, fetched.changed()).await.is_ok()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a moment, checked to be one")]
fn whole(seconds: f64) -> Option<u64> {
    (0.0..1e15).contains(&seconds).then_some(seconds as u64)
}

fn algorithm(signature: Signature) -> Algorithm {
    match signature {
        Signature::Rs256 => Algorithm::RS256,
        Signature::Rs384 => Algorithm::RS384,
        Signature::Rs512 => Algorithm::RS512,
        Signature::Ps256 => Algorithm::PS256,
        Signature::Ps384 => Algorithm::PS384,
        Signature::Ps512 => Algorithm::PS512,
        Signature::Es256 => Algorithm::ES256,
        Signature::Es384 => Algorithm::ES384,
        Signature::EdDsa => Algorithm::EdDSA,
    }
}

/// Whose a token says to be. Not believed, only looked up.
pub(super) fn named(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    insecure_decode_claims::<Named>(token).ok().map(|named| named.iss)
}

/// Where keys are fetched: the server, and the path on it.
///
/// # Errors
/// Why this is no such place.
pub(crate) fn url(url: &str) -> Result<(flumen_wire::client::Endpoint, String), String> {
    let uri: Uri = url.parse().map_err(|_| "not a valid URL".to_owned())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let server =
        format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
    let endpoint = server.parse().map_err(|error: flumen_wire::client::InvalidUrl| error.to_string())?;
    let host = uri.host().unwrap_or_default();
    let own = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if uri.scheme_str() != Some("https") && !own {
        return Err("keys that come without TLS could be anybody's; use https:// or `jwks_file`".to_owned());
    }
    Ok((endpoint, path))
}
