//! The laws of the schedule, in virtual time: the bound of the paper, work conservation, no starvation, no credit, weights.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]

use std::{collections::BTreeMap, time::Duration};

use flumen_admit::{
    Asked, Policy, Priority, Shares, Weights,
    schedule::{Place, Rules, Schedule, Turn},
};
use proptest::prelude::*;

const STEP: Duration = Duration::from_millis(10);
const WEIGHTS: Weights = Weights { input: 1.0, output: 2.0 };

fn rules() -> Rules {
    let (policy, ageing) = (Policy::Strict, Duration::ZERO);
    Rules { weights: WEIGHTS, policy, ageing, queue: usize::MAX, queue_per_tenant: usize::MAX }
}

#[derive(Clone, Copy, Debug)]
struct Request {
    tenant: usize,
    priority: Priority,
    arrives: u32,
    input: u64,
    /// What is charged for the input until the request ends.
    estimate: u64,
    output: u64,
    /// It leaves the queue if it still waits then.
    leaves: Option<u32>,
}

/// A pool whose slots write one token each step.
struct Pool {
    schedule: Schedule<usize>,
    requests: Vec<Request>,
    weights: Vec<f64>,
    slots: usize,
    step: u32,
    running: Vec<(Turn, usize, u64)>,
    /// The waiting, by request.
    places: BTreeMap<usize, Place>,
    /// Requests of each tenant that wait.
    waiting: Vec<usize>,
    /// Service per weight.
    service: Vec<f64>,
    /// When each request was chosen.
    chosen: Vec<Option<u32>>,
    /// Least and greatest difference of the service of two tenants since both have been waiting.
    both: BTreeMap<(usize, usize), (f64, f64)>,
    widest: f64,
}

impl Pool {
    fn new(rules: Rules, slots: usize, weights: Vec<f64>, requests: Vec<Request>) -> Self {
        let tenants = weights.len();
        Self {
            schedule: Schedule::new(rules),
            chosen: vec![None; requests.len()],
            requests,
            weights,
            slots,
            step: 0,
            running: Vec::new(),
            places: BTreeMap::new(),
            waiting: vec![0; tenants],
            service: vec![0.0; tenants],
            both: BTreeMap::new(),
            widest: 0.0,
        }
    }

    fn now(&self) -> Duration {
        STEP * self.step
    }

    fn serve(&mut self, tenant: usize, service: f64) {
        self.service[tenant] += service / self.weights[tenant];
    }

    /// Looks at every pair of tenants after something has happened.
    fn look(&mut self) {
        for a in 0..self.weights.len() {
            for b in 0..a {
                if self.waiting[a] == 0 || self.waiting[b] == 0 {
                    self.both.remove(&(a, b));
                    continue;
                }
                let now = self.service[a] - self.service[b];
                let (least, most) = self.both.entry((a, b)).or_insert((now, now));
                (*least, *most) = (least.min(now), most.max(now));
                self.widest = self.widest.max(*most - *least);
            }
        }
    }

    fn fill(&mut self) {
        while self.running.len() < self.slots
            && let Some(chosen) = self.schedule.next(self.now())
        {
            let request = self.requests[chosen.entry];
            self.places.remove(&chosen.entry);
            self.chosen[chosen.entry] = Some(self.step);
            self.waiting[request.tenant] -= 1;
            self.serve(request.tenant, request.input as f64 * WEIGHTS.input);
            self.running.push((chosen.turn, chosen.entry, request.output));
            self.look();
        }
        assert!(self.running.len() == self.slots || self.schedule.waiting() == 0, "work conservation");
        assert_eq!(self.schedule.waiting(), self.places.len());
        assert_eq!(self.schedule.running(), self.running.len());
    }

    fn step(&mut self) {
        for n in 0..self.requests.len() {
            let request = self.requests[n];
            if request.arrives == self.step {
                let asked = Asked {
                    tenant: format!("tenant {}", request.tenant).into(),
                    weight: self.weights[request.tenant],
                    priority: request.priority,
                    input: request.estimate,
                };
                let place = self.schedule.enter(self.now(), &asked, n);
                self.places.insert(n, place);
                self.waiting[request.tenant] += 1;
                self.look();
            }
            if request.leaves == Some(self.step)
                && let Some(place) = self.places.remove(&n)
            {
                assert_eq!(self.schedule.leave(self.now(), place), Some(n));
                self.waiting[request.tenant] -= 1;
                self.look();
            }
        }
        self.fill();
        for at in (0..self.running.len()).rev() {
            let (turn, request, left) = &mut self.running[at];
            turn.charge(1);
            *left -= 1;
            let (tenant, left) = (self.requests[*request].tenant, *left);
            self.serve(tenant, WEIGHTS.output);
            self.look();
            if left == 0 {
                let (turn, request, _) = self.running.swap_remove(at);
                self.schedule.settle(self.now(), &turn, Some(self.requests[request].input), None);
                self.schedule.finish(self.now(), &turn);
            }
        }
        self.step += 1;
    }

    /// Until everything is served.
    fn run(&mut self) {
        let last = self.requests.iter().map(|request| request.arrives).max().unwrap_or(0);
        while self.step <= last || self.schedule.waiting() + self.running.len() > 0 {
            self.step();
            assert!(self.step < 1_000_000, "everything is served");
        }
    }

    /// The bound of theorem 4.4.
    fn bound(&self) -> f64 {
        let input = self.requests.iter().map(|request| request.input).max().unwrap_or(0) as f64;
        let output = self.requests.iter().map(|request| request.output).max().unwrap_or(0) as f64;
        let at_once = self.slots as f64 * (input + output);
        let weight = self.weights.iter().copied().fold(f64::INFINITY, f64::min);
        2.0 * f64::max(WEIGHTS.input * input, WEIGHTS.output * at_once) / weight
    }
}

fn weights(tenants: usize) -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(proptest::sample::select(vec![0.5, 1.0, 2.0, 4.0]), tenants)
}

/// Bursts of requests with pauses between them, so that tenants come back again and again.
fn requests(tenants: usize, leaving: bool) -> impl Strategy<Value = Vec<Request>> {
    let burst = (0..tenants, 0..600_u32, 1..25_usize, 1..150_u64, 1..40_u64, 0..400_u32);
    proptest::collection::vec(burst, 1..12).prop_map(move |bursts| {
        let one = |(tenant, arrives, count, input, output, patience): (usize, u32, usize, u64, u64, u32)| {
            (0..count).map(move |n| Request {
                tenant,
                priority: Priority::Normal,
                arrives,
                input: 1 + (input * (n as u64 + 1)) % 150,
                estimate: 1 + (input * (n as u64 + 1)) % 150,
                output: 1 + (output * (n as u64 + 3)) % 40,
                leaves: (leaving && (n + tenant).is_multiple_of(3)).then_some(arrives + patience),
            })
        };
        bursts.into_iter().flat_map(one).collect()
    })
}

fn pools(leaving: bool) -> impl Strategy<Value = (usize, Vec<f64>, Vec<Request>)> {
    (2..5_usize).prop_flat_map(move |tenants| (1..8_usize, weights(tenants), requests(tenants, leaving)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn service_of_two_who_wait_differs_by_no_more_than_the_bound((slots, weights, requests) in pools(false)) {
        let mut pool = Pool::new(rules(), slots, weights, requests);
        pool.run();
        prop_assert!(pool.widest <= pool.bound(), "{} > {}", pool.widest, pool.bound());
        prop_assert!(pool.chosen.iter().all(Option::is_some));
    }

    #[test]
    fn leaving_at_any_moment_changes_nothing_of_that((slots, weights, requests) in pools(true)) {
        let mut pool = Pool::new(rules(), slots, weights, requests);
        pool.run();
        prop_assert!(pool.widest <= pool.bound(), "{} > {}", pool.widest, pool.bound());
    }

    // A generous bound: errors of what runs count, for either tenant and at both ends of the interval; those of what has ended
    // do not, however many there were.
    #[test]
    fn wrong_estimates_do_not_add_up(
        (slots, weights, mut requests) in pools(false),
        errors in proptest::collection::vec(-100..300_i64, 16),
    ) {
        for (n, request) in requests.iter_mut().enumerate() {
            request.estimate = request.input.saturating_add_signed(errors[n % errors.len()]).max(1);
        }
        let mut pool = Pool::new(rules(), slots, weights, requests);
        pool.run();
        let error = pool.requests.iter().map(|request| request.input.abs_diff(request.estimate)).max().unwrap_or(0);
        let weight = pool.weights.iter().copied().fold(f64::INFINITY, f64::min);
        let bound = pool.bound() + 6.0 * slots as f64 * error as f64 * WEIGHTS.input / weight;
        prop_assert!(pool.widest <= bound, "{} > {bound}", pool.widest);
    }

    #[test]
    fn requests_of_a_tenant_are_chosen_in_their_order((slots, weights, requests) in pools(false)) {
        let tenants = weights.len();
        let mut pool = Pool::new(rules(), slots, weights, requests);
        pool.run();
        for tenant in 0..tenants {
            let mut own: Vec<(u32, usize)> = pool.requests.iter().enumerate()
                .filter(|(_, request)| request.tenant == tenant)
                .map(|(n, request)| (request.arrives, n)).collect();
            own.sort_unstable();
            let chosen: Vec<u32> = own.iter().map(|&(_, n)| pool.chosen[n].unwrap()).collect();
            prop_assert!(chosen.is_sorted());
        }
    }

    // Of those that have had as little as it, the oldest request goes first: that is the one here.
    #[test]
    fn the_lowest_class_waits_twice_the_ageing_and_for_one_slot(
        slots in 1..6_usize,
        flood in 1..5_usize,
        input in 1..100_u64,
        output in 1..40_u64,
        ageing in 1..200_u32,
    ) {
        let steps = 2 * ageing + 200;
        let mut requests = vec![Request {
            tenant: 0, priority: Priority::Batch, arrives: 0, input: 10, estimate: 10, output: 10, leaves: None,
        }];
        // More than can be served, of the highest class, all the time.
        for arrives in 0..steps {
            requests.extend((1..=flood).flat_map(|tenant| (0..slots).map(move |_| Request {
                tenant, priority: Priority::Interactive, arrives, input, estimate: input, output, leaves: None,
            })));
        }
        let rules = Rules { ageing: STEP * ageing, ..rules() };
        let mut pool = Pool::new(rules, slots, vec![1.0; flood + 1], requests);
        while pool.chosen[0].is_none() {
            prop_assert!(pool.step <= steps, "starved");
            pool.step();
        }
        let waited = pool.chosen[0].unwrap();
        prop_assert!(waited <= 2 * ageing + 1 + output as u32, "{waited}");
        prop_assert!(waited > 0);
    }

    #[test]
    fn every_request_of_every_class_is_served(
        (slots, weights, mut requests) in pools(false),
        weighted in any::<bool>(),
    ) {
        for (n, request) in requests.iter_mut().enumerate() {
            request.priority = Priority::ALL[(n + request.tenant) % 3];
        }
        let policy = if weighted { Policy::Weighted(Shares::default()) } else { Policy::Strict };
        let mut pool = Pool::new(Rules { policy, ageing: STEP * 50, ..rules() }, slots, weights, requests);
        pool.run();
        prop_assert!(pool.chosen.iter().all(Option::is_some));
    }
}

fn backlog(
    tenant: usize,
    count: usize,
    arrives: u32,
    input: u64,
    output: u64,
) -> impl Iterator<Item = Request> {
    let request =
        Request { tenant, priority: Priority::Normal, arrives, input, estimate: input, output, leaves: None };
    std::iter::repeat_n(request, count)
}

#[test]
fn shares_follow_the_weights() {
    let requests: Vec<Request> =
        (0..3).flat_map(|tenant| backlog(tenant, 4000, 0, 20 + tenant as u64 * 30, 20)).collect();
    let mut pool = Pool::new(rules(), 8, vec![1.0, 2.0, 4.0], requests);
    (0..4000).for_each(|_| pool.step());
    let [a, b, c] = [pool.service[0], pool.service[1], pool.service[2]];
    assert!((a / b - 1.0).abs() < 0.03 && (a / c - 1.0).abs() < 0.03, "per weight: {a} {b} {c}");
}

#[test]
fn who_comes_back_gets_its_share_and_no_more() {
    let mut requests: Vec<Request> = backlog(0, 3000, 0, 50, 20).collect();
    requests.extend(backlog(1, 5, 0, 50, 20));
    requests.extend(backlog(1, 1000, 2000, 50, 20));
    let mut pool = Pool::new(rules(), 4, vec![1.0; 2], requests);
    (0..2000).for_each(|_| pool.step());
    let before = pool.service.clone();
    (0..500).for_each(|_| pool.step());
    let gained: Vec<f64> = (0..2).map(|tenant| pool.service[tenant] - before[tenant]).collect();
    assert!(before[0] > 10.0 * before[1]);
    assert!((gained[0] - gained[1]).abs() <= pool.bound(), "{gained:?}");
    assert!((gained[0] / gained[1] - 1.0).abs() < 0.05, "{gained:?}");
}
