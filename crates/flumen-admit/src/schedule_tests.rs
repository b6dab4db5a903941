use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        weights: Weights::default(),
        policy: Policy::Strict,
        ageing: SECOND * 10,
        queue: 100,
        queue_per_tenant: 50,
    }
}

fn asked(tenant: &str, priority: Priority, input: u64) -> Asked {
    Asked { tenant: tenant.into(), weight: 1.0, priority, input }
}

fn normal(tenant: &str, input: u64) -> Asked {
    asked(tenant, Priority::Normal, input)
}

/// Serves what waits, one after the other.
fn order(schedule: &mut Schedule<&'static str>, now: Duration) -> Vec<&'static str> {
    let next = || {
        let chosen = schedule.next(now)?;
        schedule.finish(now, &chosen.turn);
        Some(chosen.entry)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn tenants_take_turns_by_tokens_and_their_requests_keep_their_order() {
    let mut schedule = Schedule::new(rules());
    for entry in ["a1", "a2", "a3"] {
        schedule.enter(SECOND, &normal("a", 100), entry);
    }
    for entry in ["b1", "b2", "b3", "b4"] {
        schedule.enter(SECOND, &normal("b", 50), entry);
    }
    assert_eq!(order(&mut schedule, SECOND), ["a1", "b1", "b2", "a2", "b3", "b4", "a3"]);
}

#[test]
fn output_counts_while_it_streams() {
    let mut schedule = Schedule::new(rules());
    for tenant in ["a", "b"] {
        (0..3).for_each(|_| _ = schedule.enter(SECOND, &normal(tenant, 10), tenant));
    }
    let first = schedule.next(SECOND).unwrap();
    assert_eq!(first.entry, "a");
    first.turn.charge(40);
    assert_eq!(order(&mut schedule, SECOND)[..2], ["b", "b"]);
}

#[test]
fn coming_back_brings_no_credit() {
    let mut schedule = Schedule::new(rules());
    (0..50).for_each(|_| _ = schedule.enter(SECOND, &normal("busy", 100), "busy"));
    for _ in 0..40 {
        let chosen = schedule.next(SECOND).unwrap();
        schedule.finish(SECOND, &chosen.turn);
    }
    (0..10).for_each(|_| _ = schedule.enter(SECOND, &normal("new", 100), "new"));
    let order = order(&mut schedule, SECOND);
    let turns: Vec<&str> =
        order.chunks(2).map(|pair| if pair[0] == pair[1] { pair[0] } else { "both" }).collect();
    assert_eq!(turns, ["both"; 10]);
}

#[test]
fn when_nobody_waits_the_last_one_served_is_the_measure() {
    let mut schedule = Schedule::new(rules());
    schedule.enter(SECOND, &normal("a", 1000), "a");
    let running = schedule.next(SECOND).unwrap();
    running.turn.charge(1000);
    schedule.enter(SECOND, &normal("b", 10), "b1");
    schedule.enter(SECOND, &normal("b", 10), "b2");
    schedule.enter(SECOND, &normal("a", 10), "a2");
    // With credit it would be both of b first.
    assert_eq!(order(&mut schedule, SECOND), ["b1", "a2", "b2"]);
    schedule.finish(SECOND, &running.turn);
}

#[test]
fn classes_are_strict_until_somebody_has_waited_long() {
    let mut schedule = Schedule::new(rules());
    schedule.enter(SECOND, &asked("c", Priority::Batch, 1), "batch");
    schedule.enter(SECOND, &asked("b", Priority::Normal, 1), "normal");
    schedule.enter(SECOND, &asked("a", Priority::Interactive, 1), "interactive");
    assert_eq!(order(&mut schedule, SECOND), ["interactive", "normal", "batch"]);

    schedule.enter(SECOND, &asked("c", Priority::Batch, 1), "old");
    schedule.enter(SECOND * 10, &asked("b", Priority::Normal, 1), "normal");
    schedule.enter(SECOND * 10, &asked("d", Priority::Batch, 1), "young");
    assert_eq!(order(&mut schedule, SECOND * 12), ["old", "normal", "young"]);

    schedule.enter(SECOND * 20, &asked("c", Priority::Batch, 1), "old");
    schedule.enter(SECOND * 41, &asked("a", Priority::Interactive, 1), "interactive");
    assert_eq!(order(&mut schedule, SECOND * 41), ["old", "interactive"]);
}

#[test]
fn who_is_gone_is_not_remembered_for_its_age() {
    for ageing in [Duration::ZERO, Duration::MAX] {
        let mut schedule = Schedule::new(Rules { ageing, ..rules() });
        for n in 0..10_000 {
            let place = schedule.enter(SECOND, &asked("a", Priority::ALL[n % 3], 1), "");
            if n % 2 == 0 {
                schedule.leave(SECOND, place).unwrap();
            } else {
                let chosen = schedule.next(SECOND).unwrap();
                schedule.finish(SECOND, &chosen.turn);
            }
        }
        assert!(schedule.ageing.len() <= 3 * 66, "{}", schedule.ageing.len());
    }
}

#[test]
fn weighted_classes_share() {
    let policy = Policy::Weighted(Shares { interactive: 3.0, normal: 1.0, batch: 1.0 });
    let mut schedule = Schedule::new(Rules { policy, ageing: Duration::ZERO, ..rules() });
    (0..30).for_each(|_| _ = schedule.enter(SECOND, &asked("a", Priority::Interactive, 10), "interactive"));
    (0..30).for_each(|_| _ = schedule.enter(SECOND, &asked("b", Priority::Batch, 10), "batch"));
    let order = order(&mut schedule, SECOND * 100);
    let batch = order[..40].iter().filter(|&&entry| entry == "batch").count();
    assert_eq!(batch, 10);
    assert_eq!(order.len(), 60);
}

#[test]
fn what_was_estimated_too_high_is_given_back() {
    let mut schedule = Schedule::new(rules());
    for _ in 0..3 {
        schedule.enter(SECOND, &normal("a", 1000), "a");
        schedule.enter(SECOND, &normal("b", 100), "b");
    }
    let first = schedule.next(SECOND).unwrap();
    schedule.settle(SECOND, &first.turn, Some(50), None);
    assert_eq!((first.turn.input(), first.turn.output()), (50, 0));
    schedule.finish(SECOND, &first.turn);
    // b has 100 after its turn, a has 50 and not 1000.
    assert_eq!(order(&mut schedule, SECOND)[..2], ["b", "a"]);
}

#[test]
fn asking_for_much_and_taking_little_saves_nothing_up() {
    let mut schedule = Schedule::new(rules());
    schedule.enter(SECOND, &normal("a", 10_000), "a");
    let estimated = schedule.next(SECOND).unwrap();
    (0..4).for_each(|_| _ = schedule.enter(SECOND, &normal("b", 20_000), "b"));
    schedule.next(SECOND).unwrap();
    schedule.next(SECOND).unwrap();
    // It was behind anyway when it came back: what was too much has made no difference.
    (0..4).for_each(|_| _ = schedule.enter(SECOND, &normal("a", 20_000), "a"));
    schedule.settle(SECOND, &estimated.turn, Some(1), None);
    assert_eq!(order(&mut schedule, SECOND)[..4], ["b", "a", "b", "a"]);
}

#[test]
fn leaving_takes_one_request_out_wherever_it_is() {
    let mut schedule = Schedule::new(rules());
    let places: Vec<Place> =
        (0..4).map(|n| schedule.enter(SECOND, &normal("a", 10), ["0", "1", "2", "3"][n])).collect();
    assert_eq!(schedule.ahead(places[3]), 3);
    assert_eq!(schedule.leave(SECOND, places[1]), Some("1"));
    assert_eq!(schedule.leave(SECOND, places[1]), None);
    assert_eq!(schedule.leave(SECOND, places[0]), Some("0"));
    assert_eq!(schedule.waiting(), 2);
    assert_eq!(order(&mut schedule, SECOND), ["2", "3"]);
    assert_eq!(schedule.leave(SECOND, places[3]), None);
}

#[test]
fn both_bounds_are_told_apart() {
    let mut schedule = Schedule::new(Rules { queue: 3, queue_per_tenant: 2, ..rules() });
    schedule.enter(SECOND, &normal("a", 1), "");
    schedule.enter(SECOND, &normal("a", 1), "");
    assert_eq!(schedule.check("a"), Err(Full::Tenant));
    assert_eq!(schedule.check("b"), Ok(()));
    schedule.enter(SECOND, &normal("b", 1), "");
    assert_eq!(schedule.check("c"), Err(Full::Queue));
}

#[test]
fn idle_tenants_are_forgotten_without_credit() {
    let mut schedule = Schedule::new(rules());
    for n in 0..50_000_u64 {
        let now = SECOND + Duration::from_millis(n);
        schedule.enter(now, &normal(&format!("tenant {n}"), 10 + n % 7), "");
        let chosen = schedule.next(now).unwrap();
        // A debt that is not paid off by those who come after.
        chosen.turn.charge(n % 11 * 1000);
        schedule.finish(now, &chosen.turn);
    }
    assert!(schedule.tenants() <= 2 * class::DEBTORS + 2, "{}", schedule.tenants());
    let highest = schedule.classes[1].idle.last().unwrap().0;
    assert!(schedule.classes[1].floor.max(schedule.classes[1].forgotten) <= highest);

    let later = SECOND * 10_000;
    schedule.enter(later, &normal("a", 1), "");
    schedule.next(later).unwrap();
    assert!(schedule.report(later, 5000).iter().all(|tenant| tenant.share < 1e-6 || &*tenant.name == "a"));
}

#[test]
fn whoever_is_forgotten_with_a_debt_does_not_come_back_without_it() {
    let mut schedule = Schedule::new(rules());
    let name = |n: usize| format!("tenant {n}");
    let most = class::DEBTORS + 100;
    (0..most).for_each(|n| _ = schedule.enter(SECOND, &normal(&name(n), 1), ""));
    // Somebody waits who has had nothing: the floor stays low.
    schedule.enter(SECOND, &normal("waits", 1), "");
    let turns: Vec<Turn> = (0..most).map(|_| schedule.next(SECOND).unwrap().turn).collect();
    for (n, turn) in turns.iter().enumerate() {
        turn.charge(1_000_000 + n as u64);
        schedule.finish(SECOND, turn);
    }
    schedule.enter(SECOND, &normal("last", 1), "");
    // The least debts were given up, so this is one of them.
    let id = schedule.tenants.find(&name(3)).unwrap();
    assert!(schedule.tenants.get(id).unwrap().flows[1].is_none());
    let place = schedule.enter(SECOND, &normal(&name(3), 1), "");
    let counter = service::shown(schedule.tenants.flow(id, 1).counter);
    assert!(counter >= 2_000_007.0, "{counter}");
    assert_eq!(schedule.leave(SECOND, place), Some(""));
}

#[test]
fn the_report_counts_service_and_shares() {
    let mut schedule = Schedule::new(rules());
    for (tenant, output) in [("a", 295), ("b", 95)] {
        schedule.enter(SECOND, &normal(tenant, 10), tenant);
        schedule.next(SECOND).unwrap().turn.charge(output);
    }
    schedule.enter(SECOND, &asked("a", Priority::Batch, 10), "a");
    let report = schedule.report(SECOND * 4, 10);
    let a = &report[0];
    assert_eq!((&*a.name, a.waiting, a.running, a.oldest_wait), ("a", 1, 1, Some(SECOND * 3)));
    assert!((a.service - 600.0).abs() < 1e-9 && (a.share - 0.75).abs() < 0.02, "{a:?}");
    let classes: Vec<Priority> = a.classes.iter().map(|class| class.priority).collect();
    assert_eq!(classes, [Priority::Normal, Priority::Batch]);
    assert_eq!(schedule.report(SECOND * 4, 1).len(), 1);
}

#[test]
fn counters_do_not_lose_a_token_beside_those_of_a_million_years() {
    let mut schedule = Schedule::new(rules());
    schedule.enter(SECOND, &normal("a", 1), "a");
    let turn = schedule.next(SECOND).unwrap().turn;
    schedule.settle(SECOND, &turn, Some(u64::MAX / 2), Some(u64::MAX / 2));
    schedule.finish(SECOND, &turn);
    for entry in ["a", "b", "a", "b"] {
        schedule.enter(SECOND, &normal(entry, 1), entry);
    }
    assert_eq!(order(&mut schedule, SECOND), ["a", "b", "a", "b"]);
}
