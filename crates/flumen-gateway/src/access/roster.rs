//! Everybody who may come, and their replacement as a whole when the configuration changes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Identity, Proof, Tenant,
    gatekeeper::refused,
    issuer::Issuer,
    looks_like_a_token,
    permission::covers,
    token::{Signer, is_own},
};
use crate::{
    config::{self, Config, Key, KeyHash},
    error::Failure,
};

/// Who may use the gateway, for all cores.
#[derive(Debug)]
pub(crate) struct Access {
    roster: ArcSwap<Roster>,
    /// Somebody looks after keys that expire and issuers whose keys are fetched.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct Roster {
    required: bool,
    tenants: Tenants,
    keys: HashMap<KeyHash, Arc<Identity>>,
    /// The digests of keys by their names, for tokens that a key asked for.
    digests: HashMap<Arc<str>, KeyHash>,
    pub(super) signer: Option<Arc<Signer>>,
    /// By what their tokens say in `iss`.
    pub(super) issuers: HashMap<String, Arc<Issuer>>,
    /// Pages that some tenant or key allows.
    origins: HashSet<String>,
}

/// What the configuration says of tenants.
#[derive(Debug)]
pub(super) struct Tenants {
    /// Those that are named, by themselves or by a key.
    named: HashMap<String, Arc<Tenant>>,
    patterns: BTreeMap<String, config::Tenant>,
}

impl Tenants {
    fn new(config: &Config) -> Self {
        let is_pattern = |name: &str| name.ends_with('*');
        let (patterns, literal): (BTreeMap<_, _>, BTreeMap<_, _>) =
            config.tenants.clone().into_iter().partition(|(name, _)| is_pattern(name));
        let mut tenants = Self { named: HashMap::new(), patterns };
        for (name, settings) in literal {
            let tenant = Tenant { name: Arc::from(&*name), declared: true, settings };
            tenants.named.insert(name, Arc::new(tenant));
        }
        for key in config.keys.values().filter(|key| !config.tenants.contains_key(&key.tenant)) {
            let tenant = Tenant { declared: true, ..tenants.undeclared(&key.tenant) };
            tenants.named.insert(key.tenant.clone(), Arc::new(tenant));
        }
        tenants
    }

    pub(super) fn find(&self, name: &str) -> Arc<Tenant> {
        self.named.get(name).cloned().unwrap_or_else(|| Arc::new(self.undeclared(name)))
    }

    /// One that nobody has named: the longest pattern says what it may.
    fn undeclared(&self, name: &str) -> Tenant {
        let fits = |pattern: &str| pattern.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix));
        let pattern =
            self.patterns.iter().filter(|(pattern, _)| fits(pattern)).max_by_key(|(name, _)| name.len());
        let settings = pattern.map(|(_, settings)| settings.clone()).unwrap_or_default();
        Tenant { name: Arc::from(name), declared: false, settings }
    }
}

impl Access {
    pub(crate) fn new(config: &Config) -> Self {
        Self { roster: ArcSwap::from_pointee(Roster::new(config, None)), changed: Notify::new() }
    }

    /// Takes over a new configuration. Keys that are gone, expired or may less than before are revoked; those that stay keep
    /// what runs on them.
    pub(crate) fn apply(&self, config: &Config) {
        let old = self.roster.load_full();
        let new = Arc::new(Roster::new(config, Some(&old)));
        self.roster.store(Arc::clone(&new));
        // Only now: whoever was let in by the old one until this moment is stopped as well.
        for (hash, identity) in &old.keys {
            let stays = new.keys.get(hash).is_some_and(|new| new.revoked == identity.revoked);
            if !stays {
                identity.revoked.cancel();
            }
        }
        for (old, new) in [(&old.signer, &new.signer)] {
            if let Some(old) = old
                && new.as_ref().is_none_or(|new| !Arc::ptr_eq(old, new))
            {
                old.revoked.cancel();
            }
        }
        for (name, old) in &old.issuers {
            if new.issuers.get(name).is_none_or(|new| !Arc::ptr_eq(old, new)) {
                old.revoked.cancel();
            }
        }
        self.changed.notify_one();
    }

    /// Whether callers have to say who they are.
    pub(crate) fn is_required(&self) -> bool {
        self.roster.load().required
    }

    /// Whether some tenant or key lists this page.
    pub(crate) fn lists_origin(&self, origin: &HeaderValue) -> bool {
        let roster = self.roster.load();
        roster.origins.contains("*") || origin.to_str().is_ok_and(|origin| roster.origins.contains(origin))
    }

    /// Whether the configuration names this tenant.
    pub(crate) fn declares(&self, tenant: &str) -> bool {
        self.roster.load().tenants.named.contains_key(tenant)
    }

    pub(super) fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Whose credential this is.
    ///
    /// # Errors
    /// 401 when it is nobody's or over; 503 while an issuer's keys are not known.
    pub(super) async fn identify(&self, credential: &str) -> Result<Arc<Identity>, Failure> {
        let roster = self.roster.load_full();
        if looks_like_a_token(credential) {
            return roster.token(credential).await.map(Arc::new);
        }
        let identity = roster.key(credential).ok_or_else(|| refused("this key is not known"))?;
        if identity.is_over(SystemTime::now()) {
            return Err(refused("this key has expired or was taken away"));
        }
        Ok(identity)
    }

    /// Revokes keys that have expired. Returns when the next one does.
    pub(super) fn expire(&self, now: SystemTime) -> Option<SystemTime> {
        let roster = self.roster.load_full();
        let mut next = None;
        for identity in roster.keys.values() {
            match identity.expires {
                Some(expires) if expires <= now => identity.revoked.cancel(),
                Some(expires) => next = Some(next.map_or(expires, |next: SystemTime| next.min(expires))),
                None => {}
            }
        }
        next
    }
}

impl Roster {
    fn new(config: &Config, old: Option<&Self>) -> Self {
        let tenants = Tenants::new(config);
        let now = SystemTime::now();
        let (mut keys, mut digests) = (HashMap::new(), HashMap::new());
        for (id, key) in &config.keys {
            let before = old.and_then(|old| old.keys.get(&key.hash));
            let identity = identity(id, key, tenants.find(&key.tenant), before, now);
            digests.extend(identity.key.clone().map(|id| (id, key.hash)));
            keys.insert(key.hash, Arc::new(identity));
        }
        let lists = config.tenants.values().map(|tenant| &tenant.origins);
        let lists = lists.chain(config.keys.values().map(|key| &key.origins));
        let signer = config.auth.tokens.as_ref().map(|tokens| {
            let same = old.and_then(|old| old.signer.as_ref()).filter(|signer| signer.is_of(tokens));
            same.cloned().unwrap_or_else(|| Arc::new(Signer::new(tokens)))
        });
        let issuers = config.auth.issuers.values().map(|settings| {
            let same = old.and_then(|old| old.issuers.get(&settings.issuer));
            let same = same.filter(|issuer| issuer.settings == *settings).cloned();
            (settings.issuer.clone(), same.unwrap_or_else(|| Arc::new(Issuer::new(settings))))
        });
        Self {
            required: config.auth.required(&config.keys),
            keys,
            digests,
            signer,
            issuers: issuers.collect(),
            origins: lists.flatten().flatten().cloned().collect(),
            tenants,
        }
    }

    /// The key with this text. A wrong key takes as long as a right one.
    fn key(&self, key: &str) -> Option<Arc<Identity>> {
        const NOBODY: KeyHash = KeyHash([0; 32]);
        let hash = KeyHash::of(key);
        let (known, identity) = self
            .keys
            .get_key_value(&hash)
            .map_or((&NOBODY, None), |(known, identity)| (known, Some(identity)));
        let same: bool = known.0.ct_eq(&hash.0).into();
        identity.filter(|_| same).cloned()
    }

    async fn token(&self, token: &str) -> Result<Identity, Failure> {
        if let Some(signer) = &self.signer
            && is_own(token)
        {
            return self.own_token(signer, token);
        }
        let issuer = super::issuer::named(token).and_then(|name| self.issuers.get(&name));
        let issuer = issuer.ok_or_else(|| refused("this token is of nobody whose tokens are taken here"))?;
        let proved = issuer.verify(token).await?;
        let tenant = self.tenants.find(&proved.tenant);
        let mut identity = Identity::of_tenant(tenant, Proof::Issuer, issuer.revoked.clone());
        identity.expires = Some(proved.expires);
        Ok(identity)
    }

    fn own_token(&self, signer: &Signer, token: &str) -> Result<Identity, Failure> {
        let claims = signer.verify(token)?;
        let mut identity = match &claims.key {
            None => {
                Identity::of_tenant(self.tenants.find(&claims.tenant), Proof::Token, signer.revoked.clone())
            }
            // A token is never worth more than the key that asked for it, which may have been taken away since.
            Some(id) => {
                let hash = self
                    .digests
                    .get(&**id)
                    .filter(|hash| claims.print.as_ref() == Some(&signer.print(**hash)));
                let key = hash.and_then(|hash| self.keys.get(hash));
                let key = key.filter(|key| !key.is_over(SystemTime::now()));
                let key = key.ok_or_else(|| refused("the key behind this token is no longer valid"))?;
                Identity { proof: Proof::Token, ..(**key).clone() }
            }
        };
        identity.models.extend(claims.models.clone().map(Into::into));
        if let Some(origin) = &claims.origin {
            identity.origins = Some([origin.clone()].into());
        }
        let expires = claims.expires();
        identity.expires = Some(identity.expires.map_or(expires, |own| own.min(expires)));
        Ok(identity)
    }

    /// The digest of a key, by its name.
    pub(super) fn digest(&self, id: &str) -> Option<KeyHash> {
        self.digests.get(id).copied()
    }
}

fn identity(
    id: &str,
    key: &Key,
    tenant: Arc<Tenant>,
    before: Option<&Arc<Identity>>,
    now: SystemTime,
) -> Identity {
    let mut identity = Identity::of_tenant(tenant, Proof::Key, CancellationToken::new());
    identity.key = Some(Arc::from(id));
    identity.limits = Arc::new(key.limits.clone());
    identity.weight = key.weight.unwrap_or(identity.weight);
    identity.priority = key.priority.unwrap_or(identity.priority);
    identity.expires = key.expires;
    identity.models.extend(key.models.clone().map(Into::into));
    if let Some(origins) = &key.origins {
        identity.origins = Some(origins.clone().into());
    }
    if let Some(before) = before
        && !before.is_over(now)
        && !identity.is_over(now)
        && before.key == identity.key
        && before.tenant.name == identity.tenant.name
        && !is_narrower(&identity, before)
    {
        identity.revoked = before.revoked.clone();
    }
    identity
}

/// Whether it may less than before.
fn is_narrower(new: &Identity, old: &Identity) -> bool {
    // Whatever a new list forbids must have been forbidden by one of the old ones.
    let models = new.models.iter().all(|list| old.models.iter().any(|old| covers(list, old)));
    let origins = match (&new.origins, &old.origins) {
        (None, None) => true,
        (Some(new), Some(old)) => {
            new.iter().any(|origin| origin == "*") || old.iter().all(|old| new.contains(old))
        }
        _ => false,
    };
    !(models && origins)
}

#[cfg(test)]
mod tests;
