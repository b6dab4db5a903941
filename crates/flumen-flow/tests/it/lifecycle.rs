//! Runs are owned, can be looked at, and end with everything that belongs to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_flow::{
    Backoff, Context, Error, ErrorKind, Result, Task, TaskEventKind, TaskState, delay, executor::Executor,
    parallel, task,
};
use futures_util::StreamExt;
use tokio::time::Instant;

fn endless() -> impl Task<Input = u32, Output = u32> + Clone {
    task(|_, _: u32| std::future::pending::<Result<u32>>())
}

#[tokio::test(start_paused = true)]
async fn one_branch_can_be_cancelled_by_its_path() {
    let flow = parallel((endless().named("left"), delay(Duration::from_secs(5)).named("right")))
        .settled()
        .named("fetch");
    let run = flow.start(&Context::new(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(run.cancel_branch("fetch/left"), 1);
    assert_eq!(run.cancel_branch("fetch/nobody"), 0);
    let (left, right) = run.await.unwrap();
    assert_eq!(left.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(right.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_tree_of_a_run_shows_states_times_and_runs() {
    let step = delay::<u32>(Duration::from_secs(1)).named("step");
    let flow = step.repeat().times(3).module("loop").chain(endless().named("wait"));
    let run = flow.start(&Context::new(), 0);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let tree = run.tree();
    let step = &tree.children[0].children[0];
    assert_eq!((&*step.name, step.state, step.runs), ("step", TaskState::Finished, 3));
    assert_eq!(step.elapsed, Duration::from_secs(3));
    assert_eq!(tree.children[1].state, TaskState::Running);
    assert!(tree.to_string().contains("✓ step at 2.0s took 3.0s (3 runs)"), "{tree}");
    run.cancel();
    assert!(run.await.is_err());
}

#[tokio::test]
async fn waits_in_queues_are_seen_in_the_tree() {
    let executor = Executor::new("test", 1, flumen_flow::executor::Policy::Count);
    let (gate, queue) = (std::sync::mpsc::channel::<()>(), executor.queue("q"));
    let blocker = queue.spawn(move || gate.1.recv()).unwrap();
    while queue.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let flow = queue.task(|n: u32| Ok(n)).named("compute");
    let run = flow.start(&Context::new(), 1);
    while queue.stats().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(5) {
        tokio::task::yield_now().await;
    }
    drop(gate.0);
    let handle = run.handle();
    run.await.unwrap();
    assert!(blocker.await.unwrap().is_err());
    assert!(handle.tree().children[0].waited >= Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn events_tell_what_happens_and_end_with_the_run() {
    let tries = Arc::new(AtomicBool::new(false));
    let flaky = task(move |_, n: u32| {
        let second = tries.swap(true, Relaxed);
        async move { if second { Ok(n) } else { Err(Error::failed("first try").retryable()) } }
    });
    let flow = flaky.retry(Backoff::attempts(2).exact()).named("fetch").chain(
        parallel((
            task(|_, _: u32| async { Err::<u32, _>(Error::failed("broken")) }).named("a"),
            endless().named("b"),
        ))
        .catch(|_, _| Ok((0, 0))),
    );
    let (cx, events) = Context::new().observed();
    let run = flow.start(&cx, 1);
    let events: Vec<_> = events.map(|event| (event.path, event.kind)).collect().await;
    let pause = Duration::from_millis(100);
    let retrying = TaskEventKind::Retrying { attempt: 1, pause, error: "first try".into() };
    let expected = [
        ("fetch", TaskEventKind::Started),
        ("fetch", retrying),
        ("fetch", TaskEventKind::Finished),
        ("a", TaskEventKind::Started),
        ("a", TaskEventKind::Failed { error: "broken".into() }),
        ("b", TaskEventKind::Started),
        ("b", TaskEventKind::Cancelled),
        ("", TaskEventKind::Finished),
    ];
    let mut seen = events.clone();
    // The branch that is dropped may not have begun before its sibling failed.
    if seen.len() == 6 {
        seen.insert(5, ("b".into(), TaskEventKind::Started));
        seen.insert(6, ("b".into(), TaskEventKind::Cancelled));
    }
    assert_eq!(seen, expected.map(|(path, kind)| (path.to_owned(), kind)));
    run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_run() {
    let cx = Context::new().with_deadline(Instant::now() + Duration::from_secs(3));
    let error = endless().start(&cx, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_panic_fails_its_run_only() {
    let bad = task(|_, n: u32| async move { if n == 1 { panic!("boom") } else { Ok(n) } });
    let cx = Context::new();
    let (one, two) = (bad.clone().start(&cx, 1), bad.start(&cx, 2));
    let error = one.await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Panicked, "panicked: boom"));
    assert_eq!(two.await.unwrap(), 2);
}

#[tokio::test]
async fn nothing_outlives_its_run_but_what_was_detached_by_name() {
    let gate = flumen_flow::wait::Gate::closed();
    let done = Arc::new(AtomicBool::new(false));
    let (inner_gate, inner_done) = (gate.clone(), Arc::clone(&done));
    let flow = task(move |cx: Context, n: u32| {
        let (gate, done) = (inner_gate.clone(), Arc::clone(&inner_done));
        async move {
            let audit = cx.detach("audit", async move {
                gate.pass().await;
                done.store(true, Relaxed);
                Ok(())
            });
            Ok((n, audit))
        }
    });
    let (_, audit) = flow.start(&Context::new(), 1).await.unwrap();
    assert!(!done.load(Relaxed));
    gate.open();
    audit.await.unwrap().unwrap();
    assert!(done.load(Relaxed));
}

#[tokio::test]
async fn dropping_the_handle_cancels_the_run() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Arc::clone(&dropped);
    let flow = task(move |_, n: u32| {
        let guard = Dropped(Arc::clone(&guard));
        async move {
            let _guard = guard;
            std::future::pending::<()>().await;
            Ok(n)
        }
    });
    let run = flow.start(&Context::new(), 1);
    tokio::task::yield_now().await;
    let handle = run.handle();
    drop(run);
    while !dropped.load(Relaxed) {
        tokio::task::yield_now().await;
    }
    assert!(handle.is_over());
}

#[tokio::test]
async fn what_belongs_to_a_request_travels_by_itself() {
    let token = tokio_util::sync::CancellationToken::new();
    let cx = Context::new().with_tenant("acme").with_traceparent("00-1-2-01").with_cancel(&token);
    let tell = task(|cx: Context, (): ()| async move {
        Ok((cx.tenant().map(str::to_owned), cx.traceparent().map(str::to_owned)))
    });
    let told = tell.named("inner").module("outer").start(&cx, ()).await.unwrap();
    assert_eq!(told, (Some("acme".into()), Some("00-1-2-01".into())));
    let run = endless().named("wait").start(&cx, 1);
    tokio::task::yield_now().await;
    token.cancel();
    assert_eq!(run.await.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_slow_reader_of_events_is_told_what_it_missed_and_holds_nothing_up() {
    let step = task(|_, n: u32| async move { Ok(n + 1) }).named("step");
    let (cx, events) = Context::new().observed();
    assert_eq!(step.repeat().times(2_000).start(&cx, 0).await.unwrap(), 2_000);
    let events: Vec<_> = events.map(|event| event.kind).collect().await;
    let TaskEventKind::Missed { events: missed } = events[0] else { panic!("{:?}", events[0]) };
    assert_eq!(missed + events.len() as u64 - 1, 2 * 2_000 + 1, "two of each step, and the end of the run");
    assert_eq!(events.last(), Some(&TaskEventKind::Finished));
}
