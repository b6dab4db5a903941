//! The flows of one class, by counter.

use std::collections::BTreeSet;

use super::{service::Rates, tenant::TenantId};

/// Idle flows of a class that are remembered for their debts.
pub(super) const DEBTORS: usize = 4096;

#[derive(Debug)]
pub(super) struct Class {
    /// Flows with waiting requests: counter, number of the first request, tenant.
    pub(super) active: BTreeSet<(u128, u64, TenantId)>,
    /// Flows with nothing waiting and nothing running whose counters are above the floor.
    pub(super) idle: BTreeSet<(u128, TenantId)>,
    /// Requests that wait.
    pub(super) waiting: usize,
    /// The flow that was served last when nobody was left waiting.
    pub(super) last: Option<TenantId>,
    /// Where a flow begins that comes back. It never falls.
    pub(super) floor: u128,
    /// The highest counter of a flow that was forgotten with a debt, because there were too many.
    pub(super) forgotten: u128,
    /// The service of the class itself, for [`Policy::Weighted`](super::Policy::Weighted).
    pub(super) counter: u128,
    pub(super) rates: Rates,
    /// How often somebody has begun to wait here when nobody did.
    pub(super) joins: u64,
}

impl Class {
    pub(super) fn new(rates: Rates) -> Self {
        Self {
            active: BTreeSet::new(),
            idle: BTreeSet::new(),
            waiting: 0,
            last: None,
            floor: 0,
            forgotten: 0,
            counter: 0,
            rates,
            joins: 0,
        }
    }

    /// The idle flow of the least counter, if it is to be forgotten now.
    ///
    /// One at or below the floor would begin there anyway. Of the others the least are given up when there are too many:
    /// then whoever is not known begins where the highest of them stood, so that nobody gains by being forgotten.
    pub(super) fn forget(&mut self) -> Option<TenantId> {
        let &(counter, id) = self.idle.first()?;
        if counter > self.floor {
            if self.idle.len() <= DEBTORS {
                return None;
            }
            self.forgotten = self.forgotten.max(counter);
        }
        self.idle.pop_first();
        if self.last == Some(id) {
            self.last = None;
            self.floor = self.floor.max(counter);
        }
        Some(id)
    }
}
