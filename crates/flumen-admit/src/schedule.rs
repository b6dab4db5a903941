//! Whose turn it is: waiting requests of many tenants, chosen by who has had the least.
//!
//! This is the virtual token counter of Sheng et al., *Fairness in Serving Large Language Models*, OSDI 2024. A tenant's
//! counter is the service it has had, `(w_in · input tokens + w_out · output tokens) / weight`: input is charged when a
//! request is chosen, output while it streams. The tenant of the least counter is served next, its requests in the order
//! in which they came; of equal counters the one whose request is older. Whoever comes back from having nothing waiting
//! is lifted to the least counter of those that wait, or, when nobody waits, to that of the last one served: there is no credit
//! for having been away. While two tenants wait, the service they get differs by at most
//! `2 · max(w_in · longest input, w_out · tokens that can run at once)`, per unit of weight (theorem 4.4 there).
//!
//! Each class has counters of its own, so the bound holds within a class whatever happens in the others. Above them
//! [`Policy`] says which class is next; a request that has waited longer than the ageing moves up one class, at most to
//! the first, and counts there in every respect.
//!
//! Nothing here knows threads or clocks: the caller holds the lock and says what time it is, as a duration since any
//! moment. All steps take time logarithmic in tenants and waiting requests.

mod account;
mod ageing;
mod class;
mod report;
mod service;
mod tenant;
mod turn;

use std::{collections::VecDeque, sync::Arc, time::Duration};

pub(crate) use self::service::Recent;
use self::{
    ageing::{Ageing, Ripening},
    class::Class,
    service::Rates,
    tenant::{Flow, TenantId, Tenants, Waiting},
};
pub use self::{
    report::{ClassReport, TenantReport},
    service::Weights,
    turn::Turn,
};
use crate::priority::{Policy, Priority, Shares};

const CLASSES: usize = Priority::ALL.len();

/// How the waiting are ordered and bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// What tokens cost.
    pub weights: Weights,
    /// How the classes share.
    pub policy: Policy,
    /// Whoever has waited longer than this counts as one class higher, and again after each further time; zero: never.
    pub ageing: Duration,
    /// Requests that may wait in all.
    pub queue: usize,
    /// Requests of one tenant that may wait.
    pub queue_per_tenant: usize,
}

/// A request that wants to be served.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The tenant's weight from now on: with twice the weight it gets twice the service. Clamped to 0.001 ..= 1000; one that
    /// is not a number counts as 1.
    pub weight: f64,
    /// Its class.
    pub priority: Priority,
    /// Input tokens, estimated; at least one is charged.
    pub input: u64,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many wait as may wait in all.
    Queue,
    /// As many of the tenant wait as may.
    Tenant,
}

/// Where a waiting request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    tenant: TenantId,
    number: u64,
}

/// A request whose turn has come.
#[derive(Debug)]
pub struct Chosen<E> {
    /// What was given to [`Schedule::enter`].
    pub entry: E,
    /// To charge for and to end.
    pub turn: Turn,
    /// How long it has waited.
    pub waited: Duration,
}

/// The waiting requests and the counters of their tenants.
#[derive(Debug)]
pub struct Schedule<E> {
    rules: Rules,
    tenants: Tenants<E>,
    classes: [Class; CLASSES],
    /// The class that was served last.
    last: usize,
    /// Where a class begins that comes back: the least counter of those with waiting requests. It never falls.
    floor: u128,
    ageing: Ageing,
    /// Tenants without flows, in the order in which they lost the last.
    resting: VecDeque<(Duration, TenantId)>,
    numbers: u64,
    waiting: usize,
    running: usize,
    /// Service of everybody.
    recent: Recent,
    now: Duration,
}

impl<E> Schedule<E> {
    /// Nobody waits.
    pub fn new(rules: Rules) -> Self {
        let rules = Rules { weights: rules.weights.tame(), ..rules };
        Self {
            rules,
            tenants: Tenants::new(),
            classes: std::array::from_fn(|class| Class::new(class_rates(&rules, class))),
            last: 0,
            floor: 0,
            ageing: Ageing::default(),
            resting: VecDeque::new(),
            numbers: 0,
            waiting: 0,
            running: 0,
            recent: Recent::default(),
            now: Duration::ZERO,
        }
    }

    /// Changes the rules. Who waits or runs stays, and so does what was charged.
    pub fn configure(&mut self, rules: Rules) {
        self.rules = Rules { weights: rules.weights.tame(), ..rules };
        for (class, state) in self.classes.iter_mut().enumerate() {
            state.rates = class_rates(&self.rules, class);
        }
        for tenant in self.tenants.iter_mut() {
            tenant.rates = Rates::new(self.rules.weights, tenant.weight);
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Turns that have not ended.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Tenants that are known: those with requests or debts, and a bounded number of others.
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// Whether one more request of a tenant may wait.
    pub fn check(&self, tenant: &str) -> Result<(), Full> {
        if self.waiting >= self.rules.queue {
            return Err(Full::Queue);
        }
        let own = self.tenants.find(tenant).and_then(|id| self.tenants.get(id));
        if own.map_or(0, |tenant| tenant.waiting) >= self.rules.queue_per_tenant {
            Err(Full::Tenant)
        } else {
            Ok(())
        }
    }

    /// Puts a request at the end of its tenant's queue, whatever [`check`](Self::check) says.
    pub fn enter(&mut self, now: Duration, asked: &Asked, entry: E) -> Place {
        self.tick(now);
        let weight = service::tame(asked.weight);
        let rates = Rates::new(self.rules.weights, weight);
        let id = match self.tenants.find(&asked.tenant) {
            Some(id) => id,
            None => self.tenants.add(&asked.tenant, weight, rates),
        };
        let tenant = self.tenants.known(id);
        (tenant.weight, tenant.rates) = (weight, rates);
        tenant.waiting += 1;
        self.waiting += 1;
        self.numbers += 1;
        let (number, class) = (self.numbers, asked.priority as usize);
        self.ageing.add(class, Ripening { since: self.now, number, tenant: id });
        self.put(id, class, number, Waiting { entry, since: self.now, input: asked.input.max(1) });
        self.forget();
        Place { tenant: id, number }
    }

    /// Takes a request out of the queue, if it still waits.
    pub fn leave(&mut self, now: Duration, place: Place) -> Option<E> {
        self.tick(now);
        let waiting = (0..CLASSES).find_map(|class| self.pull(place.tenant, class, place.number))?;
        self.tenants.known(place.tenant).waiting -= 1;
        self.waiting -= 1;
        self.tidy();
        Some(waiting.entry)
    }

    /// The request whose turn it is. Its input is charged.
    pub fn next(&mut self, now: Duration) -> Option<Chosen<E>> {
        self.tick(now);
        if self.waiting == 0 {
            return None;
        }
        self.rise();
        let class = self.class()?;
        let least = self.least(class)?;
        let flow = self.tenants.flow(least, class);
        let (_, Waiting { entry, since, input }) = flow.queue.pop_first()?;
        flow.running += 1;
        let (counter, joins) = (flow.counter, flow.joins);
        let tenant = self.tenants.known(least);
        tenant.waiting -= 1;
        tenant.running += 1;
        let turn = Turn::new(least, class, input, tenant, (joins, self.classes[class].joins));
        self.waiting -= 1;
        self.running += 1;
        self.last = class;
        let state = &mut self.classes[class];
        state.waiting -= 1;
        state.floor = state.floor.max(counter);
        self.charge(least, class, input, 0);
        self.seat(least, class);
        if self.classes[class].active.is_empty() {
            self.classes[class].last = Some(least);
        }
        self.tidy();
        Some(Chosen { entry, turn, waited: self.now.saturating_sub(since) })
    }

    /// Ends a turn. To be called once for each.
    pub fn finish(&mut self, now: Duration, turn: &Turn) {
        self.tick(now);
        let (id, class) = (turn.tenant, turn.class);
        self.collect(id, class);
        self.tenants.known(id).running -= 1;
        self.tenants.flow(id, class).running -= 1;
        self.running -= 1;
        self.idle(id, class);
    }

    fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// The class whose turn it is.
    fn class(&self) -> Option<usize> {
        let mut active = (0..CLASSES).filter(|&class| self.classes[class].waiting > 0);
        match self.rules.policy {
            Policy::Strict => active.next(),
            Policy::Weighted(_) => active.min_by_key(|&class| (self.classes[class].counter, class)),
        }
    }

    /// The tenant of the least counter among those that wait in a class.
    fn least(&mut self, class: usize) -> Option<TenantId> {
        loop {
            let &(.., id) = self.classes[class].active.first()?;
            // What it has streamed since it was looked at last may have cost it the first place.
            if !self.collect(id, class) {
                return Some(id);
            }
        }
    }

    /// Where a flow begins that comes back to a class.
    fn floor(&mut self, class: usize) -> u128 {
        let from = self.least(class).or(self.classes[class].last);
        let Some(id) = from else { return self.classes[class].floor };
        self.collect(id, class);
        let counter = self.tenants.flow(id, class).counter;
        let state = &mut self.classes[class];
        state.floor = state.floor.max(counter);
        state.floor
    }

    /// Puts a request into a flow, which may come back to the queue by that.
    fn put(&mut self, id: TenantId, class: usize, number: u64, waiting: Waiting<E>) {
        let state = &mut self.classes[class];
        let tenant = self.tenants.known(id);
        tenant.resting = None;
        let flow = tenant.flows[class].get_or_insert_with(|| Flow::new(state.forgotten));
        if flow.is_idle() {
            state.idle.remove(&(flow.counter, id));
        }
        if flow.queue.is_empty() {
            self.collect(id, class);
            let floor = self.floor(class);
            self.lift_class(class);
            let flow = self.tenants.flow(id, class);
            flow.slack = flow.counter.saturating_sub(floor);
            flow.counter = flow.counter.max(floor);
            flow.joins += 1;
        }
        self.tenants.flow(id, class).queue.insert(number, waiting);
        self.classes[class].waiting += 1;
        self.seat(id, class);
    }

    /// A class in which nobody waited starts where the others are.
    fn lift_class(&mut self, class: usize) {
        if self.classes[class].waiting > 0 {
            return;
        }
        let others = self.classes.iter().filter(|other| other.waiting > 0).map(|other| other.counter).min();
        self.floor = self.floor.max(others.unwrap_or(self.classes[self.last].counter));
        let state = &mut self.classes[class];
        state.counter = state.counter.max(self.floor);
        state.joins += 1;
    }

    /// Takes a request out of a flow.
    fn pull(&mut self, id: TenantId, class: usize, number: u64) -> Option<Waiting<E>> {
        self.tenants.get(id)?.flows[class].as_ref()?.queue.get(&number)?;
        let waiting = self.tenants.flow(id, class).queue.remove(&number)?;
        self.classes[class].waiting -= 1;
        self.seat(id, class);
        self.idle(id, class);
        Some(waiting)
    }

    /// Drops what is gone from the lines of those who age, now and then.
    fn tidy(&mut self) {
        let tenants = &self.tenants;
        self.ageing.tidy(self.waiting, |request| {
            let flows =
                tenants.get(request.tenant).into_iter().flat_map(|tenant| tenant.flows.iter().flatten());
            flows.into_iter().any(|flow| flow.queue.contains_key(&request.number))
        });
    }

    /// Moves up who has waited long enough.
    fn rise(&mut self) {
        while let Some((request, class, rise)) = self.ageing.next(self.now, self.rules.ageing) {
            if let Some(waiting) = self.pull(request.tenant, class, request.number) {
                self.put(request.tenant, class - 1, request.number, waiting);
                self.ageing.risen(request, rise);
            }
        }
    }

    /// Puts a flow where it belongs among those that wait.
    fn seat(&mut self, id: TenantId, class: usize) {
        let flow = self.tenants.flow(id, class);
        let key = flow.queue.first_key_value().map(|(&number, _)| (flow.counter, number));
        let before = std::mem::replace(&mut flow.key, key);
        if before == key {
            return;
        }
        let active = &mut self.classes[class].active;
        if let Some((counter, number)) = before {
            active.remove(&(counter, number, id));
        }
        if let Some((counter, number)) = key {
            active.insert((counter, number, id));
        }
    }

    /// Remembers the debt of a flow that has nothing waiting and nothing running.
    fn idle(&mut self, id: TenantId, class: usize) {
        let flow = self.tenants.flow(id, class);
        if flow.is_idle() {
            let counter = flow.counter;
            self.classes[class].idle.insert((counter, id));
        }
    }
}

fn class_rates(rules: &Rules, class: usize) -> Rates {
    let shares = if let Policy::Weighted(shares) = rules.policy { shares } else { Shares::default() };
    Rates::new(rules.weights, shares.of(class))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
