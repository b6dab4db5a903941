//! What a step of a flow costs: time and allocations. `cargo bench -p flumen-flow --bench series`

#![expect(clippy::cast_precision_loss, reason = "figures of a few digits")]

use std::{hint::black_box, time::Duration};

use flumen_flow::{Context, Result, Task, parallel, series, task};
use tokio::time::Instant;

const STEPS: usize = 1_000;
const ROUNDS: usize = 2_000;
const RUNS: usize = 7;

async fn step(_cx: Context, n: u64) -> Result<u64> {
    Ok(black_box(n) + 1)
}

/// Ten steps that are one type, composed by the compiler.
macro_rules! ten {
    ($f:expr) => {
        task($f).then($f).then($f).then($f).then($f).then($f).then($f).then($f).then($f).then($f)
    };
}

fn measure<T: Task<Input = u64, Output = u64>>(what: &str, steps: usize, flow: &T) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let cx = Context::new();
    let rounds = (ROUNDS * STEPS / steps).max(1);
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    black_box(flow.run(&cx, 0).await.expect("no step fails"));
                }
            });
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let allocations = allocation_counter::measure(|| {
        runtime.block_on(async { black_box(flow.run(&cx, 0).await).expect("no step fails") });
    });
    let nanos = times[RUNS / 2].as_secs_f64() * 1e9 / (rounds * steps) as f64;
    let per_step = allocations.count_total as f64 / steps as f64;
    println!("{what:<44} {nanos:>8.1} ns/step {per_step:>8.3} allocations/step");
}

fn main() {
    println!("a step that adds one; medians of {RUNS} runs; one thread");
    measure("series of 1,000 (a list of one type)", STEPS, &series(vec![task(step); STEPS]));
    let hundred = series(vec![ten!(step); STEPS / 10]);
    measure("series of 1,000 (100 x 10 steps in one type)", STEPS, &hundred);
    measure("repeat 1,000 times", STEPS, &task(step).repeat().times(STEPS));
    measure("series of 1,000, behind pointers", STEPS, &series(vec![task(step).boxed(); STEPS]));
    measure("series of 1,000, each with a name", STEPS, &series(vec![task(step).named("step"); STEPS]));
    let both =
        || parallel((task(step), task(step))).then(|_, (a, b): (u64, u64)| async move { Ok(a.max(b)) });
    measure("series of 500 parallels of two", STEPS, &series(vec![both(); STEPS / 2]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let started = Instant::now();
    let runs = 200_000;
    runtime.block_on(async {
        for _ in 0..runs {
            task(step).start(&Context::new(), 0).await.expect("no step fails");
        }
    });
    println!(
        "{:<44} {:>8.1} ns/run",
        "start a run of one step and wait for it",
        started.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
    );
}
