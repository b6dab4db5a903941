//! Tickets and permits under the model checker: many interleavings of small programs.
//! Run with `cargo test -p flumen-admit --features shuttle --test admission_model`.
#![cfg(feature = "shuttle")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use flumen_admit::{Admission, Asked, Priority, Settings, Ticket};
use shuttle::{check_dfs, check_pct, check_random, future::block_on, thread};

const RANDOM_RUNS: usize = 10_000;
const EXHAUSTIVE_RUNS: usize = 50_000;

fn all_ways(program: fn()) {
    check_dfs(program, Some(EXHAUSTIVE_RUNS));
    check_random(program, RANDOM_RUNS);
    check_pct(program, RANDOM_RUNS, 3);
}

/// Nobody gives up by the clock, which the model does not have: whoever is forgotten waits for ever, and the model says so.
fn admission(slots: usize) -> Arc<Admission> {
    Admission::new(Settings { slots, wait: Duration::MAX, ..Settings::default() })
}

fn enter(admission: &Arc<Admission>, tenant: &str) -> Ticket {
    let asked = Asked { tenant: tenant.into(), weight: 1.0, priority: Priority::Normal, input: 10 };
    admission.enter(asked).unwrap()
}

/// Looks once.
async fn look(ticket: &mut Ticket) {
    let mut ticket = pin!(ticket);
    poll_fn(|cx| {
        drop(ticket.as_mut().poll(cx));
        Poll::Ready(())
    })
    .await;
}

fn is_empty(admission: &Admission) {
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
}

#[test]
fn a_ticket_that_is_dropped_at_any_moment_neither_keeps_nor_loses_the_slot() {
    all_ways(|| {
        let admission = admission(1);
        let first = block_on(enter(&admission, "a")).unwrap();
        let (mut leaves, stays) = (enter(&admission, "b"), enter(&admission, "c"));
        let leaving = thread::spawn(move || block_on(async move { look(&mut leaves).await }));
        let staying = thread::spawn(move || block_on(stays).unwrap().charge(1));
        drop(first);
        leaving.join().unwrap();
        staying.join().unwrap();
        is_empty(&admission);
    });
}

#[test]
fn everybody_who_enters_is_let_in() {
    all_ways(|| {
        let admission = admission(1);
        let runs: Vec<_> = ["a", "b", "a"]
            .into_iter()
            .map(|tenant| {
                let admission = Arc::clone(&admission);
                thread::spawn(move || {
                    let permit = block_on(enter(&admission, tenant)).unwrap();
                    permit.charge(3);
                    permit.settle(Some(10), Some(4));
                })
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
        is_empty(&admission);
        let service: f64 = admission.snapshot().tenants.iter().map(|tenant| tenant.service).sum();
        assert!((service - 3.0 * 18.0).abs() < 1e-9, "{service}");
    });
}

#[test]
fn slots_that_come_back_wake_those_who_wait() {
    all_ways(|| {
        let admission = admission(2);
        admission.set_slots(0);
        let runs: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|tenant| {
                let admission = Arc::clone(&admission);
                thread::spawn(move || drop(block_on(enter(&admission, tenant)).unwrap()))
            })
            .collect();
        admission.set_slots(1);
        for run in runs {
            run.join().unwrap();
        }
        is_empty(&admission);
    });
}

#[test]
fn charges_while_others_look_are_counted_once() {
    all_ways(|| {
        let admission = admission(1);
        let permit = Arc::new(block_on(enter(&admission, "a")).unwrap());
        let other = Arc::clone(&permit);
        let charging = thread::spawn(move || (0..2).for_each(|_| other.charge(5)));
        permit.charge(1);
        admission.snapshot();
        charging.join().unwrap();
        let service = admission.snapshot().tenants[0].service;
        assert!((service - 32.0).abs() < 1e-9, "{service}");
        drop(permit);
        is_empty(&admission);
    });
}
