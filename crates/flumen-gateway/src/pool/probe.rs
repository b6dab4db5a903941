//! Active health checks: upstreams with a health check are asked whether they are well, also while nobody uses them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{sleep, timeout};

use crate::core::Core;

/// Bad answers in a row after which an upstream is unwell. One good answer mends that.
const PATIENCE: u32 = 2;

/// Checks upstreams and lets the queues know who is back, for as long as it is polled.
pub(crate) async fn probe(core: Arc<Core>) {
    let mut failures: HashMap<String, u32> = HashMap::new();
    loop {
        let health = core.routing().config().health;
        check_all(&core, health.check_timeout, &mut failures).await;
        // Breakers and ejections end by time alone.
        let mut left = health.check_interval;
        while !left.is_zero() {
            let nap = left.min(Duration::from_millis(500));
            sleep(nap).await;
            core.pools().count_places();
            left -= nap;
        }
    }
}

async fn check_all(core: &Core, within: Duration, failures: &mut HashMap<String, u32>) {
    let routing = core.routing();
    let checks: FuturesUnordered<_> =
        routing
            .upstreams()
            .filter(|(_, upstream)| upstream.has_check())
            .map(|(name, upstream)| async move {
                (name, timeout(within, upstream.check()).await.unwrap_or(false))
            })
            .collect();
    let found: Vec<(&String, bool)> = checks.collect().await;
    failures.retain(|name, _| found.iter().any(|(known, _)| *known == name));
    let pools = core.pools();
    for (name, answered) in found {
        let count = failures.entry(name.clone()).or_default();
        *count = if answered { 0 } else { *count + 1 };
        let Some(member) = pools.member(name) else { continue };
        if *count == PATIENCE {
            tracing::warn!(upstream = name, "the upstream does not answer its health checks");
        }
        member.checked(*count < PATIENCE);
    }
    pools.count_places();
}
