//! How much everybody may use: the limits of the gateway, of tenants, keys and models, checked together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use flumen_admit::limit::{Allowance, Clock, Kind, Need, Refused, Scope, take};
use http::{HeaderMap, StatusCode};
use tokio::time::{MissedTickBehavior, interval};

use crate::{access::Identity, config::Limits, error::Failure};

mod headers;

/// How often what nobody uses is forgotten.
const TIDY: Duration = Duration::from_secs(30);
/// Scopes in memory. Beyond it those of tenants that nobody declared are forgotten although something is used of them.
const MOST: usize = 100_000;

/// The limits of everybody, shared by all cores. What was used survives a change of the configuration.
#[derive(Debug)]
pub(crate) struct Limiter {
    everybody: ArcSwap<Limits>,
    scopes: Mutex<HashMap<Name, Known>>,
    clock: Arc<Clock>,
}

/// A scope, and whether it is the configuration that names whose it is.
#[derive(Debug)]
struct Known {
    scope: Arc<Scope>,
    declared: bool,
}

/// Whose limits. The order is that in which they are locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Gateway,
    Tenant(Arc<str>),
    Key(Arc<str>),
    Model(Arc<str>),
}

impl Name {
    /// For policies, which tell no names.
    fn kind(&self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Tenant(_) => "tenant",
            Self::Key(_) => "key",
            Self::Model(_) => "model",
        }
    }

    /// For the person whose request it is.
    fn words(&self) -> String {
        match self {
            Self::Gateway => "this gateway".to_owned(),
            Self::Tenant(name) if name.is_empty() => "this gateway's callers".to_owned(),
            Self::Tenant(name) => format!("the tenant `{name}`"),
            Self::Key(name) => format!("the key `{name}`"),
            Self::Model(name) => format!("the model `{name}`"),
        }
    }
}

/// The right to run one request. Dropping it gives back its place and what of the estimate was not used.
#[derive(Debug)]
pub(crate) struct Held {
    held: Option<flumen_admit::limit::Held>,
    names: Vec<Name>,
}

impl Limiter {
    /// Nothing is used yet.
    pub(crate) fn new(everybody: &Limits) -> Self {
        Self {
            everybody: ArcSwap::from_pointee(everybody.clone()),
            scopes: Mutex::default(),
            clock: Arc::new(Clock::new(SystemTime::now())),
        }
    }

    /// Takes over the limits of the whole gateway. Those of others come with their requests.
    pub(crate) fn apply(&self, everybody: &Limits) {
        self.everybody.store(Arc::new(everybody.clone()));
    }

    /// The bounds of one answer: its length and its pace.
    pub(crate) fn of_one_answer(&self, identity: &Identity, model: &Limits) -> Limits {
        let everybody = self.everybody.load();
        Limits::of_one_answer([&**everybody, &identity.tenant.settings.limits, &*identity.limits, model])
    }

    /// Takes what a request needs of all limits that apply to it, or nothing. The estimates are of tokens.
    ///
    /// # Errors
    /// 429, with the limit that takes longest to have room again.
    pub(crate) fn admit(
        &self,
        identity: &Identity,
        model: &str,
        model_limits: &Limits,
        estimate_input: u64,
        estimate_output: u64,
    ) -> Result<Held, Failure> {
        let everybody = self.everybody.load_full();
        let tenant = &identity.tenant;
        let mut limited = Vec::new();
        let mut add = |name: Name, limits: &Limits| {
            let allowance = allowance(limits);
            if !allowance.is_unlimited() {
                limited.push((name, allowance));
            }
        };
        add(Name::Gateway, &everybody);
        add(Name::Tenant(Arc::clone(&tenant.name)), &tenant.settings.limits);
        if let Some(key) = &identity.key {
            add(Name::Key(Arc::clone(key)), &identity.limits);
        }
        add(Name::Model(Arc::from(model)), model_limits);
        if limited.is_empty() {
            return Ok(Held { held: None, names: Vec::new() });
        }
        let declared = |name: &Name| !matches!(name, Name::Tenant(_)) || tenant.declared;
        let scopes =
            limited.iter().map(|(name, allowance)| self.scope(name, declared(name), *allowance)).collect();
        let names: Vec<_> = limited.into_iter().map(|(name, _)| name).collect();
        let need = Need { input: estimate_input, output: estimate_output };
        match take(scopes, need, &self.clock) {
            Ok(held) => Ok(Held { held: Some(held), names }),
            Err(refused) => Err(self.refusal(&refused, &names)),
        }
    }

    fn scope(&self, name: &Name, declared: bool, allowance: Allowance) -> Arc<Scope> {
        let now = self.clock.now();
        let mut scopes = self.lock();
        if let Some(known) = scopes.get_mut(name) {
            known.declared = declared;
            let scope = Arc::clone(&known.scope);
            drop(scopes);
            scope.adapt(allowance, now);
            return scope;
        }
        if scopes.len() >= MOST {
            forget(&mut scopes, |known| !known.declared);
        }
        let scope = Arc::new(Scope::new(allowance, now));
        scopes.insert(name.clone(), Known { scope: Arc::clone(&scope), declared });
        scope
    }

    fn refusal(&self, refused: &Refused, names: &[Name]) -> Failure {
        let Refused { scope, kind, limit, wait } = *refused;
        let whose = names.get(scope).map(Name::words).unwrap_or_default();
        let what = match kind {
            Kind::RequestsPerSecond => format!("{limit} requests per second"),
            Kind::RequestsPerMinute => format!("{limit} requests per minute"),
            Kind::TokensPerMinute => format!("{limit} tokens per minute"),
            Kind::InputTokensPerMinute => format!("{limit} input tokens per minute"),
            Kind::OutputTokensPerMinute => format!("{limit} output tokens per minute"),
            Kind::TokensPerDay => format!("{limit} tokens per day"),
            Kind::ConcurrentStreams => format!("{limit} answers at the same time"),
        };
        let seconds = u32::try_from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).unwrap_or(u32::MAX);
        let message = format!(
            "{whose} may use {what} ({}), which are used up; try again in {seconds} s",
            kind.as_str()
        );
        let mut failure = Failure::rejected(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
            .retry_after(seconds);
        let scopes = self.lock();
        let now = self.clock.now();
        let levels = names.iter().enumerate().filter_map(|(place, name)| Some((place, scopes.get(name)?)));
        let levels = levels
            .flat_map(|(place, known)| known.scope.levels(now).into_iter().map(move |level| (place, level)));
        let levels: Vec<_> = levels.collect();
        failure.headers = Some(Box::new(headers::of(&levels, names)));
        failure
    }

    /// Forgets what nobody uses, for as long as the gateway runs.
    pub(crate) async fn tend(&self) {
        let mut ticks = interval(TIDY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.clock.set(SystemTime::now());
            self.tidy();
        }
    }

    fn tidy(&self) {
        let now = self.clock.now();
        forget(&mut self.lock(), |known| known.scope.is_idle(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets scopes that no request holds.
fn forget(scopes: &mut HashMap<Name, Known>, which: impl Fn(&Known) -> bool) {
    // Whoever takes one up does it under the same lock.
    scopes.retain(|_, known| Arc::strong_count(&known.scope) > 1 || !which(known));
}

fn allowance(limits: &Limits) -> Allowance {
    Allowance {
        requests_per_second: limits.requests_per_second,
        requests_per_minute: limits.requests_per_minute,
        requests_burst: limits.requests_burst,
        tokens_per_minute: limits.tokens_per_minute,
        input_tokens_per_minute: limits.input_tokens_per_minute,
        output_tokens_per_minute: limits.output_tokens_per_minute,
        tokens_per_day: limits.tokens_per_day,
        concurrent_streams: limits.concurrent_streams,
    }
}

impl Held {
    /// From now on tokens are used: an upstream is asked.
    pub(crate) fn begin(&self) {
        if let Some(held) = &self.held {
            held.begin();
        }
    }

    /// Counts tokens of the answer as they come.
    pub(crate) fn output(&self, tokens: u64) {
        if let Some(held) = &self.held {
            held.output(tokens);
        }
    }

    /// Tells what the request has really used, where that is known.
    pub(crate) fn settle(&self, input: Option<u64>, output: Option<u64>) {
        if let Some(held) = &self.held {
            held.settle(input, output);
        }
    }

    /// The headers that tell the client where it stands.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.held.as_ref().map(|held| headers::of(&held.levels(), &self.names)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
