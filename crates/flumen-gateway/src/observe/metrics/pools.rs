//! The metrics of pools, their queues and their upstreams.

use std::{collections::HashMap, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Buckets, UpstreamLabels, WAITS};
use crate::pool::Pools;

#[derive(Debug)]
pub(super) struct PoolMetrics {
    tried: Family<TriedLabels, Counter>,
    hedges: Family<PoolLabels, Counter>,
    wait: Family<PoolLabels, Histogram, Buckets>,
    waiting: Family<PoolLabels, Gauge>,
    running: Family<PoolLabels, Gauge>,
    slots: Family<PoolLabels, Gauge>,
    served: Family<ShareLabels, Gauge<f64, AtomicU64>>,
    share: Family<ShareLabels, Gauge<f64, AtomicU64>>,
    tenant_waiting: Family<ShareLabels, Gauge>,
    tenant_oldest: Family<ShareLabels, Gauge<f64, AtomicU64>>,
    up: Family<UpstreamLabels, Gauge>,
    in_flight: Family<UpstreamLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TriedLabels {
    upstream: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ShareLabels {
    pool: String,
    tenant: String,
}

/// Tenants of one pool that have the same label.
#[derive(Debug, Default)]
struct Sum {
    service: f64,
    share: f64,
    waiting: usize,
    oldest_wait: Duration,
}

/// Tenants of one pool that metrics tell apart; those that got most come first.
const TENANTS: usize = 100;

impl PoolMetrics {
    pub(super) fn new() -> Self {
        Self {
            tried: Family::default(),
            hedges: Family::default(),
            wait: Family::new_with_constructor(WAITS),
            waiting: Family::default(),
            running: Family::default(),
            slots: Family::default(),
            served: Family::default(),
            share: Family::default(),
            tenant_waiting: Family::default(),
            tenant_oldest: Family::default(),
            up: Family::default(),
            in_flight: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_attempts",
            "Requests to upstreams of which one was not enough, by what came of them",
            self.tried.clone(),
        );
        registry.register("hedges", "Requests for which a second upstream was asked", self.hedges.clone());
        registry.register_with_unit(
            "queue_wait",
            "From the request to its turn",
            Unit::Seconds,
            self.wait.clone(),
        );
        registry.register("queue_waiting", "Requests that wait for their turn", self.waiting.clone());
        registry.register("pool_running", "Answers that run", self.running.clone());
        registry.register("pool_slots", "Answers that may run at once", self.slots.clone());
        registry.register(
            "tenant_service",
            "Weighted tokens that a tenant got of a pool",
            self.served.clone(),
        );
        registry.register(
            "tenant_share",
            "Share of a pool's service of the last minute that a tenant got",
            self.share.clone(),
        );
        registry.register("tenant_waiting", "Requests of a tenant that wait", self.tenant_waiting.clone());
        registry.register_with_unit(
            "tenant_oldest_wait",
            "How long the request of a tenant has waited that came first",
            Unit::Seconds,
            self.tenant_oldest.clone(),
        );
        registry.register("upstream_up", "Whether requests go to an upstream", self.up.clone());
        registry.register("upstream_in_flight", "Answers that an upstream gives", self.in_flight.clone());
    }

    /// Counts an upstream that was asked.
    pub(super) fn tried(&self, upstream: &str, outcome: &'static str) {
        let labels = TriedLabels { upstream: upstream.to_owned(), outcome };
        self.tried.get_or_create(&labels).inc();
    }

    /// Counts a hedge.
    pub(super) fn hedged(&self, pool: &str) {
        self.hedges.get_or_create(&labels(pool)).inc();
    }

    /// Notes how long a request waited.
    pub(super) fn waited(&self, pool: &str, wait: Duration) {
        self.wait.get_or_create(&labels(pool)).observe(wait.as_secs_f64());
    }

    /// Takes over how things stand now. Tenants with the same label are summed up.
    pub(super) fn read(&self, pools: &Pools, label: impl Fn(&str) -> String) {
        for gauges in [&self.waiting, &self.running, &self.slots] {
            gauges.clear();
        }
        for gauges in [&self.served, &self.share, &self.tenant_oldest] {
            gauges.clear();
        }
        self.tenant_waiting.clear();
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for pool in pools.all() {
            let (of, now) = (labels(pool.name()), pool.admission().snapshot());
            self.waiting.get_or_create(&of).set(whole(now.waiting));
            self.running.get_or_create(&of).set(whole(now.in_flight));
            self.slots.get_or_create(&of).set(whole(now.slots));
            // Summed up before they are set: somebody else may scrape at the same time.
            let mut sums = HashMap::<String, Sum>::new();
            for tenant in now.tenants.into_iter().take(TENANTS) {
                let sum = sums.entry(label(&tenant.name)).or_default();
                sum.service += tenant.service;
                sum.share += tenant.share;
                sum.waiting += tenant.waiting;
                sum.oldest_wait = sum.oldest_wait.max(tenant.oldest_wait.unwrap_or_default());
            }
            for (tenant, sum) in sums {
                let of = ShareLabels { pool: pool.name().to_owned(), tenant };
                self.served.get_or_create(&of).set(sum.service);
                self.share.get_or_create(&of).set(sum.share);
                self.tenant_waiting.get_or_create(&of).set(whole(sum.waiting));
                self.tenant_oldest.get_or_create(&of).set(sum.oldest_wait.as_secs_f64());
            }
        }
        self.up.clear();
        self.in_flight.clear();
        for member in pools.members() {
            let standing = member.standing();
            let of = UpstreamLabels { upstream: standing.name };
            self.up.get_or_create(&of).set(i64::from(matches!(standing.state, "up" | "slow-start")));
            self.in_flight.get_or_create(&of).set(whole(standing.in_flight));
        }
    }
}

fn labels(pool: &str) -> PoolLabels {
    PoolLabels { pool: pool.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flumen_admit::{Asked, Priority};

    use super::{super::super::tenants::Tenants, *};
    use crate::config::{self, Config};

    #[tokio::test(start_paused = true)]
    async fn tenants_beyond_the_number_of_labels_are_summed_up() {
        let mut config = Config::embedded();
        let mut pool = config::Pool::of(BTreeMap::from([("sim".to_owned(), 1.0)]));
        pool.concurrency = 1;
        config.pools.insert("p".to_owned(), pool);
        let pools = Pools::new(&config, None);
        let enter = |tenant: &str| {
            let asked = Asked { tenant: tenant.into(), weight: 1.0, priority: Priority::Normal, input: 10 };
            pools.get("p").unwrap().enter(asked).unwrap()
        };
        let mut tickets = vec![enter("declared"), enter("late")];
        tokio::time::advance(Duration::from_secs(2)).await;
        tickets.extend(["later", "later", "known", ""].map(enter));

        let (metrics, tenants) = (PoolMetrics::new(), Tenants::default());
        // The others have counted them already.
        tenants.label("known", false);
        (1..1000).for_each(|number| drop(tenants.label(&format!("t{number}"), false)));
        for _ in 0..2 {
            metrics.read(&pools, |name| tenants.label(name, name == "declared"));
            let of = |tenant: &str| ShareLabels { pool: "p".to_owned(), tenant: tenant.to_owned() };
            let waiting = |tenant| metrics.tenant_waiting.get(&of(tenant)).map(|gauge| gauge.get());
            assert_eq!(
                ["declared", "known", "anonymous", "other"].map(waiting),
                [Some(0), Some(1), Some(1), Some(3)]
            );
            assert_eq!(["late", "later"].map(waiting), [None, None]);
            let oldest = metrics.tenant_oldest.get(&of("other")).unwrap().get();
            assert!((oldest - 2.0).abs() < 0.01, "{oldest}");
        }
        drop(tickets);
    }
}
