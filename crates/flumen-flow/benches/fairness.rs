//! Who waits for whom, under each policy. `cargo bench -p flumen-flow --bench fairness`

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use flumen_flow::executor::{Executor, Policy, QueueConfig};
use tokio::time::Instant;

const THREADS: usize = 4;

#[expect(
    clippy::disallowed_methods,
    reason = "the task blocks its thread for a known time: that is what is measured"
)]
fn work(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn capped(cap: Option<usize>) -> QueueConfig {
    cap.and_then(NonZeroUsize::new)
        .map_or_else(QueueConfig::default, |cap| QueueConfig::default().concurrency(cap))
}

/// Three classes of 200 tasks of 1, 5 and 20 ms: when the last task of each ends.
async fn classes(policy: Policy, cap: Option<usize>) -> [Duration; 3] {
    let executor = Executor::new("fair", THREADS, policy);
    let ends = Arc::new(Mutex::new([Duration::ZERO; 3]));
    let started = Instant::now();
    let mut all = Vec::new();
    let queues: Vec<_> =
        (0..3).map(|class| executor.define(&format!("{class}"), capped(cap)).expect("a new queue")).collect();
    for _ in 0..200 {
        for (class, cost) in [1, 5, 20].into_iter().enumerate() {
            let ends = Arc::clone(&ends);
            let run = queues[class].spawn(move || {
                work(cost);
                let mut ends = ends.lock().expect("nobody panics");
                ends[class] = ends[class].max(started.elapsed());
            });
            all.push(run.expect("there is room"));
        }
    }
    for work in all {
        work.await.expect("nobody panics");
    }
    let ends = ends.lock().expect("nobody panics");
    *ends
}

/// A task of 1 ms each 170 ms beside a backlog of 24 tasks of 1 s: how long the short ones wait (p50, p99, longest), and
/// when the long ones are done.
async fn hogs(policy: Policy, cap: Option<usize>) -> ([Duration; 3], Duration) {
    let executor = Executor::new("fair", THREADS, policy);
    let (short, long) = (executor.queue("short"), executor.define("long", capped(cap)).expect("a new queue"));
    let started = Instant::now();
    let hogs: Vec<_> = (0..24).map(|_| long.spawn(|| work(1_000)).expect("there is room")).collect();
    let mut waits = Vec::new();
    let mut short_ones = Vec::new();
    for n in 0..34 {
        tokio::time::sleep_until(started + Duration::from_millis(100 + 170 * n)).await;
        let brought = Instant::now();
        short_ones.push(short.spawn(move || {
            let waited = brought.elapsed();
            work(1);
            waited
        }));
    }
    for work in short_ones {
        waits.push(work.expect("there is room").await.expect("nobody panics"));
    }
    for work in hogs {
        work.await.expect("nobody panics");
    }
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
    ([at(50), at(99), at(100)], started.elapsed())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{THREADS} threads; tasks sleep, so the number of cores does not matter");
    println!(
        "\n200 tasks each of 1, 5 and 20 ms: end of each class in s (Sogou Workflow on such a machine: 1.315 1.319 1.335)"
    );
    for (policy, cap) in [(Policy::Count, None), (Policy::Time, None), (Policy::Time, Some(3))] {
        let [a, b, c] = classes(policy, cap).await.map(|end| end.as_secs_f64());
        println!("{:<24} {a:.3} {b:.3} {c:.3}", label(policy, cap));
    }
    println!(
        "\n1 ms tasks beside a backlog of 24 x 1 s: their wait in ms, p50 p99 max (Sogou Workflow: p50 1471, max 2603); backlog done in s"
    );
    for (policy, cap) in
        [(Policy::Count, None), (Policy::Time, None), (Policy::Count, Some(3)), (Policy::Time, Some(3))]
    {
        let (waits, done) = hogs(policy, cap).await;
        let [p50, p99, max] = waits.map(|wait| wait.as_secs_f64() * 1e3);
        println!("{:<24} {p50:.1} {p99:.1} {max:.1}   {:.2}", label(policy, cap), done.as_secs_f64());
    }
}

fn label(policy: Policy, cap: Option<usize>) -> String {
    let policy = match policy {
        Policy::Count => "count",
        Policy::Time => "time",
    };
    cap.map_or_else(|| policy.to_owned(), |cap| format!("{policy}, cap {cap} of {THREADS}"))
}
