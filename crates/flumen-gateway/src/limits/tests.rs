use super::*;
use crate::access::Identity;

fn limits(requests_per_minute: u64) -> Limits {
    Limits { requests_per_minute: Some(requests_per_minute), ..Limits::default() }
}

fn identity(tenant: &str, tenants: Limits, keys: Limits) -> Identity {
    let mut identity = (*Identity::anonymous()).clone();
    let mut own = (*identity.tenant).clone();
    own.name = tenant.into();
    own.settings.limits = tenants;
    identity.tenant = Arc::new(own);
    identity.key = Some(format!("key-of-{tenant}").into());
    identity.limits = Arc::new(keys);
    identity
}

const NONE: Limits = Limits {
    requests_per_second: None,
    requests_per_minute: None,
    requests_burst: None,
    tokens_per_minute: None,
    input_tokens_per_minute: None,
    output_tokens_per_minute: None,
    tokens_per_day: None,
    concurrent_streams: None,
    max_tokens: None,
    bytes_per_second: None,
    frames_per_second: None,
    shape: crate::config::Shape::TokenBucket,
    shape_burst: None,
};

#[tokio::test(start_paused = true)]
async fn the_scope_that_is_used_up_is_named() {
    let limiter = Limiter::new(&limits(5));
    let ask = |who: &Identity, model: &Limits| limiter.admit(who, "m", model, 0, 0);
    let acme = identity("acme", limits(2), NONE);
    ask(&acme, &NONE).unwrap();
    let held = ask(&acme, &NONE).unwrap();
    assert_eq!(held.headers()["x-ratelimit-remaining-requests"], "0");
    assert_eq!(held.headers()["x-ratelimit-limit-requests"], "2");
    let failure = ask(&acme, &NONE).unwrap_err();
    assert_eq!(
        (failure.status.as_u16(), failure.code, failure.retry_after),
        (429, "rate_limit_exceeded", Some(30))
    );
    assert!(failure.message.contains("the tenant `acme`") && failure.message.contains("requests_per_minute"));
    assert_eq!(failure.headers.unwrap()["x-ratelimit-remaining-requests"], "0");

    let other = identity("other", NONE, limits(1));
    ask(&other, &NONE).unwrap();
    assert!(ask(&other, &NONE).unwrap_err().message.contains("the key `key-of-other`"));
    let third = identity("third", NONE, NONE);
    ask(&third, &limits(1)).unwrap();
    assert!(ask(&third, &limits(1)).unwrap_err().message.contains("the model `m`"));
    // Of the gateway's five, four were used, since those that were refused took nothing.
    ask(&third, &NONE).unwrap();
    assert!(ask(&third, &NONE).unwrap_err().message.contains("this gateway"));
}

#[tokio::test(start_paused = true)]
async fn what_was_used_survives_other_limits() {
    let limiter = Limiter::new(&limits(10));
    let nobody = identity("t", NONE, NONE);
    for _ in 0..4 {
        limiter.admit(&nobody, "m", &NONE, 0, 0).unwrap();
    }
    limiter.apply(&limits(5));
    limiter.admit(&nobody, "m", &NONE, 0, 0).unwrap();
    assert!(limiter.admit(&nobody, "m", &NONE, 0, 0).is_err());
}

#[tokio::test(start_paused = true)]
async fn who_is_idle_is_forgotten_and_who_is_not_is_kept() {
    let limiter = Limiter::new(&NONE);
    for number in 0..100 {
        limiter.admit(&identity(&format!("t{number}"), limits(60), NONE), "m", &NONE, 0, 0).unwrap();
    }
    let busy = Limits { concurrent_streams: Some(1), ..NONE };
    let held = limiter.admit(&identity("busy", busy.clone(), NONE), "m", &NONE, 0, 0).unwrap();
    limiter.tidy();
    assert_eq!(limiter.lock().len(), 101);
    tokio::time::advance(Duration::from_secs(2)).await;
    limiter.tidy();
    assert_eq!(limiter.lock().len(), 1);
    assert!(limiter.admit(&identity("busy", busy, NONE), "m", &NONE, 0, 0).is_err());
    drop(held);
    limiter.tidy();
    assert!(limiter.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn beyond_a_number_of_scopes_only_those_that_nobody_declared_are_forgotten() {
    let limiter = Limiter::new(&NONE);
    let daily = Limits { tokens_per_day: Some(100), ..NONE };
    let of = |name: &str, declared| {
        let mut identity = identity(name, daily.clone(), NONE);
        let mut tenant = (*identity.tenant).clone();
        tenant.declared = declared;
        (identity.tenant, identity.key) = (Arc::new(tenant), None);
        identity
    };
    let ask = |who: &Identity| {
        limiter.admit(who, "m", &NONE, 100, 0).map(|held| held.settle(Some(100), Some(0))).is_ok()
    };
    let (acme, first) = (of("acme", true), of("first", false));
    assert!(ask(&acme) && ask(&first) && !ask(&acme) && !ask(&first));
    for number in 0..MOST {
        assert!(ask(&of(&format!("t{number}"), false)));
    }
    assert!(limiter.lock().len() < MOST);
    assert!(!ask(&acme), "its budget of the day is used up");
    assert!(ask(&first));
}

#[tokio::test(start_paused = true)]
async fn without_limits_nothing_is_kept() {
    let limiter = Limiter::new(&NONE);
    let held = limiter.admit(&Identity::anonymous(), "m", &NONE, 1, 1).unwrap();
    held.output(5);
    assert!(held.headers().is_empty() && limiter.lock().is_empty());
}
