use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::UNIX_EPOCH,
};

use proptest::prelude::*;

use super::*;
use crate::limit::Allowance;

const MINUTE: Duration = Duration::from_mins(1);

fn clock() -> Arc<Clock> {
    Arc::new(Clock::new(UNIX_EPOCH + Duration::from_hours(24 * 20_000)))
}

fn scope(clock: &Clock, allowance: Allowance) -> Arc<Scope> {
    Arc::new(Scope::new(allowance, clock.now()))
}

fn remaining(scope: &Scope, clock: &Clock, kind: Kind) -> u64 {
    scope.levels(clock.now()).into_iter().find(|level| level.kind == kind).unwrap().remaining
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_takes_nothing_of_anybody() {
    let clock = clock();
    let wide = scope(&clock, Allowance { requests_per_minute: Some(10), ..Allowance::default() });
    let narrow = scope(&clock, Allowance { requests_per_minute: Some(1), ..Allowance::default() });
    let both = || vec![Arc::clone(&wide), Arc::clone(&narrow)];
    take(both(), Need::default(), &clock).unwrap();
    for _ in 0..20 {
        let refused = take(both(), Need::default(), &clock).unwrap_err();
        let expected = Refused { scope: 1, kind: Kind::RequestsPerMinute, limit: 1, wait: MINUTE };
        assert_eq!(refused, expected);
    }
    assert_eq!(remaining(&wide, &clock, Kind::RequestsPerMinute), 9);
    tokio::time::advance(MINUTE).await;
    take(both(), Need::default(), &clock).unwrap();
}

#[tokio::test(start_paused = true)]
async fn places_are_given_back_and_tokens_settled() {
    let clock = clock();
    let all = Allowance {
        concurrent_streams: Some(2),
        tokens_per_minute: Some(1000),
        input_tokens_per_minute: Some(1000),
        output_tokens_per_minute: Some(1000),
        tokens_per_day: Some(1000),
        ..Allowance::default()
    };
    let scope = scope(&clock, all);
    let ask = |input, output| take(vec![Arc::clone(&scope)], Need { input, output }, &clock);
    let left = |kind| remaining(&scope, &clock, kind);
    let (one, two) = (ask(100, 200).unwrap(), ask(50, 0).unwrap());
    assert_eq!(ask(1, 1).unwrap_err().kind, Kind::ConcurrentStreams);
    assert_eq!(left(Kind::TokensPerMinute), 650);
    one.output(150);
    assert_eq!(left(Kind::TokensPerMinute), 650, "within the estimate");
    one.output(100);
    assert_eq!((left(Kind::TokensPerMinute), left(Kind::OutputTokensPerMinute)), (600, 750));
    two.output(10);
    two.settle(Some(60), None);
    drop(two);
    assert_eq!((left(Kind::TokensPerDay), left(Kind::InputTokensPerMinute)), (580, 840));
    one.settle(Some(90), Some(240));
    drop(one);
    assert_eq!((left(Kind::TokensPerDay), left(Kind::TokensPerMinute)), (600, 600));
    assert_eq!((left(Kind::InputTokensPerMinute), left(Kind::OutputTokensPerMinute)), (850, 750));
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_run_below_zero_and_the_next_request_waits() {
    let clock = clock();
    let scope = scope(&clock, Allowance { output_tokens_per_minute: Some(60), ..Allowance::default() });
    let ask = |output| take(vec![Arc::clone(&scope)], Need { input: 5, output }, &clock);
    let held = ask(10).unwrap();
    held.output(120);
    drop(held);
    let refused = ask(1).unwrap_err();
    assert_eq!((refused.kind, refused.wait), (Kind::OutputTokensPerMinute, Duration::from_secs(61)));
    tokio::time::advance(refused.wait).await;
    ask(1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_scope_adapts_and_is_idle_when_everything_is_back() {
    let clock = clock();
    let scope = scope(&clock, Allowance { requests_per_minute: Some(10), ..Allowance::default() });
    let held = take(vec![Arc::clone(&scope)], Need::default(), &clock).unwrap();
    scope.adapt(
        Allowance { requests_per_minute: Some(2), tokens_per_day: Some(5), ..Allowance::default() },
        clock.now(),
    );
    assert_eq!(remaining(&scope, &clock, Kind::RequestsPerMinute), 1);
    assert!(!scope.is_idle(clock.now()));
    drop(held);
    assert!(!scope.is_idle(clock.now()));
    tokio::time::advance(MINUTE / 2).await;
    assert!(scope.is_idle(clock.now()));
}

#[test]
fn of_many_threads_exactly_as_many_get_in_as_there_is_room_for() {
    let clock = clock();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let _inside = runtime.as_ref().unwrap().enter();
    let outer = scope(&clock, Allowance { requests_per_minute: Some(500), ..Allowance::default() });
    let inner: Vec<_> = (0..4)
        .map(|_| scope(&clock, Allowance { requests_per_minute: Some(100), ..Allowance::default() }))
        .collect();
    let taken = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for inner in &inner {
            for _ in 0..2 {
                threads.spawn(|| {
                    for _ in 0..200 {
                        let scopes = vec![Arc::clone(&outer), Arc::clone(inner)];
                        if take(scopes, Need::default(), &clock).is_ok() {
                            taken.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        }
    });
    // Threads outside the runtime see the real clock, which gives back a request in 120 ms at most.
    let taken = taken.into_inner();
    assert!((400..=420).contains(&taken), "{taken}");
}

proptest! {
    /// Whatever ends in whatever order: nothing runs in the end, and exactly what was used is missing.
    #[test]
    fn the_books_of_all_scopes_balance(
        answers in prop::collection::vec((0_u64..100, 0_u64..100, 0_u64..200, prop::option::of(0_u64..300)), 1..30),
        order in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let _inside = runtime.as_ref().unwrap().enter();
        let clock = clock();
        let most = Allowance { tokens_per_day: Some(1_000_000), ..Allowance::default() };
        let (one, two) = (scope(&clock, most), scope(&clock, most));
        let mut used = 0;
        let mut running = Vec::new();
        for (input, output, streamed, told) in answers {
            let held = take(vec![Arc::clone(&one), Arc::clone(&two)], Need { input, output }, &clock).unwrap();
            held.output(streamed);
            held.settle(None, told);
            used += input + told.unwrap_or(streamed);
            running.push(held);
        }
        while !running.is_empty() {
            let next = usize::try_from(order).unwrap_or(0) % running.len();
            running.swap_remove(next);
        }
        for scope in [one, two] {
            prop_assert_eq!(remaining(&scope, &clock, Kind::TokensPerDay), 1_000_000 - used);
            prop_assert_eq!(scope.lock().running.held(), 0);
        }
    }
}
