use super::*;
use crate::priority::Priority;

fn asked(tenant: &str) -> Asked {
    Asked { tenant: tenant.into(), weight: 1.0, priority: Priority::Normal, input: 10 }
}

#[tokio::test(start_paused = true)]
async fn a_free_slot_is_given_at_once_and_handed_on() {
    let admission = Admission::new(Settings { slots: 1, queue: 1, ..Settings::default() });
    let first = admission.enter(asked("a")).unwrap().await.unwrap();
    let second = admission.enter(asked("a")).unwrap();
    assert!(matches!(admission.enter(asked("b")), Err(Refused::QueueFull { .. })));
    drop(first);
    let second = second.await.unwrap();
    second.charge(7);
    assert_eq!(second.charged(), (10, 7));
    assert_eq!(admission.snapshot().in_flight, 1);
    drop(second);
    assert_eq!(admission.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_ends_with_a_refusal() {
    let admission =
        Admission::new(Settings { slots: 1, wait: Duration::from_secs(5), ..Settings::default() });
    let _first = admission.enter(asked("a")).unwrap().await.unwrap();
    let began = Instant::now();
    let refused = admission.enter(asked("b")).unwrap().await.unwrap_err();
    assert!(matches!(refused, Refused::TooLong { .. }));
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(admission.snapshot().waiting, 0);
}
