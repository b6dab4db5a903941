//! A million runs that end in every way leave nothing behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use flumen_flow::{
    Context, Error, Task,
    executor::{Executor, Policy},
    parallel, task,
    wait::Signals,
};

const RUNS: u64 = 1_000_000;
const WORKERS: u64 = 4;

/// Lives as long as the task that holds it.
struct Alive(Arc<AtomicU64>);

impl Alive {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_million_runs_with_cancels_errors_and_panics_leave_nothing() {
    std::panic::set_hook(Box::new(|panic| {
        // The panics of this test are its own affair; others are shown.
        if panic.payload().downcast_ref::<&str>() != Some(&"on purpose") {
            eprintln!("{panic}");
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let executor = Executor::new("leak", 2, Policy::Count);
    let (alive, signals) = (Arc::new(AtomicU64::new(0)), Signals::<u64>::new());
    let (queue, never) = (executor.queue("q"), signals.clone());
    let inside = Arc::clone(&alive);
    let leaf = task(move |cx: Context, n: u64| {
        let guard = Alive::new(&inside);
        let (queue, never, inner) = (queue.clone(), never.clone(), Arc::clone(&inside));
        async move {
            let _guard = guard;
            cx.put(n);
            match n % 8 {
                0 => Err(Error::failed("on purpose")),
                1 => panic!("on purpose"),
                2 => {
                    let guard = Alive::new(&inner);
                    queue.run(move || drop(guard)).await?;
                    Ok(n)
                }
                3 => {
                    let guard = Alive::new(&inner);
                    queue
                        .run(move || {
                            if n > 0 {
                                drop(guard);
                                panic!("on purpose")
                            }
                        })
                        .await?;
                    Ok(n)
                }
                4 => Ok(never.wait("never").await),
                5 => {
                    tokio::task::yield_now().await;
                    Ok(n)
                }
                _ => Ok(n),
            }
        }
    });
    let flow = Arc::new(
        parallel((leaf.clone().named("a"), leaf.clone().then(|_, n| async move { Ok(n + 1) }))).named("both"),
    );
    let mut resident_early = 0;
    for part in 0..10 {
        runtime.block_on(async {
            let workers = (0..WORKERS).map(|worker| {
                let flow = Arc::clone(&flow);
                tokio::spawn(async move {
                    for n in 0..RUNS / 10 / WORKERS {
                        let run = Arc::clone(&flow).start(&Context::new(), n * WORKERS + worker);
                        match n % 3 {
                            0 => drop(run),
                            // Waits for ever in one kind of run, so that one is always cancelled.
                            _ if (n * WORKERS + worker) % 8 == 4 => {
                                run.cancel();
                                let _ = run.await;
                            }
                            _ => drop(run.await),
                        }
                    }
                })
            });
            for worker in workers {
                worker.await.unwrap();
            }
        });
        if part == 1 {
            resident_early = resident();
        }
    }
    drop((flow, leaf));
    runtime.block_on(executor.shutdown());
    let metrics = runtime.metrics();
    assert_eq!(metrics.num_alive_tasks(), 0, "tasks of the runtime");
    drop(runtime);
    assert_eq!(alive.load(Relaxed), 0, "futures and closures");
    assert_eq!(signals.waiters("never"), 0, "waiters");
    assert!(executor.stats().is_empty(), "queues: {:?}", executor.stats());
    let grown = resident().saturating_sub(resident_early);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more than after the first fifth");
}
