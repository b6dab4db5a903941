//! The executor on real threads: who runs when, who waits, who is refused, and what a panic or a cancel leaves behind.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use flumen_flow::{
    ErrorKind,
    executor::{Executor, Policy, QueueConfig, QueueConflict, WhenFull, is_cancelled, yield_turn},
};
use futures_util::future::join_all;

/// Holds closures up until it is opened.
#[derive(Clone, Default)]
struct Barrier(Arc<(Mutex<bool>, Condvar)>);

impl Barrier {
    fn hold(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[tokio::test]
async fn queues_take_turns() {
    let executor = Executor::new("test", 1, Policy::Count);
    let (barrier, order) = (Barrier::default(), Arc::new(Mutex::new(String::new())));
    let hold = barrier.clone();
    let mut works = vec![executor.queue("first").spawn(move || hold.hold()).unwrap()];
    for name in ["a", "b", "c"] {
        let queue = executor.queue(name);
        for _ in 0..3 {
            let order = Arc::clone(&order);
            works.push(queue.spawn(move || order.lock().unwrap().push_str(name)).unwrap());
        }
    }
    barrier.open();
    join_all(works).await;
    assert_eq!(*order.lock().unwrap(), "abcabcabc");
}

#[tokio::test]
async fn a_name_with_two_configurations_is_refused() {
    let executor = Executor::new("test", 1, Policy::Count);
    let gold = executor.define("gold", QueueConfig::default().weight(3)).unwrap();
    assert!(executor.define("gold", QueueConfig::default().weight(3)).is_ok());
    let error = executor.define("gold", QueueConfig::default()).unwrap_err();
    assert_eq!(error, QueueConflict { name: "gold".into() });
    drop(gold);
    assert!(executor.define("gold", QueueConfig::default()).is_ok(), "nobody holds it any more");
}

#[tokio::test]
async fn a_full_queue_refuses_or_waits_as_configured() {
    let executor = Executor::new("test", 1, Policy::Count);
    let barrier = Barrier::default();
    let small = |name, when_full| {
        executor.define(name, QueueConfig::default().capacity(1).when_full(when_full)).unwrap()
    };
    let (strict, patient) = (small("strict", WhenFull::Refuse), small("patient", WhenFull::Wait));
    let hold = barrier.clone();
    let running = executor.queue("x").spawn(move || hold.hold()).unwrap();
    while executor.queue("x").stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = strict.spawn(|| 1).unwrap();
    let error = strict.run(|| 2).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Refused, true));
    assert_eq!(strict.stats().refused, 1);

    let first = patient.spawn(|| 1).unwrap();
    assert!(patient.spawn(|| 2).is_err(), "spawn never waits");
    let second = patient.run(|| 2);
    let third = patient.run(|| 3);
    tokio::pin!(second, third);
    assert!(futures_util::poll!(&mut second).is_pending() && futures_util::poll!(&mut third).is_pending());
    assert_eq!(patient.stats().waiting, 1);
    barrier.open();
    let (second, third) = tokio::join!(second, third);
    assert_eq!((second.unwrap(), third.unwrap()), (2, 3));
    assert_eq!((first.await.unwrap(), waiting.await.unwrap()), (1, 1));
    running.await.unwrap();
}

#[tokio::test]
async fn whoever_waits_for_room_and_leaves_gives_the_place_to_the_next() {
    let executor = Executor::new("test", 1, Policy::Count);
    let barrier = Barrier::default();
    let queue = executor.define("q", QueueConfig::default().capacity(1)).unwrap();
    let hold = barrier.clone();
    let running = queue.spawn(move || hold.hold()).unwrap();
    while queue.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = queue.spawn(|| ()).unwrap();
    let mut leaver = Box::pin(queue.run(|| 1));
    let mut stayer = Box::pin(queue.run(|| 2));
    assert!(futures_util::poll!(&mut leaver).is_pending() && futures_util::poll!(&mut stayer).is_pending());
    // The place goes to the leaver, who leaves without taking it.
    drop(waiting);
    drop(leaver);
    barrier.open();
    assert_eq!(stayer.await.unwrap(), 2);
    running.await.unwrap();
    assert_eq!(queue.stats().cancelled, 1);
}

#[tokio::test]
async fn cancelled_work_leaves_the_queue_and_running_work_can_see_it() {
    let executor = Executor::new("test", 1, Policy::Count);
    let (queue, seen) = (executor.queue("q"), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&seen);
    let running = queue
        .spawn(move || {
            while !is_cancelled() {
                std::thread::yield_now();
            }
            count.fetch_add(1, Relaxed);
        })
        .unwrap();
    while queue.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let waiting = queue.spawn(move || drop(inside)).unwrap();
    assert_eq!(queue.stats().waiting, 1);
    drop(waiting);
    assert_eq!((queue.stats().waiting, queue.stats().cancelled, Arc::strong_count(&held)), (0, 1, 1));
    drop(running);
    assert_eq!(queue.run(|| 1).await.unwrap(), 1);
    assert_eq!(seen.load(Relaxed), 1);
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_work_and_the_thread_goes_on() {
    let executor = Executor::new("test", 1, Policy::Count);
    let queue = executor.queue("q");
    let error = queue.run(|| panic!("boom")).await.map(|(): ()| ()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Panicked, "panicked: boom"));
    let error = queue.run_async(async { panic!("later") }).await.map(|(): ()| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!(queue.run(|| 7).await.unwrap(), 7);
}

#[tokio::test]
async fn what_panics_as_it_is_dropped_does_not_take_the_thread_along() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }
    let executor = Executor::new("test", 1, Policy::Count);
    let queue = executor.queue("q");
    queue.spawn(|| Bomb).unwrap().detach();
    queue.submit(|| drop(Bomb)).unwrap();
    queue.submit(|| panic!("on its own")).unwrap();
    assert_eq!(queue.run(|| 7).await.unwrap(), 7);
}

#[tokio::test]
async fn a_cap_bounds_what_runs_at_a_time() {
    let executor = Executor::new("test", 4, Policy::Count);
    let queue =
        executor.define("q", QueueConfig::default().concurrency(NonZeroUsize::new(2).unwrap())).unwrap();
    let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let works = (0..200).map(|_| {
        let running = Arc::clone(&running);
        queue.run(move || {
            running.1.fetch_max(running.0.fetch_add(1, Relaxed) + 1, Relaxed);
            std::thread::yield_now();
            running.0.fetch_sub(1, Relaxed);
        })
    });
    join_all(works).await;
    assert!(running.1.load(Relaxed) <= 2);
}

#[tokio::test]
async fn long_work_makes_room_at_its_yield_points() {
    let executor = Executor::new("test", 1, Policy::Count);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (long, short, barrier) = (executor.queue("long"), executor.queue("short"), Barrier::default());
    let (log, hold) = (Arc::clone(&order), barrier.clone());
    let hog = long.run_async(async move {
        hold.hold();
        for part in 0..3 {
            log.lock().unwrap().push(format!("part {part}"));
            yield_turn().await;
        }
    });
    tokio::pin!(hog);
    assert!(futures_util::poll!(&mut hog).is_pending());
    let log = Arc::clone(&order);
    let quick = short.spawn(move || log.lock().unwrap().push("short".into())).unwrap();
    barrier.open();
    hog.await.unwrap();
    quick.await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["part 0", "short", "part 1", "part 2"]);
}

#[tokio::test]
async fn futures_wait_without_a_thread() {
    let executor = Executor::new("test", 1, Policy::Count);
    let queue = executor.queue("q");
    let gate = flumen_flow::wait::Gate::closed();
    let hold = gate.clone();
    let waits = queue.run_async(async move {
        hold.pass().await;
        1
    });
    tokio::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());
    assert_eq!(queue.run(|| 2).await.unwrap(), 2, "the only thread is free");
    gate.open();
    assert_eq!(waits.await.unwrap(), 1);
}

#[tokio::test]
async fn threads_are_added_and_removed_while_it_runs() {
    let executor = Executor::new("test", 1, Policy::Count);
    let (queue, barrier) = (executor.queue("q"), Barrier::default());
    let works: Vec<_> = (0..4)
        .map(|_| {
            let hold = barrier.clone();
            queue.spawn(move || hold.hold()).unwrap()
        })
        .collect();
    executor.set_threads(4);
    while queue.stats().running < 4 {
        tokio::task::yield_now().await;
    }
    executor.set_threads(1);
    barrier.open();
    join_all(works).await;
    assert_eq!(
        queue.run(|| std::thread::current().name().map(str::to_owned)).await.unwrap().unwrap(),
        "test"
    );
}

#[tokio::test]
async fn shutdown_ends_waiting_work_and_waits_for_what_runs() {
    let executor = Executor::new("test", 1, Policy::Count);
    let (queue, barrier) = (executor.queue("q"), Barrier::default());
    let hold = barrier.clone();
    let running = queue.spawn(move || hold.hold()).unwrap();
    while queue.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = queue.spawn(|| ()).unwrap();
    let mut down = Box::pin(executor.shutdown());
    assert!(futures_util::poll!(&mut down).is_pending());
    assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(queue.run(|| ()).await.unwrap_err().kind(), ErrorKind::Refused);
    barrier.open();
    down.await;
    running.await.unwrap();
}

#[tokio::test]
async fn file_work_and_computing_do_not_block_each_other_nor_the_network() {
    let (compute, blocking) = (Executor::compute(), Executor::blocking());
    let barrier = Barrier::default();
    let occupy = |executor: &Executor, name: &str| -> Vec<_> {
        let queue = executor.queue(name);
        (0..executor.threads())
            .map(|_| {
                let hold = barrier.clone();
                queue.spawn(move || hold.hold()).unwrap()
            })
            .collect()
    };
    // Every thread that computes is taken, and still files are read and sockets served, on this one thread.
    let held = occupy(compute, "held");
    let dir = tempfile::tempdir().unwrap();
    let files = flumen_flow::file::Files::default();
    files.write(dir.path().join("f"), "x").await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_client, _server) =
        tokio::try_join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept())
            .unwrap();
    barrier.open();
    join_all(held).await;

    let barrier = Barrier::default();
    let queue = blocking.queue("held");
    let held: Vec<_> = (0..blocking.threads())
        .map(|_| {
            let hold = barrier.clone();
            queue.spawn(move || hold.hold()).unwrap()
        })
        .collect();
    assert_eq!(compute.queue("other").run(|| 1).await.unwrap(), 1);
    barrier.open();
    join_all(held).await;
}

#[tokio::test]
async fn sort_and_map_go_through_the_queue() {
    let queue = Executor::compute().queue("algorithms");
    let mut expected: Vec<u64> = (0..100_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let sorted = queue.sort(expected.clone()).await.unwrap();
    let squares = queue.map((0..10_000_u64).collect(), |n| n * n).await.unwrap();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(squares, (0..10_000).map(|n| n * n).collect::<Vec<u64>>());
    assert!(queue.stats().done > 4);
    assert!(queue.map(vec![1, 2, 3], |n| assert_ne!(n, 2)).await.is_err());
    assert!(queue.sort(Vec::<u8>::new()).await.unwrap().is_empty());
}
