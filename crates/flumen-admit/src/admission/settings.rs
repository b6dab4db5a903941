use std::time::Duration;

use crate::{
    adaptive::Adaptive,
    priority::Policy,
    schedule::{Rules, Weights},
};

/// What admission is set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Requests that may be in at the same time.
    pub slots: usize,
    /// Requests that may wait in all.
    pub queue: usize,
    /// Requests of one tenant that may wait.
    pub queue_per_tenant: usize,
    /// The longest wait.
    pub wait: Duration,
    /// What tokens cost.
    pub weights: Weights,
    /// How the classes share.
    pub policy: Policy,
    /// Whoever has waited longer than this counts as one class higher, and again after each further time; zero: never. To be longer
    /// than the waits that are usual: when everybody waits for more than twice this, all have risen to the first class.
    pub ageing: Duration,
    /// A limit below `slots` that finds its own height.
    pub adaptive: Option<Adaptive>,
}

impl Default for Settings {
    /// 64 slots; 1024 may wait, 256 of one tenant, for a minute; strict classes with an ageing of 15 seconds.
    fn default() -> Self {
        Self {
            slots: 64,
            queue: 1024,
            queue_per_tenant: 256,
            wait: Duration::from_mins(1),
            weights: Weights::default(),
            policy: Policy::Strict,
            ageing: Duration::from_secs(15),
            adaptive: None,
        }
    }
}

impl Settings {
    pub(super) fn rules(&self) -> Rules {
        let Self { weights, policy, ageing, queue, queue_per_tenant, .. } = *self;
        Rules { weights, policy, ageing, queue, queue_per_tenant }
    }
}
