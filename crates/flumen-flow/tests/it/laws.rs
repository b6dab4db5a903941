//! Laws of composition, for any values.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use flumen_flow::{BoxTask, Context, Error, Result, Task, parallel, series, task};
use proptest::prelude::*;

/// What a random task does with a number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(i64),
    Mul(i64),
    Yield,
    Fail,
    FailAbove(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (-9_i64..9).prop_map(Step::Add),
        (-3_i64..4).prop_map(Step::Mul),
        Just(Step::Yield),
        Just(Step::Fail),
        (0_i64..50).prop_map(Step::FailAbove),
    ]
}

fn of(step: Step) -> BoxTask<i64, i64> {
    task(move |_, n: i64| async move {
        match step {
            Step::Add(m) => Ok(n.wrapping_add(m)),
            Step::Mul(m) => Ok(n.wrapping_mul(m)),
            Step::Yield => {
                tokio::task::yield_now().await;
                Ok(n)
            }
            Step::Fail => Err(Error::failed("fail")),
            Step::FailAbove(limit) if n > limit => Err(Error::failed(format!("{n} > {limit}"))),
            Step::FailAbove(_) => Ok(n),
        }
    })
    .boxed()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn outcome(flow: &impl Task<Input = i64, Output = i64>, input: i64) -> Result<i64, String> {
    runtime().block_on(flow.run(&Context::new(), input)).map_err(|error| error.to_string())
}

proptest! {
    /// (a then b) then c = a then (b then c), and a list is the same as a chain.
    #[test]
    fn series_associates(a in step(), b in step(), c in step(), input in -100_i64..100) {
        let left = of(a).chain(of(b)).chain(of(c));
        let right = of(a).chain(of(b).chain(of(c)));
        let list = series([of(a), of(b), of(c)]);
        let expected = outcome(&left, input);
        prop_assert_eq!(&outcome(&right, input), &expected);
        prop_assert_eq!(&outcome(&list, input), &expected);
    }

    /// A series of nothing gives its input back, on either side.
    #[test]
    fn the_empty_series_is_neutral(a in step(), input in -100_i64..100) {
        let empty = || series(Vec::<BoxTask<i64, i64>>::new());
        let expected = outcome(&of(a), input);
        prop_assert_eq!(&outcome(&empty().chain(of(a)), input), &expected);
        prop_assert_eq!(&outcome(&of(a).chain(empty()), input), &expected);
    }

    /// Every branch of a settled parallel comes to exactly the outcome that it has alone, once.
    #[test]
    fn parallel_settles_each_branch_once(
        steps in prop::collection::vec(step(), 0..8),
        width in 1_usize..9,
        input in -100_i64..100,
    ) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = |step| {
            let runs = Arc::clone(&runs);
            task(move |_, n: i64| { runs.fetch_add(1, Relaxed); async move { Ok(n) } }).chain(of(step)).boxed()
        };
        let flow = parallel(steps.iter().map(|&step| counted(step)).collect::<Vec<_>>()).width(width).settled();
        let settled = runtime().block_on(flow.run(&Context::new(), input)).unwrap();
        prop_assert_eq!(runs.load(Relaxed), steps.len());
        for (number, (got, step)) in settled.into_iter().zip(&steps).enumerate() {
            let alone = outcome(&of(*step), input).map_err(|error| format!("[{number}]: {error}"));
            prop_assert_eq!(got.map_err(|error| error.to_string()), alone);
        }
    }

    /// Cancel is total: whenever it comes, every task that began has been dropped, and nothing begins afterwards.
    #[test]
    fn cancel_is_total(polls in 0_usize..12, width in 1_usize..5, branches in 1_usize..6) {
        struct Alive(Arc<AtomicUsize>);
        impl Drop for Alive {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let (alive, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let one = |rounds: usize| {
            let (alive, begun) = (Arc::clone(&alive), Arc::clone(&begun));
            task(move |_, n: i64| {
                alive.fetch_add(1, Relaxed);
                begun.fetch_add(1, Relaxed);
                let guard = Alive(Arc::clone(&alive));
                async move {
                    let _guard = guard;
                    for _ in 0..rounds {
                        tokio::task::yield_now().await;
                    }
                    Ok(n)
                }
            })
            .named("leaf")
        };
        let flow = parallel((0..branches).map(one).collect::<Vec<_>>()).width(width).named("all");
        runtime().block_on(async {
            let run = flow.start(&Context::new(), 0);
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            run.cancel();
            let _ = run.await;
            let after = begun.load(Relaxed);
            tokio::task::yield_now().await;
            assert_eq!((alive.load(Relaxed), begun.load(Relaxed)), (0, after));
        });
    }
}

fn size(flow: &impl Task<Input = i64>) -> usize {
    let cx = Context::new();
    size_of_val(&flow.run(&cx, 0))
}

/// The size of a flow's future is about that of its largest task's, however it is composed: with layers that each hold it
/// twice, a few of them would not fit on a thread's stack.
#[test]
fn layers_do_not_multiply_the_size_of_futures() {
    const STATE: usize = 10_000;
    let large = || {
        task(|_, n: i64| async move {
            let state = [n; STATE / 8];
            tokio::task::yield_now().await;
            Ok(state[0])
        })
    };
    let alone = size(&large());
    assert!(alone >= STATE);
    let backoff = flumen_flow::Backoff::attempts(1);
    let wait = std::time::Duration::from_secs(1);
    assert!(size(&large().named("a").named("b").module("c")) < 2_000, "named tasks are in boxes");
    let layers = large().then(|_, n| async move { Ok(n) }).retry(backoff).timeout(wait).fallback(large());
    let layers = layers.catch(|_, error| Err(error)).finally(|_, _| {}).repeat().times(2);
    assert!(size(&layers) < alone * 5 / 4, "{} of {alone}", size(&layers));
    let two = parallel((large(), large()));
    assert!(size(&two) < alone * 5 / 2, "{} of {alone}", size(&two));
}
