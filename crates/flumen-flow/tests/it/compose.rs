//! Each way of composing does what its name says, and fails with an error that names the task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_flow::{
    Backoff, Catalog, Context, Error, ErrorKind, GraphBuilder, GraphError, Outcome, Result, ResultExt, Task,
    branch, delay, each, parallel, race, switch, task,
};
use serde_json::json;

fn add(n: u32) -> impl Task<Input = u32, Output = u32> + Clone {
    task(move |_, x: u32| async move { Ok(x + n) })
}

fn failing(message: &'static str) -> impl Task<Input = u32, Output = u32> + Clone {
    task(move |_, _: u32| async move { Err::<u32, _>(Error::failed(message)) })
}

async fn run<T: Task<Input = u32>>(flow: T) -> Result<T::Output> {
    flow.run(&Context::new(), 1).await
}

#[tokio::test]
async fn errors_name_the_task_and_its_path() {
    let fetch = parallel((add(1), failing("no route").named("right"))).named("fetch");
    let flow = add(1).chain(fetch).module("checkout");
    let error = run(&flow).await.unwrap_err();
    assert_eq!(error.to_string(), "checkout/fetch/[1]/right: no route");
    assert_eq!((flow.stats().runs, flow.stats().failed), (1, 1));
}

#[tokio::test]
async fn a_panic_becomes_an_error_of_the_named_task() {
    let flow = task(|_, x: u32| async move {
        assert!(x > 10, "x is too small");
        Ok(x)
    })
    .named("check");
    let error = run(flow.catch(|_, error| Err(error))).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Panicked, "check: panicked: x is too small"));
}

#[tokio::test(start_paused = true)]
async fn first_any_settled_and_race_choose_as_they_say() {
    let slow = |ms, n| delay(Duration::from_millis(ms)).chain(add(n)).boxed();
    let bad = || failing("bad").boxed();
    assert_eq!(run(parallel(vec![slow(30, 3), bad(), slow(10, 1), slow(20, 2)]).first()).await.unwrap(), 2);
    assert_eq!(
        run(parallel(vec![slow(30, 3), bad(), slow(20, 2), slow(10, 1)]).any(2)).await.unwrap(),
        [3, 2]
    );
    assert_eq!(run(race(vec![slow(10, 1), bad()])).await.unwrap_err().message(), "bad");
    let settled = run(parallel(vec![slow(1, 1), bad()]).settled()).await.unwrap();
    assert!(settled[0].is_ok() && settled[1].is_err());
    let (one, other) = run(parallel((add(1), failing("bad"))).settled()).await.unwrap();
    assert!(one.is_ok() && other.is_err());
    let error = run(parallel(vec![bad(), bad(), slow(1, 1)]).any(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFew);
    assert_eq!(run(parallel(vec![add(1)].split_off(1)).first()).await.unwrap_err().kind(), ErrorKind::TooFew);
}

#[tokio::test(start_paused = true)]
async fn width_bounds_what_runs_at_a_time() {
    let running = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    let count = Arc::clone(&running);
    let one = task(move |_, n: u32| {
        let count = Arc::clone(&count);
        async move {
            let now = count.0.fetch_add(1, Relaxed) + 1;
            count.1.fetch_max(now, Relaxed);
            tokio::time::sleep(Duration::from_millis(u64::from(10 - n))).await;
            count.0.fetch_sub(1, Relaxed);
            Ok(n * 10)
        }
    });
    let all = each(one).width(3).run(&Context::new(), 0..10).await.unwrap();
    assert_eq!(all, (0..10).map(|n| n * 10).collect::<Vec<_>>(), "in the order of the items");
    assert_eq!(running.1.load(Relaxed), 3);
}

#[tokio::test]
async fn branch_and_switch_choose_by_the_input() {
    let flow = branch(|n: &u32| *n > 5, add(100), add(0));
    assert_eq!(flow.run(&Context::new(), 6).await.unwrap(), 106);
    assert_eq!(flow.run(&Context::new(), 5).await.unwrap(), 5);
    let flow = switch(|n: &u32| n % 3).case(0, add(10)).case(1, add(20));
    assert_eq!(flow.run(&Context::new(), 4).await.unwrap(), 24);
    let error = flow.run(&Context::new(), 5).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Missing, "the switch has no case for 2"));
}

#[tokio::test(start_paused = true)]
async fn repeats_end_as_they_say() {
    assert_eq!(run(add(1).repeat().times(5)).await.unwrap(), 6);
    assert_eq!(run(add(2).repeat().while_(|n| *n < 10)).await.unwrap(), 11);
    assert_eq!(run(add(1).repeat().until(|_| true)).await.unwrap(), 2);
    assert_eq!(run(add(1).repeat().while_(|_| false)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endless_repeat_backs_off_and_stops_when_asked() {
    let tries = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&tries);
    let flow = task(move |_, n: u32| {
        let attempt = seen.fetch_add(1, Relaxed);
        async move { if attempt % 3 == 2 { Err(Error::failed("flaky").retryable()) } else { Ok(n + 1) } }
    });
    let cx = Context::new();
    let forever = flow.repeat().forever(Backoff::endless().exact()).every(Duration::from_secs(1));
    let run = forever.start(&cx, 0);
    // Two good rounds a second each, one failure of 100 ms: the clock is paused, so this is exact.
    tokio::time::sleep(Duration::from_millis(10_550)).await;
    run.stop();
    let rounds = run.await.unwrap();
    assert_eq!((rounds, tries.load(Relaxed)), (11, 16));
}

#[tokio::test(start_paused = true)]
async fn retry_tries_again_only_what_is_marked() {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let flow = task(move |_, until: u32| {
        let attempt = count.fetch_add(1, Relaxed) + 1;
        async move {
            let outcome: Result<u32, std::io::Error> = Err(std::io::ErrorKind::ConnectionReset.into());
            if attempt < until { outcome.or_retry() } else { Ok(attempt) }
        }
    });
    let flow = flow.retry(Backoff::attempts(4));
    assert_eq!(flow.run(&Context::new(), 3).await.unwrap(), 3);
    attempts.store(0, Relaxed);
    assert!(flow.run(&Context::new(), 99).await.is_err());
    assert_eq!(attempts.load(Relaxed), 4);
    let plain = failing("for good").retry(Backoff::attempts(4)).fallback(add(7));
    assert_eq!(run(plain).await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_an_error_and_a_deadline_within() {
    let flow = task(|cx: Context, _: u32| async move {
        assert_eq!(cx.remaining(), Some(Duration::from_secs(2)));
        std::future::pending::<Result<u32>>().await
    });
    let error = run(flow.timeout(Duration::from_secs(2)).named("slow")).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(error.to_string(), "slow: took longer than 2s");
    assert_eq!(run(add(1).timeout(Duration::MAX)).await.unwrap(), 2, "beyond what the clock can say");
}

#[tokio::test]
async fn finally_is_called_once_whatever_the_end() {
    let ends = Arc::new(std::sync::Mutex::new(Vec::new()));
    let watched = |inner: flumen_flow::BoxTask<u32, u32>| {
        let ends = Arc::clone(&ends);
        inner.finally(move |_, outcome| {
            ends.lock().unwrap().push(match outcome {
                Outcome::Finished => "finished",
                Outcome::Failed(_) => "failed",
                Outcome::Dropped => "dropped",
            });
        })
    };
    assert!(run(watched(add(1).boxed())).await.is_ok());
    assert!(run(watched(failing("x").boxed())).await.is_err());
    let endless = task(|_, _: u32| std::future::pending::<Result<u32>>()).boxed();
    let run_of_it = watched(endless).start(&Context::new(), 0);
    tokio::task::yield_now().await;
    run_of_it.cancel();
    assert_eq!(run_of_it.await.unwrap_err().kind(), ErrorKind::Cancelled);
    let panics = task(|_, n: u32| async move { if n == 1 { panic!("oh") } else { Ok(n) } }).boxed();
    assert!(run(watched(panics).named("p")).await.is_err());
    assert_eq!(*ends.lock().unwrap(), ["finished", "failed", "dropped", "dropped"]);
}

#[tokio::test]
async fn scopes_hold_values_and_modules_have_their_own() {
    #[derive(Debug, PartialEq)]
    struct User(&'static str);
    let inner = task(|cx: Context, n: u32| async move {
        assert_eq!(*cx.need::<User>()?, User("outer"), "seen from within");
        cx.put(User("inner"));
        assert_eq!(*cx.need::<User>()?, User("inner"));
        Ok(n)
    });
    let flow = task(|cx: Context, n: u32| async move {
        cx.put(User("outer"));
        Ok(n)
    })
    .chain(inner.module("module"))
    .then(|cx, n| async move {
        assert_eq!(*cx.need::<User>()?, User("outer"), "not seen from outside");
        Ok(n)
    });
    let cx = Context::new().with_tenant("acme");
    assert_eq!(flow.start(&cx, 1).await.unwrap(), 1);
    assert!(cx.get::<User>().is_none(), "values end with the run");
    let error = cx.need::<User>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.message().contains("User"));
}

#[tokio::test(start_paused = true)]
async fn a_graph_runs_what_is_ready() {
    let mut graph = GraphBuilder::<u64>::new();
    let input = graph.input();
    let wait = |_cx: Context, ms: u64| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(ms)
    };
    let a = graph.node("a", input, wait);
    let b = graph.node("b", input, wait);
    let c = graph.node("c", (a, b), move |cx, (a, b): (u64, u64)| async move { wait(cx, a + b).await });
    let d = graph.node("d", (), |_, ()| async { Ok(1_u64) });
    let sum = graph.node("sum", vec![c, d], |_, all: Vec<u64>| async move { Ok(all.iter().sum::<u64>()) });
    graph.after(d, b);
    let graph = graph.build(sum).unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(graph.run(&Context::new(), 100).await.unwrap(), 201);
    assert_eq!(started.elapsed(), Duration::from_millis(300), "a and b overlap");
    assert!(graph.sketch().to_string().contains("after a, b: c"), "{}", graph.sketch());
}

#[test]
fn faulty_graphs_are_refused() {
    let mut graph = GraphBuilder::<u32>::new();
    let input = graph.input();
    let a = graph.node("a", input, |_, n: u32| async move { Ok(n) });
    let b = graph.node("b", a, |_, n: u32| async move { Ok(n) });
    let c = graph.node("c", b, |_, n: u32| async move { Ok(n) });
    graph.after(a, c);
    let error = graph.build(c).unwrap_err();
    assert_eq!(error.to_string(), "these tasks wait for each other: a -> b -> c -> a");

    let mut one = GraphBuilder::<u32>::new();
    let mut other = GraphBuilder::<u32>::new();
    let (mine, theirs) = (one.input(), other.node("x", other.input(), |_, n: u32| async move { Ok(n) }));
    let node = one.node("mixed", (mine, theirs), |_, (a, b): (u32, u32)| async move { Ok(a + b) });
    assert_eq!(one.build(node).unwrap_err(), GraphError::MissingInput { node: "mixed".into() });

    let mut twice = GraphBuilder::<u32>::new();
    let input = twice.input();
    twice.node("n", input, |_, n: u32| async move { Ok(n) });
    let node = twice.node("n", input, |_, n: u32| async move { Ok(n) });
    assert_eq!(twice.build(node).unwrap_err(), GraphError::SameName("n".into()));
}

fn catalog() -> Catalog {
    Catalog::new()
        .with("one", |_, _: serde_json::Value| async { Ok(1) })
        .with("inc", |_, n: i64| async move { Ok(n + 1) })
        .with("sum", |_, all: Vec<i64>| async move { Ok(all.iter().sum::<i64>()) })
        .with("fail", |_, _: serde_json::Value| async { Err::<(), _>(Error::failed("no")) })
}

#[tokio::test]
async fn flows_are_composed_from_json() {
    let check = async |definition: serde_json::Value, input: serde_json::Value, output: serde_json::Value| {
        let flow = catalog().build(&definition).unwrap();
        assert_eq!(flow.run(&Context::new(), input).await.unwrap(), output, "{definition}");
    };
    check(json!({"series": ["one", "inc"]}), json!(null), json!(2)).await;
    check(json!({"parallel": {"a": "inc", "b": "one"}}), json!(4), json!({"a": 5, "b": 1})).await;
    check(json!({"first": ["fail", "inc"]}), json!(4), json!(5)).await;
    check(json!({"each": "inc", "width": 2}), json!([1, 2]), json!([2, 3])).await;
    check(json!({"repeat": "inc", "times": 3}), json!(0), json!(3)).await;
    check(json!({"fallback": ["fail", "one"]}), json!(0), json!(1)).await;
    check(json!({"retry": "inc", "attempts": 2}), json!(0), json!(1)).await;
    check(json!({"timeout": "inc", "seconds": 1.5}), json!(0), json!(1)).await;
    check(json!({"module": "m", "flow": "inc"}), json!(0), json!(1)).await;
    let choice = json!({"branch": "/vip", "then": "one", "otherwise": {"series": ["one", "inc"]}});
    check(choice.clone(), json!({"vip": true}), json!(1)).await;
    check(choice, json!({"vip": false}), json!(2)).await;
    let graph = json!({"graph": {
        "a": {"task": "inc"},
        "b": {"task": "one", "needs": ["a"]},
    }});
    check(graph, json!(1), json!({"a": 2, "b": 1})).await;
    let bad = catalog().build(&json!("inc")).unwrap();
    let error = bad.run(&Context::new(), json!("not a number")).await.unwrap_err();
    assert_eq!(error.path(), "inc");
}

#[test]
fn faulty_definitions_say_where() {
    let fault = |definition: serde_json::Value| catalog().build(&definition).unwrap_err().to_string();
    assert_eq!(
        fault(json!({"series": ["inc", "typo"]})),
        "/series/1: there is no task `typo`; there are `fail`, `inc`, `one`, `sum`"
    );
    assert!(fault(json!({"series": [], "each": "inc"})).starts_with("/: exactly one of these keys"));
    assert_eq!(fault(json!({"repeat": "inc"})), "/: `times` is missing");
    assert_eq!(fault(json!({"repeat": "inc", "times": -1})), "/times: a whole number above 0 is needed");
    assert_eq!(
        fault(json!({"graph": {"a": {"task": "inc", "needs": ["b"]}, "b": {"task": "inc", "needs": ["a"]}}})),
        "/graph: there is a cycle among these tasks: a, b"
    );
    assert_eq!(
        fault(json!({"graph": {"a": {"task": "inc", "needs": ["z"]}}})),
        "/graph/a: it needs \"z\", which is not in the graph"
    );
    assert_eq!(
        fault(json!(7)),
        "/: a definition is the name of a task or an object such as {\"series\": […]}"
    );
}
