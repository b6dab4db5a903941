use crate::{priority::Priority, schedule::TenantReport, sync::lock};

use super::Admission;

/// Tenants that a snapshot has at most.
const TENANTS: usize = 256;

/// Admission as it is now.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Requests that may be in now: the least of the three below.
    pub slots: usize,
    /// Requests that may be in by the settings.
    pub configured: usize,
    /// The cap from outside; `usize::MAX` if it was never set.
    pub usable: usize,
    /// The adaptive limit.
    pub adaptive: Option<usize>,
    /// Requests that are in.
    pub in_flight: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that wait in each class, the most urgent first.
    pub classes: [(Priority, usize); 3],
    /// Requests let in per second, over about the last minute.
    pub drain_rate: f64,
    /// Tenants, at most 256: those with the most that waits or runs, then those with the highest share.
    pub tenants: Vec<TenantReport>,
    /// Tenants that are known but left out.
    pub left_out: usize,
}

impl Admission {
    /// How things stand. Holds the lock while it walks all tenants that are known: for people and metrics, not for every request.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = lock(&self.state);
        let now = self.now();
        let tenants = state.schedule.report(now, TENANTS);
        Snapshot {
            slots: state.slots(),
            configured: state.settings.slots,
            usable: state.usable,
            adaptive: state.limit.as_ref().map(crate::adaptive::Limit::get),
            in_flight: state.schedule.running(),
            waiting: state.schedule.waiting(),
            classes: state.schedule.waiting_by_class(),
            drain_rate: state.rate(now),
            left_out: state.schedule.tenants() - tenants.len(),
            tenants,
        }
    }
}
