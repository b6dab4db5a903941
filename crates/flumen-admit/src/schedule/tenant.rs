//! A tenant and its requests of each class.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    CLASSES,
    service::{Rates, Recent},
};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Index of a tenant that is known.
pub(super) type TenantId = usize;

/// Output tokens that are not in the tenant's counters yet. Streams add to it without a lock.
#[derive(Debug, Default)]
pub(super) struct Meter([AtomicU64; CLASSES]);

impl Meter {
    pub(super) fn add(&self, class: usize, tokens: u64) {
        self.0[class].fetch_add(tokens, Relaxed);
    }

    pub(super) fn take(&self, class: usize) -> u64 {
        let meter = &self.0[class];
        // Most of the time there is nothing: looking costs less than writing.
        if meter.load(Relaxed) == 0 { 0 } else { meter.swap(0, Relaxed) }
    }
}

#[derive(Debug)]
pub(super) struct Tenant<E> {
    pub(super) name: Arc<str>,
    pub(super) weight: f64,
    pub(super) rates: Rates,
    pub(super) meter: Arc<Meter>,
    pub(super) flows: [Option<Flow<E>>; CLASSES],
    pub(super) waiting: usize,
    pub(super) running: usize,
    /// Weighted tokens, not divided by the tenant's weight.
    pub(super) service: f64,
    pub(super) recent: Recent,
    /// Since when it has had no flow; it is kept for a while for those who look.
    pub(super) resting: Option<Duration>,
}

/// A tenant's requests of one class.
#[derive(Debug)]
pub(super) struct Flow<E> {
    pub(super) counter: u128,
    /// By number, which is the order of arrival.
    pub(super) queue: BTreeMap<u64, Waiting<E>>,
    pub(super) running: usize,
    /// Its place among the flows of the class that have waiting requests: counter and number of the first request.
    pub(super) key: Option<(u128, u64)>,
    /// How often it has come back to the queue.
    pub(super) joins: u64,
    /// How far its counter was above the floor when it came back last.
    pub(super) slack: u128,
}

#[derive(Debug)]
pub(super) struct Waiting<E> {
    pub(super) entry: E,
    pub(super) since: Duration,
    pub(super) input: u64,
}

impl<E> Flow<E> {
    pub(super) fn new(counter: u128) -> Self {
        Self { counter, queue: BTreeMap::new(), running: 0, key: None, joins: 0, slack: 0 }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running == 0
    }
}

/// The tenants that are known.
#[derive(Debug)]
pub(super) struct Tenants<E> {
    names: HashMap<Arc<str>, TenantId>,
    all: Vec<Option<Tenant<E>>>,
    free: Vec<TenantId>,
}

impl<E> Tenants<E> {
    pub(super) fn new() -> Self {
        Self { names: HashMap::new(), all: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<TenantId> {
        self.names.get(name).copied()
    }

    pub(super) fn get(&self, id: TenantId) -> Option<&Tenant<E>> {
        self.all.get(id)?.as_ref()
    }

    /// A tenant that has a request here or a flow.
    pub(super) fn known(&mut self, id: TenantId) -> &mut Tenant<E> {
        self.all[id].as_mut().expect("a tenant is known while it has a request or a flow")
    }

    /// A flow that has a request or a debt.
    pub(super) fn flow(&mut self, id: TenantId, class: usize) -> &mut Flow<E> {
        self.known(id).flows[class].as_mut().expect("a flow is known while it has a request or a debt")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TenantId, &Tenant<E>)> {
        self.all.iter().enumerate().filter_map(|(id, tenant)| Some((id, tenant.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tenant<E>> {
        self.all.iter_mut().flatten()
    }

    pub(super) fn add(&mut self, name: &Arc<str>, weight: f64, rates: Rates) -> TenantId {
        let tenant = Tenant {
            name: Arc::clone(name),
            weight,
            rates,
            meter: Arc::default(),
            flows: [const { None }; CLASSES],
            waiting: 0,
            running: 0,
            service: 0.0,
            recent: Recent::default(),
            resting: None,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.all[id] = Some(tenant);
        self.names.insert(Arc::clone(name), id);
        id
    }

    pub(super) fn remove(&mut self, id: TenantId) {
        if let Some(tenant) = self.all[id].take() {
            self.names.remove(&tenant.name);
            self.free.push(id);
        }
    }
}
