//! Tickets and permits, with a paused clock.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use flumen_admit::{Adaptive, Admission, Asked, Permit, Priority, Refused, Settings, Ticket};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);

fn asked(tenant: &str) -> Asked {
    Asked { tenant: tenant.into(), weight: 1.0, priority: Priority::Normal, input: 10 }
}

fn admission(slots: usize) -> Arc<Admission> {
    Admission::new(Settings { slots, ..Settings::default() })
}

/// The permit, if the turn has come.
async fn now(ticket: &mut Ticket) -> Option<Result<Permit, Refused>> {
    let mut ticket = pin!(ticket);
    poll_fn(|cx| {
        Poll::Ready(match ticket.as_mut().poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    })
    .await
}

async fn is_in(ticket: &mut Ticket) -> bool {
    now(ticket).await.is_some()
}

#[test]
fn tickets_and_permits_may_go_anywhere() {
    fn is<T: Send + Unpin>() {}
    fn is_shared<T: Send + Sync>() {}
    is::<Ticket>();
    is_shared::<Permit>();
    is_shared::<Admission>();
}

#[tokio::test(start_paused = true)]
async fn tenants_take_turns() {
    let admission = admission(1);
    let first = admission.enter(asked("a")).unwrap().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let tickets =
        ["a1", "a2", "a3", "b1", "b2"].map(|name| (name, admission.enter(asked(&name[..1])).unwrap()));
    let tasks = tickets.map(|(name, ticket)| {
        let order = Arc::clone(&order);
        tokio::spawn(async move {
            let permit = ticket.await.unwrap();
            order.lock().unwrap().push(name);
            permit.charge(1);
        })
    });
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["a1", "b1", "a2", "b2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn both_queues_are_bounded_and_a_free_slot_needs_no_queue() {
    let settings = Settings { slots: 1, queue: 3, queue_per_tenant: 2, ..Settings::default() };
    let admission = Admission::new(settings);
    let _in = admission.enter(asked("a")).unwrap().await.unwrap();
    let _waiting = [admission.enter(asked("a")).unwrap(), admission.enter(asked("a")).unwrap()];
    assert!(matches!(admission.enter(asked("a")).unwrap_err(), Refused::TenantQueueFull { .. }));
    let _other = admission.enter(asked("b")).unwrap();
    assert!(matches!(admission.enter(asked("c")).unwrap_err(), Refused::QueueFull { .. }));

    let narrow = Admission::new(Settings { slots: 1, queue: 0, queue_per_tenant: 0, ..settings });
    let permit = narrow.enter(asked("a")).unwrap().await.unwrap();
    assert!(narrow.enter(asked("a")).is_err());
    drop(permit);
    assert!(narrow.enter(asked("a")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_what_is_ahead_at_the_rate_of_late() {
    let settings = Settings { slots: 1, queue: 20, queue_per_tenant: 20, ..Settings::default() };
    let admission = Admission::new(settings);
    let slow = admission.enter(asked("a")).unwrap().await.unwrap();
    let wait = |admission: &Arc<Admission>| admission.enter(asked("a")).unwrap_err().retry_after();
    let tickets: Vec<Ticket> = (0..20).map(|_| admission.enter(asked("a")).unwrap()).collect();
    advance(SECOND * 30).await;
    assert!(wait(&admission) > SECOND * 50, "one in half a minute");
    drop((slow, tickets));

    // Two a second for a minute.
    for _ in 0..120 {
        drop(admission.enter(asked("a")).unwrap().await.unwrap());
        advance(SECOND / 2).await;
    }
    let _in = admission.enter(asked("a")).unwrap().await.unwrap();
    let _waiting: Vec<Ticket> = (0..20).map(|_| admission.enter(asked("a")).unwrap()).collect();
    let retry = wait(&admission);
    assert!((SECOND * 9..SECOND * 14).contains(&retry), "{retry:?}");

    admission.configure(Settings { wait: SECOND * 2, ..settings });
    assert_eq!(wait(&admission), SECOND * 2);
    admission.configure(Settings { wait: Duration::ZERO, ..settings });
    assert_eq!(wait(&admission), SECOND);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_told_so_and_the_slot_goes_to_others() {
    let admission = Admission::new(Settings { slots: 1, wait: SECOND * 5, ..Settings::default() });
    let first = admission.enter(asked("a")).unwrap().await.unwrap();
    let early = tokio::spawn(admission.enter(asked("b")).unwrap());
    advance(SECOND * 3).await;
    let late = tokio::spawn(admission.enter(asked("c")).unwrap());
    let began = Instant::now();
    assert!(matches!(early.await.unwrap(), Err(Refused::TooLong { .. })));
    assert_eq!(began.elapsed().as_secs(), 2);
    drop(first);
    let late = late.await.unwrap().unwrap();
    assert_eq!(late.waited().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_comes_together_with_the_deadline_counts() {
    let admission = Admission::new(Settings { slots: 1, wait: SECOND * 5, ..Settings::default() });
    let first = admission.enter(asked("a")).unwrap().await.unwrap();
    let mut ticket = admission.enter(asked("b")).unwrap();
    assert!(!is_in(&mut ticket).await);
    advance(SECOND * 6).await;
    drop(first);
    assert!(ticket.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_dropped_leaves_at_once_and_says_where_it_stands() {
    let admission = admission(1);
    let first = admission.enter(asked("a")).unwrap().await.unwrap();
    let mut tickets: Vec<Ticket> = (0..4).map(|_| admission.enter(asked("a")).unwrap()).collect();
    advance(SECOND).await;
    assert_eq!(tickets.iter().map(Ticket::position).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(tickets[0].waited(), SECOND);
    drop(tickets.remove(1));
    assert_eq!(tickets.iter().map(Ticket::position).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(admission.snapshot().waiting, 3);
    drop(first);
    assert!(!is_in(&mut tickets[1]).await && is_in(&mut tickets[0]).await);
    // The permit was dropped at once: the next one is in, though it is not looking.
    assert_eq!(admission.snapshot().in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slot_given_to_a_ticket_that_is_dropped_goes_to_the_next() {
    let admission = admission(1);
    let first = admission.enter(asked("a")).unwrap().await.unwrap();
    let chosen = admission.enter(asked("b")).unwrap();
    let mut next = admission.enter(asked("c")).unwrap();
    assert!(!is_in(&mut next).await);
    drop(first);
    assert!(!is_in(&mut next).await, "it is the turn of b");
    drop(chosen);
    assert!(is_in(&mut next).await);
    drop(next);
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
}

#[test]
fn a_slot_given_to_a_ticket_whose_runtime_is_gone_goes_to_the_next() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let admission = admission(1);
    let (gone, stays) = (runtime(), runtime());
    let first = gone.block_on(admission.enter(asked("a")).unwrap()).unwrap();
    let ticket = admission.enter(asked("b")).unwrap();
    let task = gone.spawn(ticket);
    gone.block_on(tokio::task::yield_now());
    let next = admission.enter(asked("c")).unwrap();
    drop(first);
    assert!(!task.is_finished());
    drop(gone);
    assert!(stays.block_on(next).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_cap_from_outside_moves_both_ways() {
    let admission = admission(4);
    admission.set_slots(0);
    let mut tickets: Vec<Ticket> = (0..6).map(|n| admission.enter(asked(&n.to_string())).unwrap()).collect();
    assert!(!is_in(&mut tickets[0]).await);
    let in_flight = || admission.snapshot().in_flight;
    admission.set_slots(2);
    assert_eq!(in_flight(), 2);
    admission.set_slots(100);
    assert_eq!(in_flight(), 4);
    admission.set_slots(1);
    assert_eq!((in_flight(), admission.snapshot().slots), (4, 1));
    drop(tickets.drain(..3).collect::<Vec<_>>());
    assert_eq!(in_flight(), 1);
    drop(tickets.remove(0));
    assert_eq!(in_flight(), 1, "the next one has come in");
    admission.configure(Settings { slots: 0, ..Settings::default() });
    drop(tickets.remove(0));
    assert_eq!((in_flight(), admission.snapshot().waiting), (0, 1));
    admission.configure(Settings { slots: 5, ..Settings::default() });
    assert_eq!(in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_adaptive_limit_falls_at_overload_and_grows_when_it_is_used() {
    let adaptive = Some(Adaptive::aimd(2, 10, Some(SECOND)));
    let admission = Admission::new(Settings { slots: 100, adaptive, ..Settings::default() });
    let slots = || admission.snapshot().slots;
    let mut running: Vec<Permit> = Vec::new();
    let mut waiting: Vec<Ticket> = (0..50).map(|_| admission.enter(asked("a")).unwrap()).collect();
    assert_eq!(slots(), 2);
    while slots() < 10 {
        let ticket = waiting.remove(0);
        let permit = ticket.await.unwrap();
        permit.first_token(SECOND / 2);
        permit.first_token(SECOND / 2);
        running.push(permit);
        if running.len() > 1 {
            running.remove(0);
        }
    }
    assert_eq!(admission.snapshot().in_flight, 10);
    running[0].failed();
    assert_eq!((slots(), admission.snapshot().adaptive), (9, Some(9)));
    advance(SECOND * 2).await;
    running[0].first_token(SECOND * 3);
    assert_eq!(slots(), 8);
}

#[tokio::test(start_paused = true)]
async fn exact_usage_replaces_what_was_charged() {
    let admission = admission(3);
    let permit = admission.enter(asked("a")).unwrap().await.unwrap();
    permit.charge(20);
    let service = || admission.snapshot().tenants[0].service;
    let is = |expected: f64| assert!((service() - expected).abs() < 1e-9, "{}", service());
    is(50.0);
    permit.settle(Some(30), Some(25));
    is(80.0);
    permit.settle(Some(30), Some(5));
    is(40.0);
    permit.settle(None, None);
    is(40.0);
    assert_eq!(permit.charged(), (30, 5));
    let snapshot = admission.snapshot();
    assert_eq!((&*snapshot.tenants[0].name, snapshot.tenants[0].running, snapshot.left_out), ("a", 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tenants_are_all_served() {
    let admission = Admission::new(Settings { slots: 7, queue: 10_000, ..Settings::default() });
    let mut tasks = Vec::new();
    for n in 0..10_000 {
        let ticket = admission.enter(asked(&format!("tenant {}", n % 1000))).unwrap();
        tasks.push(tokio::spawn(async move {
            let permit = ticket.await.unwrap();
            permit.first_token(SECOND);
            permit.charge(n % 13);
            tokio::task::yield_now().await;
            permit.settle(Some(n % 17), None);
        }));
    }
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting), (7, 9_993));
    assert_eq!((snapshot.tenants.len(), snapshot.left_out), (256, 744));
    for task in tasks {
        task.await.unwrap();
    }
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
}

/// Real threads, tickets that are dropped at random moments: nobody may be left waiting, no slot may be lost.
#[test]
fn many_threads_lose_neither_slots_nor_wake_ups() {
    let admission = Admission::new(Settings { slots: 3, queue: 1_000, ..Settings::default() });
    let runs = (0..4_u64).map(|thread| {
        let admission = Arc::clone(&admission);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                for round in 0..300_u64 {
                    let tickets: Vec<_> =
                        (0..8_u64).map(|n| (n, admission.enter(asked(&n.to_string())).unwrap())).collect();
                    let tasks: Vec<_> = tickets
                        .into_iter()
                        .map(|(n, mut ticket)| {
                            tokio::spawn(async move {
                                if (n + round + thread).is_multiple_of(3) {
                                    return drop(now(&mut ticket).await);
                                }
                                let permit = ticket.await.unwrap();
                                permit.charge(1);
                                tokio::task::yield_now().await;
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                }
            });
        })
    });
    runs.collect::<Vec<_>>().into_iter().for_each(|run| run.join().unwrap());
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
}
