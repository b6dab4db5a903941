//! Requests and tokens by tenant.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use flumen_stream::Cause;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::record::Facts;
use crate::access::Tenant;

/// Tenants that only an identity provider names have labels of their own up to this number.
const MOST: usize = 1000;
const OTHER: &str = "other";

/// The metrics of tenants.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    requests: Family<RequestLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    undeclared: Mutex<HashSet<String>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    tenant: String,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    tenant: String,
    kind: &'static str,
}

impl Tenants {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("tenant_requests", "Requests to a model, by who asked", self.requests.clone());
        registry.register("tenant_tokens", "Tokens, where upstreams tell, by who asked", self.tokens.clone());
    }

    /// Counts a request that has ended.
    pub(super) fn settle(&self, facts: &Facts, cause: Cause) {
        let Some(tenant) = &facts.tenant else { return };
        let label = self.label(&tenant.name, tenant.declared);
        self.requests.get_or_create(&RequestLabels { tenant: label.clone(), cause: cause.as_str() }).inc();
        if let Some(usage) = facts.usage {
            for (kind, count) in [("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)] {
                self.tokens.get_or_create(&TokenLabels { tenant: label.clone(), kind }).inc_by(count);
            }
        }
    }

    /// What a tenant is called in every family: whoever has a label of their own has it in all of them.
    pub(super) fn label(&self, name: &str, declared: bool) -> String {
        if name.is_empty() {
            return Tenant::ANONYMOUS.to_owned();
        }
        if declared {
            return name.to_owned();
        }
        let mut undeclared = self.undeclared.lock().unwrap_or_else(PoisonError::into_inner);
        if undeclared.contains(name) {
            return name.to_owned();
        }
        if undeclared.len() >= MOST {
            return OTHER.to_owned();
        }
        undeclared.insert(name.to_owned());
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_that_nobody_declared_share_a_label_beyond_a_number() {
        let tenants = Tenants::default();
        for number in 0..MOST {
            let name = format!("t{number}");
            assert_eq!(tenants.label(&name, false), name);
        }
        assert_eq!(tenants.label("late", false), "other");
        assert_eq!(tenants.label("t7", false), "t7");
        assert_eq!(tenants.label("late", true), "late");
        assert_eq!(tenants.label("", true), "anonymous");
    }
}
