//! Three classes of work of unequal cost on four threads, under each policy: `cargo run -p flumen --example classes`. Under
//! `count` they finish together, under `time` the short ones are done first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen::flow::{
    Result,
    executor::{Executor, Policy},
};
use tokio::time::{Instant, interval};

const COSTS: [u64; 3] = [1, 5, 20];
const EACH: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    for policy in [Policy::Count, Policy::Time] {
        println!(
            "policy {policy:?}: {EACH} tasks each of 1, 5 and 20 ms, percent done\n{:>8} {:>6} {:>6} {:>6}",
            "ms", "1 ms", "5 ms", "20 ms"
        );
        run(policy).await?;
    }
    Ok(())
}

async fn run(policy: Policy) -> Result<()> {
    let executor = Executor::new("classes", 4, policy);
    let done: [_; 3] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
    let mut works = Vec::new();
    for (class, cost) in COSTS.into_iter().enumerate() {
        let queue = executor.queue(&format!("{cost} ms"));
        for _ in 0..EACH {
            let done = Arc::clone(&done[class]);
            works.push(queue.spawn(move || {
                busy(Duration::from_millis(cost));
                done.fetch_add(1, Relaxed);
            })?);
        }
    }
    let started = Instant::now();
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        let percent: Vec<usize> = done.iter().map(|done| done.load(Relaxed) * 100 / EACH).collect();
        println!(
            "{:>8} {:>6} {:>6} {:>6}",
            started.elapsed().as_millis(),
            percent[0],
            percent[1],
            percent[2]
        );
        if percent.iter().all(|percent| *percent == 100) {
            return Ok(());
        }
    }
}

/// Holds its thread, as a call that blocks does.
#[expect(clippy::disallowed_methods, reason = "on a thread of the executor, that is what it is for")]
fn busy(span: Duration) {
    std::thread::sleep(span);
}
