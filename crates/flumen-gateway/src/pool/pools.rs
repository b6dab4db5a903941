//! All pools. What is known of an upstream survives a reload.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use flumen_admit::{Adaptive, Admission, Policy, Settings, Shares, Weights};
use tokio::{sync::Notify, time::Instant};

use super::{Budget, Member, Mutex, Pool, Turns};
use crate::config::{self, AdaptiveKind, Config, Priorities};

/// All pools, and all upstreams as they are known.
#[derive(Debug)]
pub(crate) struct Pools {
    members: BTreeMap<String, Arc<Member>>,
    by_name: BTreeMap<String, Arc<Pool>>,
    /// One for all, since an upstream may belong to several pools.
    freed: Arc<Notify>,
    /// Likewise.
    failing: Arc<Mutex<()>>,
}

impl Pools {
    /// The pools of a configuration. What was known of upstreams and queues that stay is kept.
    pub(crate) fn new(config: &Config, before: Option<&Self>) -> Self {
        let member = |(name, upstream): (&String, &config::Upstream)| {
            let known = before.and_then(|before| before.members.get(name));
            let member = match known {
                Some(member) => {
                    member.configure(upstream.concurrency, config.health);
                    Arc::clone(member)
                }
                None => Arc::new(Member::new(name, upstream.concurrency, config.health)),
            };
            (name.clone(), member)
        };
        let members: BTreeMap<_, _> = config.upstreams.iter().map(member).collect();
        let freed = before.map_or_else(Arc::default, |before| Arc::clone(&before.freed));
        let failing = before.map_or_else(Arc::default, |before| Arc::clone(&before.failing));
        let pool = |(name, pool): (&String, &config::Pool)| {
            let known = before.and_then(|before| before.by_name.get(name));
            let settings = settings(pool);
            let admission = match known {
                Some(known) => {
                    known.replaced.store(true, Relaxed);
                    known.admission.configure(settings);
                    Arc::clone(&known.admission)
                }
                None => Admission::new(settings),
            };
            let own: Vec<_> = pool
                .upstreams
                .iter()
                .filter_map(|(name, weight)| Some((Arc::clone(members.get(name)?), *weight)))
                .collect();
            let earned = vec![0.0; own.len()];
            let turns = Mutex::new(Turns { earned, budget: Budget::new(), judged: Instant::now() });
            let pool = Pool {
                name: name.clone(),
                config: pool.clone(),
                health: config.health,
                members: own,
                admission,
                turns,
                failing: Arc::clone(&failing),
                freed: Arc::clone(&freed),
                replaced: AtomicBool::new(false),
            };
            pool.count_places();
            (name.clone(), Arc::new(pool))
        };
        let by_name = config.pools.iter().map(pool).collect();
        Self { members, by_name, freed, failing }
    }

    /// A pool by its name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Pool>> {
        self.by_name.get(name)
    }

    /// All pools.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.by_name.values()
    }

    /// An upstream by its name.
    pub(crate) fn member(&self, name: &str) -> Option<&Arc<Member>> {
        self.members.get(name)
    }

    /// All upstreams.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// Time alone brings upstreams back: lets the queues know.
    pub(crate) fn count_places(&self) {
        self.all().for_each(|pool| pool.count_places());
    }
}

fn settings(pool: &config::Pool) -> Settings {
    let queue = &pool.queue;
    Settings {
        slots: pool.concurrency,
        queue: queue.length,
        queue_per_tenant: queue.per_tenant,
        wait: queue.wait,
        weights: Weights { input: queue.input_weight, output: queue.output_weight },
        policy: match queue.priorities {
            Priorities::Strict => Policy::Strict,
            Priorities::Weighted => Policy::Weighted(Shares::default()),
        },
        ageing: queue.ageing,
        adaptive: pool.adaptive.as_ref().map(adaptive),
    }
}

fn adaptive(adaptive: &config::Adaptive) -> Adaptive {
    match adaptive.kind {
        AdaptiveKind::Aimd => Adaptive::aimd(adaptive.least, adaptive.most, Some(adaptive.target)),
        AdaptiveKind::Gradient => Adaptive::gradient(adaptive.least, adaptive.most),
    }
}
