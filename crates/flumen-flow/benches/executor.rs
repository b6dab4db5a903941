//! Throughput and latency of the executor beside tokio's and rayon's. `cargo bench -p flumen-flow --bench executor`

#![expect(clippy::cast_precision_loss, reason = "figures of a few digits")]

use std::{
    hint::black_box,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_flow::executor::{Executor, Policy, Queue, QueueConfig};
use tokio::time::Instant;

const TASKS: usize = 300_000;
const RUNS: usize = 7;
const THREADS: usize = 2;

/// Counts finished tasks and wakes who waits for the last.
struct Latch {
    left: AtomicUsize,
    done: Mutex<bool>,
    wake: Condvar,
}

impl Latch {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(count), done: Mutex::new(false), wake: Condvar::new() })
    }

    fn count(&self) {
        black_box(self);
        if self.left.fetch_sub(1, Relaxed) == 1 {
            *self.done.lock().expect("nobody panics") = true;
            self.wake.notify_all();
        }
    }

    fn wait(&self) {
        let mut done = self.done.lock().expect("nobody panics");
        while !*done {
            done = self.wake.wait(done).expect("nobody panics");
        }
    }
}

/// Median time of `RUNS` runs in which `bring` brings one task `TASKS` times, per task.
fn throughput(bring: impl Fn(usize, Arc<Latch>)) -> f64 {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let latch = Latch::new(TASKS);
            let started = Instant::now();
            (0..TASKS).for_each(|n| bring(n, Arc::clone(&latch)));
            latch.wait();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2].as_secs_f64() * 1e9 / TASKS as f64
}

/// Median and p99 of the time from bringing a task to an idle pool until it runs.
fn latency(bring: impl Fn(Box<dyn FnOnce() + Send>)) -> (Duration, Duration) {
    let mut waits: Vec<Duration> = (0..5_000)
        .map(|_| {
            let (send, receive) = std::sync::mpsc::channel();
            let brought = Instant::now();
            bring(Box::new(move || send.send(Instant::now()).expect("somebody waits")));
            let wait = receive.recv().expect("the task runs") - brought;
            // Long enough for the pool to fall asleep.
            let until = Instant::now() + Duration::from_micros(100);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            wait
        })
        .collect();
    waits.sort_unstable();
    (waits[waits.len() / 2], waits[waits.len() * 99 / 100])
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!(
        "tiny tasks brought by one thread, {THREADS} threads in each pool, {cores} cores; medians of {RUNS} runs of {TASKS}"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(THREADS)
        .build()
        .expect("a runtime");
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("a pool");
    let _entered = runtime.enter();
    let blocking = throughput(|_, latch| drop(tokio::task::spawn_blocking(move || latch.count())));
    let as_it_comes = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let usual = throughput(|_, latch| drop(as_it_comes.spawn_blocking(move || latch.count())));
    let spawned = throughput(|_, latch| drop(tokio::spawn(async move { latch.count() })));
    let rayoned = throughput(|_, latch| rayon.spawn(move || latch.count()));
    println!("{:<32} {:>8}", "", "ns/task");
    println!("{:<32} {blocking:>8.0}", "tokio spawn_blocking, 2 threads");
    println!("{:<32} {usual:>8.0}", "the same, up to 512 threads");
    println!("{:<32} {spawned:>8.0}", "tokio spawn");
    println!("{:<32} {rayoned:>8.0}", "rayon spawn");
    for queues in [1, 8, 64] {
        let executor = Executor::new("bench", THREADS, Policy::Count);
        let config = QueueConfig::default().capacity(TASKS);
        let queues_of: Vec<Queue> =
            (0..queues).map(|n| executor.define(&format!("q{n}"), config).expect("a new queue")).collect();
        let own = throughput(|n, latch| {
            queues_of[n % queues].submit(move || latch.count()).expect("there is room");
        });
        println!(
            "{:<32} {own:>8.0}   rate: {:.1}x and {:.1}x spawn_blocking; time: {:.2}x rayon",
            format!("flumen, {queues} queues"),
            blocking / own,
            usual / own,
            own / rayoned
        );
    }
    println!("\nfrom bringing a task to an idle pool until it runs, p50 and p99");
    let executor = Executor::new("bench", THREADS, Policy::Count);
    let queue = executor.queue("q");
    println!("{:<32} {:?}", "tokio spawn_blocking", latency(|f| drop(tokio::task::spawn_blocking(f))));
    println!("{:<32} {:?}", "tokio spawn", latency(|f| drop(tokio::spawn(async { f() }))));
    println!("{:<32} {:?}", "rayon spawn", latency(|f| rayon.spawn(f)));
    println!("{:<32} {:?}", "flumen", latency(|f| queue.spawn(f).expect("there is room").detach()));
}
