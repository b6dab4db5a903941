//! The executor's queues under the model checker: many random interleavings of small programs.
//! Run with `cargo test -p flumen-flow --features shuttle --test executor_model --release`.
#![cfg(feature = "shuttle")]
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use flumen_flow::executor::{Executor, Policy, QueueConfig};
use shuttle::{check_pct, check_random, future::block_on, thread};

const RUNS: usize = 20_000;

fn all_ways(program: fn()) {
    check_random(program, RUNS);
    check_pct(program, RUNS, 3);
}

#[test]
fn no_work_is_lost_and_none_runs_twice() {
    all_ways(|| {
        let executor = Executor::new("model", 2, Policy::Count);
        let ran = Arc::new(AtomicUsize::new(0));
        let bringers: Vec<_> = ["a", "b"]
            .map(|name| {
                let (queue, ran) = (executor.queue(name), Arc::clone(&ran));
                thread::spawn(move || {
                    let works: Vec<_> = (0..2)
                        .map(|_| {
                            let ran = Arc::clone(&ran);
                            queue.spawn(move || ran.fetch_add(1, Relaxed)).unwrap()
                        })
                        .collect();
                    for work in works {
                        block_on(work).unwrap();
                    }
                })
            })
            .into();
        for bringer in bringers {
            bringer.join().unwrap();
        }
        assert_eq!(ran.load(Relaxed), 4);
        block_on(executor.shutdown());
    });
}

#[test]
fn a_cancel_at_any_time_leaves_no_entry() {
    all_ways(|| {
        let executor = Executor::new("model", 1, Policy::Count);
        let queue = executor.define("q", QueueConfig::default().capacity(2)).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let dropped = queue.spawn(move || count.fetch_add(1, Relaxed)).unwrap();
        let canceller = thread::spawn(move || drop(dropped));
        let count = Arc::clone(&ran);
        block_on(queue.run(move || count.fetch_add(10, Relaxed))).unwrap();
        canceller.join().unwrap();
        block_on(executor.shutdown());
        let stats = queue.stats();
        assert_eq!((stats.waiting, stats.running), (0, 0));
        assert_eq!(stats.done + stats.cancelled, 2);
        assert_eq!(ran.load(Relaxed) / 10, 1);
    });
}

#[test]
fn a_cap_never_strands_waiting_work() {
    all_ways(|| {
        let executor = Executor::new("model", 2, Policy::Count);
        let config = QueueConfig::default().concurrency(NonZeroUsize::MIN);
        let queue = executor.define("q", config).unwrap();
        let works: Vec<_> = (0..3).map(|n| queue.spawn(move || n).unwrap()).collect();
        for (n, work) in works.into_iter().enumerate() {
            assert_eq!(block_on(work).unwrap(), n);
        }
        block_on(executor.shutdown());
    });
}

#[test]
fn a_wake_during_a_turn_is_not_lost() {
    all_ways(|| {
        let executor = Executor::new("model", 1, Policy::Count);
        let (queue, mailbox) = (executor.queue("q"), flumen_flow::wait::Mailbox::new());
        let reader = mailbox.clone();
        let sender = thread::spawn(move || {
            mailbox.send(1);
        });
        assert_eq!(block_on(queue.run_async(async move { reader.receive().await })).unwrap(), 1);
        sender.join().unwrap();
        block_on(executor.shutdown());
    });
}
