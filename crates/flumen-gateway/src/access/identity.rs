use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use axum::extract::FromRequestParts;
use http::{Extensions, request::Parts};
use tokio_util::sync::CancellationToken;

use super::{gatekeeper::refused, permission::allows};
use crate::{
    config::{self, Limits, Priority},
    error::Failure,
    observe::Facts,
};

/// Whom a request is made for, and what it may.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Who pays, and whose streams it sees.
    pub tenant: Arc<Tenant>,
    /// The name of the key, if one was presented or stands behind a token.
    pub key: Option<Arc<str>>,
    /// What the key may use, within what its tenant may.
    pub limits: Arc<Limits>,
    /// Its share where others wait for the same thing.
    pub weight: f64,
    /// Whom it may overtake.
    pub priority: Priority,
    /// How it was proved.
    pub proof: Proof,
    /// When it ends by itself.
    pub expires: Option<SystemTime>,
    /// Lists of models; each must allow one.
    pub(super) models: Vec<Arc<[String]>>,
    /// The pages that may use it; `None` means those of the configuration.
    pub(super) origins: Option<Arc<[String]>>,
    pub(super) revoked: CancellationToken,
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Not at all: the gateway is open.
    Nothing,
    /// By a key.
    Key,
    /// By a token that this gateway signed.
    Token,
    /// By a token of an identity provider.
    Issuer,
}

/// Who is asking.
#[derive(Clone, PartialEq)]
pub(crate) struct Tenant {
    /// The name; empty where nobody is asked for one.
    pub name: Arc<str>,
    /// Whether the configuration names it, so that it may be a metric's label.
    pub declared: bool,
    /// Weight, priority, permissions, limits.
    pub settings: config::Tenant,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tenant").field(&self.name).finish()
    }
}

impl Tenant {
    /// Whoever comes where nobody is asked for a name.
    pub(crate) const ANONYMOUS: &'static str = "anonymous";

    /// The name for people and labels.
    pub(crate) fn label(&self) -> &str {
        if self.name.is_empty() { Self::ANONYMOUS } else { &self.name }
    }
}

impl Identity {
    /// Whoever comes, where the gateway is open.
    pub(crate) fn anonymous() -> Arc<Self> {
        static ANONYMOUS: LazyLock<Arc<Identity>> = LazyLock::new(|| {
            let tenant = Tenant { name: Arc::from(""), declared: true, settings: config::Tenant::default() };
            Arc::new(Identity::of_tenant(Arc::new(tenant), Proof::Nothing, CancellationToken::new()))
        });
        Arc::clone(&ANONYMOUS)
    }

    /// A tenant's identity with nothing of its own.
    pub(super) fn of_tenant(tenant: Arc<Tenant>, proof: Proof, revoked: CancellationToken) -> Self {
        let settings = &tenant.settings;
        Self {
            key: None,
            limits: Arc::default(),
            weight: settings.weight,
            priority: settings.priority,
            proof,
            expires: None,
            models: settings.models.iter().map(|models| models.clone().into()).collect(),
            origins: settings.origins.clone().map(Into::into),
            revoked,
            tenant,
        }
    }

    /// The identity of a request that has passed the gatekeeper.
    ///
    /// # Errors
    /// 500 when it has not: a route that forgot to ask must not answer.
    pub(crate) fn of(extensions: &Extensions) -> Result<Arc<Self>, Failure> {
        let found = extensions.get::<Arc<Self>>().cloned();
        found.ok_or_else(|| Failure::internal("a request that nobody asked who it is"))
    }

    /// Whether it may ask this model, by the name that clients use.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        self.models.iter().all(|models| allows(models, model))
    }

    /// Refuses a model that it may not ask.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn must_have(&self, model: &str) -> Result<(), Failure> {
        if self.may_use(model) {
            return Ok(());
        }
        let message = format!(
            "the model `{model}` is not among those that this key may use; GET /v1/models lists them"
        );
        Err(Failure::rejected(http::StatusCode::FORBIDDEN, "model_not_allowed", message).param("model"))
    }

    /// Refuses what is over: whoever asks on a connection that is long open was valid when it was opened.
    ///
    /// # Errors
    /// 401.
    pub(crate) fn must_last(&self) -> Result<(), Failure> {
        if self.is_over(SystemTime::now()) {
            return Err(refused("this key or token has expired or was taken away"));
        }
        Ok(())
    }

    /// Cancelled when the key or the token is taken away, or the key expires. Streams that run on it end then.
    pub(crate) fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }

    /// Whose streams it may see: those of its tenant. `None` where nobody is asked who they are.
    pub(crate) fn owner(&self) -> Option<String> {
        // The digests that stand for callers of an open gateway have no colon: a tenant cannot be called like one.
        (self.proof != Proof::Nothing).then(|| format!("tenant:{}", self.tenant.name))
    }

    /// Tells the request's record who asks.
    pub(crate) fn note(&self, facts: &mut Facts) {
        facts.tenant = Some(Arc::clone(&self.tenant));
        facts.key.clone_from(&self.key);
    }

    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        self.revoked.is_cancelled() || self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The identity of a request, for handlers.
pub(crate) struct Who(pub Arc<Identity>);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Identity::of(&parts.extensions).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_over_does_not_last() {
        let mut identity = (*Identity::anonymous()).clone();
        identity.revoked = CancellationToken::new();
        assert!(identity.must_last().is_ok());
        identity.expires = Some(SystemTime::now() + Duration::from_mins(1));
        assert!(identity.must_last().is_ok());
        identity.expires = Some(SystemTime::now());
        assert_eq!(identity.must_last().unwrap_err().status, 401);
        identity.expires = None;
        identity.revoked.cancel();
        assert_eq!(identity.must_last().unwrap_err().code, "invalid_api_key");
    }

    #[test]
    fn a_request_without_an_identity_is_not_served() {
        assert_eq!(Identity::of(&Extensions::new()).unwrap_err().status, 500);
    }
}
