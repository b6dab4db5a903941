use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::config::Config;

fn pool(more: impl FnOnce(&mut Config)) -> Arc<Pool> {
    let mut config = Config::embedded();
    let upstream = config.upstreams["sim"].clone();
    for name in ["a", "b", "c"] {
        config.upstreams.insert(name.to_owned(), upstream.clone());
    }
    let members = ["a", "b", "c"].map(|name| (name.to_owned(), 1.0));
    config.pools.insert("p".to_owned(), config::Pool::of(BTreeMap::from(members)));
    more(&mut config);
    Arc::clone(Pools::new(&config, None).get("p").unwrap())
}

fn attempt(pool: &Arc<Pool>, avoid: &[&str]) -> Option<Attempt> {
    let avoid: Vec<_> = avoid.iter().map(|name| (*name).to_owned()).collect();
    match pool.pick(None, &avoid, |_| true) {
        Picked::Attempt(attempt) => Some(attempt),
        Picked::Busy | Picked::Nobody => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_upstream_is_left_out_and_the_last_one_never() {
    let pool = pool(|_| {});
    for _ in 0..100 {
        let mut attempt = attempt(&pool, &[]).unwrap();
        if attempt.upstream() == "a" { attempt.failed() } else { attempt.succeeded() }
    }
    let left: Vec<_> = (0..6).map(|_| attempt(&pool, &[]).unwrap().upstream().to_owned()).collect();
    assert!(!left.contains(&"a".to_owned()), "{left:?}");
    for _ in 0..100 {
        attempt(&pool, &[]).unwrap().failed();
    }
    let closed = pool.members().filter(|member| member.standing().breaker == "closed").count();
    assert_eq!(closed, 1, "never all open at once");
}

#[test]
fn upstreams_that_fail_at_the_same_moment_do_not_all_open() {
    let mut config = Config::embedded();
    config.health.failures = 1;
    let upstream = config.upstreams["sim"].clone();
    for name in ["a", "b"] {
        config.upstreams.insert(name.to_owned(), upstream.clone());
    }
    for pool in ["p", "q"] {
        let members = ["a", "b"].map(|name| (name.to_owned(), 1.0));
        config.pools.insert(pool.to_owned(), config::Pool::of(BTreeMap::from(members)));
    }
    let pools = Pools::new(&config, None);
    let upstreams = [("a", "p"), ("b", "q")];
    let (here, rounds) = (std::sync::atomic::AtomicUsize::new(0), 1..=100_000);
    // Both go on when both are here.
    let meet = |time: usize| {
        here.fetch_add(1, Relaxed);
        while here.load(Relaxed) < 2 * time {
            std::thread::yield_now();
        }
    };
    let fail = |(name, pool): (&str, &str), avoid: &str| {
        for round in rounds.clone() {
            let mut attempt = attempt(pools.get(pool).unwrap(), &[avoid]).unwrap();
            meet(3 * round - 2);
            attempt.failed();
            meet(3 * round - 1);
            let open = upstreams.map(|(name, _)| pools.member(name).unwrap().standing().breaker == "open");
            meet(3 * round);
            pools.member(name).unwrap().hold(false);
            assert_ne!(open, [true; 2], "round {round}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| fail(upstreams[0], "b"));
        fail(upstreams[1], "a");
    });
}

#[tokio::test(start_paused = true)]
async fn only_the_request_that_tries_it_again_closes_a_breaker() {
    let pool = pool(|_| {});
    let to_a = || attempt(&pool, &["b", "c"]);
    let breaker = || pool.members().next().unwrap().standing().breaker;
    let (mut long, left) = (to_a().unwrap(), to_a().unwrap());
    let failing: Vec<_> = (0..5).map(|_| to_a().unwrap()).collect();
    for mut attempt in failing {
        attempt.failed();
    }
    long.first_token();
    assert_eq!(breaker(), "open", "it began before");
    tokio::time::advance(Duration::from_secs(6)).await;
    let mut trial = to_a().unwrap();
    drop(left);
    long.failed();
    assert!(breaker() == "half-open" && to_a().is_none(), "one at a time");
    trial.first_token();
    assert_eq!(breaker(), "closed");
    trial.succeeded();
}

#[tokio::test(start_paused = true)]
async fn an_upstream_is_not_tried_twice_and_one_that_does_not_fit_not_once() {
    let pool = pool(|_| {});
    assert!(attempt(&pool, &["a", "b", "c"]).is_none());
    assert_eq!(attempt(&pool, &["a", "b"]).unwrap().upstream(), "c");
    assert!(matches!(pool.pick(None, &[], |name| name == "x"), Picked::Nobody));
}

#[tokio::test(start_paused = true)]
async fn drained_upstreams_get_nothing_and_unwell_ones_only_when_there_is_no_other() {
    let pool = pool(|_| {});
    let members: Vec<_> = pool.members().cloned().collect();
    members[0].drain(true);
    members[1].hold(true);
    members[2].checked(false);
    assert_eq!(attempt(&pool, &[]).unwrap().upstream(), "c", "the last resort");
    members[2].drain(true);
    assert!(attempt(&pool, &[]).is_none());
    members[1].hold(false);
    assert_eq!(attempt(&pool, &[]).unwrap().upstream(), "b");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_gets_the_next_that_is_free() {
    let pool = pool(|config| {
        for upstream in config.upstreams.values_mut() {
            upstream.concurrency = Some(1);
        }
    });
    let mut held: Vec<_> = (0..3).map(|_| attempt(&pool, &[]).unwrap()).collect();
    assert!(matches!(pool.pick(None, &[], |_| true), Picked::Busy));
    let until = Instant::now() + Duration::from_secs(1);
    let waiting = pool.place(None, &[], |_| true, until);
    let freed = async {
        tokio::task::yield_now().await;
        held.pop().unwrap().succeeded();
    };
    assert!(tokio::join!(waiting, freed).0.is_some());
    let _rest = (held, attempt(&pool, &[]).unwrap());
    assert!(pool.place(None, &[], |_| true, until).await.is_none(), "not for ever");
}

#[tokio::test(start_paused = true)]
async fn an_outlier_is_left_out_for_a_while() {
    let pool = pool(|config| config.health.failures = 1000);
    for round in 0..300 {
        let mut attempt = attempt(&pool, &[]).unwrap();
        if attempt.upstream() == "b" && round % 6 != 0 { attempt.failed() } else { attempt.succeeded() }
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    drop(attempt(&pool, &[]));
    let state = |pool: &Pool| pool.members().map(|member| member.standing().state).collect::<Vec<_>>();
    assert_eq!(state(&pool), ["up", "ejected", "up"]);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(state(&pool), ["up", "slow-start", "up"]);
}

#[tokio::test(start_paused = true)]
async fn outliers_are_found_among_upstreams_that_came_at_different_times() {
    let mut config = Config::embedded();
    config.health.failures = 1000;
    let upstream = config.upstreams["sim"].clone();
    for name in ["a", "b"] {
        config.upstreams.insert(name.to_owned(), upstream.clone());
    }
    let of = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1.0)).collect();
    config.pools.insert("p".to_owned(), config::Pool::of(of(&["a", "b"])));
    let before = Pools::new(&config, None);
    tokio::time::advance(Duration::from_secs(5)).await;
    config.upstreams.insert("c".to_owned(), upstream);
    config.pools.insert("p".to_owned(), config::Pool::of(of(&["a", "b", "c"])));
    config.pools.insert("q".to_owned(), config::Pool::of(of(&["a", "c"])));
    let pools = Pools::new(&config, Some(&before));
    // Often, so that no two upstreams' intervals end between two requests.
    for round in 0..3000 {
        tokio::time::advance(Duration::from_millis(10)).await;
        let mut attempt = attempt(pools.get(if round % 7 == 0 { "q" } else { "p" }).unwrap(), &[]).unwrap();
        if attempt.upstream() == "c" && round % 5 != 0 { attempt.failed() } else { attempt.succeeded() }
    }
    let states: Vec<_> = ["a", "b", "c"].map(|name| pools.member(name).unwrap().standing().state).into();
    assert_eq!(states[..2], ["up", "up"]);
    assert_ne!(states[2], "up");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_survives_a_reload() {
    let config = Config::embedded();
    let before = Pools::new(&config, None);
    before.member("sim").unwrap().drain(true);
    let after = Pools::new(&config, Some(&before));
    assert_eq!(after.member("sim").unwrap().standing().state, "draining");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_before_a_reload_does_not_count_the_places_of_then() {
    let mut config = Config::embedded();
    let mut upstream = config.upstreams["sim"].clone();
    upstream.concurrency = Some(2);
    for name in ["a", "b", "c"] {
        config.upstreams.insert(name.to_owned(), upstream.clone());
    }
    let of = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1.0)).collect();
    config.pools.insert("p".to_owned(), config::Pool::of(of(&["a", "b"])));
    let before = Pools::new(&config, None);
    let mut running = attempt(before.get("p").unwrap(), &[]).unwrap();
    config.pools.insert("p".to_owned(), config::Pool::of(of(&["a", "b", "c"])));
    let pools = Pools::new(&config, Some(&before));
    running.failed();
    assert_eq!(pools.get("p").unwrap().admission().snapshot().slots, 6);
}
