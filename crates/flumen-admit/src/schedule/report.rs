//! What the schedule looks like from outside, and what it forgets.

use std::{sync::Arc, time::Duration};

use super::{
    CLASSES, Place, Schedule,
    class::DEBTORS,
    service::shown,
    tenant::{Tenant, TenantId},
};
use crate::priority::{Policy, Priority};

/// How long a tenant is kept for those who look, after its last request.
const KEPT: Duration = Duration::from_mins(2);

/// A tenant as it is now.
#[derive(Clone, Debug)]
pub struct TenantReport {
    /// Its name.
    pub name: Arc<str>,
    /// Its weight, from its last request.
    pub weight: f64,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that are being served.
    pub running: usize,
    /// How long the oldest of the waiting has waited.
    pub oldest_wait: Option<Duration>,
    /// Service since it is known, in weighted tokens, not divided by its weight. A tenant is forgotten some
    /// minutes after its last request, or sooner when very many come and go.
    pub service: f64,
    /// Its part of everybody's service of about the last minute, 0 ..= 1.
    pub share: f64,
    /// The classes in which it has requests or a debt.
    pub classes: Vec<ClassReport>,
}

/// A tenant in one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassReport {
    /// The class; a request that has aged counts in the one to which it has risen.
    pub priority: Priority,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that are being served.
    pub running: usize,
    /// The counter, in service per weight. Only differences between tenants mean anything.
    pub counter: f64,
}

impl<E> Schedule<E> {
    /// The tenants, at most `most` of them: first those with the most requests that wait, then those with the most that run, then
    /// those with the highest share. Walks all tenants.
    pub fn report(&mut self, now: Duration, most: usize) -> Vec<TenantReport> {
        self.tick(now);
        let streaming: Vec<(TenantId, usize)> = self
            .tenants
            .iter()
            .flat_map(|(id, tenant)| {
                let running =
                    |class: &usize| tenant.flows[*class].as_ref().is_some_and(|flow| flow.running > 0);
                (0..CLASSES).filter(running).map(move |class| (id, class)).collect::<Vec<_>>()
            })
            .collect();
        for (id, class) in streaming {
            self.collect(id, class);
        }
        let all = self.recent.get(self.now).max(f64::MIN_POSITIVE);
        let share = |tenant: &Tenant<E>| (tenant.recent.get(self.now) / all).clamp(0.0, 1.0);
        let mut tenants: Vec<(&Tenant<E>, f64)> =
            self.tenants.iter().map(|(_, tenant)| (tenant, share(tenant))).collect();
        let order = |a: &(&Tenant<E>, f64), b: &(&Tenant<E>, f64)| {
            let busy = |tenant: &Tenant<E>| (tenant.waiting, tenant.running);
            busy(b.0).cmp(&busy(a.0)).then(b.1.total_cmp(&a.1)).then_with(|| a.0.name.cmp(&b.0.name))
        };
        if most < tenants.len() {
            tenants.select_nth_unstable_by(most, order);
            tenants.truncate(most);
        }
        tenants.sort_unstable_by(order);
        tenants.into_iter().map(|(tenant, share)| self.describe(tenant, share)).collect()
    }

    fn describe(&self, tenant: &Tenant<E>, share: f64) -> TenantReport {
        let since = tenant
            .flows
            .iter()
            .flatten()
            .filter_map(|flow| Some(flow.queue.first_key_value()?.1.since))
            .min();
        let classes = Priority::ALL.into_iter().zip(&tenant.flows).filter_map(|(priority, flow)| {
            let flow = flow.as_ref()?;
            let (waiting, running) = (flow.queue.len(), flow.running);
            Some(ClassReport { priority, waiting, running, counter: shown(flow.counter) })
        });
        TenantReport {
            name: Arc::clone(&tenant.name),
            weight: tenant.weight,
            waiting: tenant.waiting,
            running: tenant.running,
            oldest_wait: since.map(|since| self.now.saturating_sub(since)),
            service: tenant.service,
            share,
            classes: classes.collect(),
        }
    }

    /// Requests that wait in each class, the most urgent first.
    pub fn waiting_by_class(&self) -> [(Priority, usize); CLASSES] {
        std::array::from_fn(|class| (Priority::ALL[class], self.classes[class].waiting))
    }

    /// How many are probably served before a request that waits: an estimate. Tenants are taken to have equal counters and
    /// weights, and nobody to come or leave. Walks the queue of the tenant.
    pub fn ahead(&self, place: Place) -> usize {
        let Some(tenant) = self.tenants.get(place.tenant) else { return 0 };
        let found = (0..CLASSES).find_map(|class| {
            let flow = tenant.flows[class].as_ref()?;
            flow.queue.contains_key(&place.number).then(|| (class, flow.queue.range(..place.number).count()))
        });
        found.map_or(0, |(class, own)| self.estimate(Some(tenant), class, own))
    }

    /// How many would probably be served before a request that entered now: an estimate, as [`ahead`](Self::ahead).
    pub fn ahead_of_new(&self, tenant: &str, priority: Priority) -> usize {
        let class = priority as usize;
        let tenant = self.tenants.find(tenant).and_then(|id| self.tenants.get(id));
        let own = tenant.and_then(|tenant| tenant.flows[class].as_ref()).map_or(0, |flow| flow.queue.len());
        self.estimate(tenant, class, own)
    }

    /// How many go before a request of a tenant that has `own` before it in its flow.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of small numbers"
    )]
    fn estimate(&self, tenant: Option<&Tenant<E>>, class: usize, own: usize) -> usize {
        let state = &self.classes[class];
        let flow = tenant.and_then(|tenant| tenant.flows[class].as_ref());
        let (queued, active) =
            flow.map_or((0, 0), |flow| (flow.queue.len(), usize::from(flow.key.is_some())));
        // The others take turns with this one, as long as they have requests.
        let turns = (own + 1).saturating_mul(state.active.len() - active);
        let within = own + turns.min(state.waiting - queued);
        let Policy::Weighted(shares) = self.rules.policy else {
            return within + self.classes[..class].iter().map(|higher| higher.waiting).sum::<usize>();
        };
        let others = (0..CLASSES).filter(|&other| other != class).map(|other| {
            let turns = (within + 1) as f64 * shares.of(other) / shares.of(class);
            self.classes[other].waiting.min(turns as usize)
        });
        within + others.sum::<usize>()
    }

    /// Forgets flows without debt, and tenants without flows after a while.
    pub(super) fn forget(&mut self) {
        for class in 0..CLASSES {
            while let Some(id) = self.classes[class].forget() {
                let tenant = self.tenants.known(id);
                tenant.flows[class] = None;
                if tenant.flows.iter().all(Option::is_none) {
                    tenant.resting = Some(self.now);
                    self.resting.push_back((self.now, id));
                }
            }
        }
        while let Some(&(since, id)) = self.resting.front() {
            if self.now.saturating_sub(since) < KEPT && self.resting.len() <= DEBTORS {
                break;
            }
            self.resting.pop_front();
            if self.tenants.get(id).is_some_and(|tenant| tenant.resting == Some(since)) {
                self.tenants.remove(id);
            }
        }
    }
}
