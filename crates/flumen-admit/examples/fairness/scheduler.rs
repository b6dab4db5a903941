//! The four schedulers that are compared.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use flumen_admit::{
    Asked, Policy, Priority, Weights,
    schedule::{Rules, Schedule, Turn},
};

use crate::scenario::{Request, Scenario};

pub(crate) const WEIGHTS: Weights = Weights { input: 1.0, output: 2.0 };

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// First come, first served.
    Fcfs,
    /// The same, but each tenant may send so many requests in a minute; the others are refused.
    Rpm,
    /// Least counter first, without lifting who comes back.
    Lcf,
    /// The crate's schedule.
    Vtc,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Fcfs, Self::Rpm, Self::Lcf, Self::Vtc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fcfs => "FCFS",
            Self::Rpm => "RPM",
            Self::Lcf => "LCF",
            Self::Vtc => "VTC (ours)",
        }
    }
}

pub(crate) enum Scheduler {
    Queue { waiting: VecDeque<usize>, limit: Option<Limit> },
    Lcf { waiting: Vec<VecDeque<usize>>, counters: Vec<f64> },
    Vtc { schedule: Box<Schedule<usize>>, names: Vec<Arc<str>>, weights: Vec<f64> },
}

pub(crate) struct Limit {
    per_minute: u32,
    minute: u64,
    used: Vec<u32>,
}

/// What the scheduler is told about a request that runs.
pub(crate) struct Running(Option<Turn>);

impl Scheduler {
    pub(crate) fn new(kind: Kind, scenario: &Scenario) -> Self {
        let tenants = scenario.tenants.len();
        match kind {
            Kind::Fcfs => Self::Queue { waiting: VecDeque::new(), limit: None },
            Kind::Rpm => {
                let limit = Limit { per_minute: scenario.per_minute, minute: 0, used: vec![0; tenants] };
                Self::Queue { waiting: VecDeque::new(), limit: Some(limit) }
            }
            Kind::Lcf => Self::Lcf { waiting: vec![VecDeque::new(); tenants], counters: vec![0.0; tenants] },
            Kind::Vtc => {
                let (policy, ageing) = (Policy::Strict, Duration::ZERO);
                let (queue, queue_per_tenant) = (usize::MAX, usize::MAX);
                Self::Vtc {
                    schedule: Box::new(Schedule::new(Rules {
                        weights: WEIGHTS,
                        policy,
                        ageing,
                        queue,
                        queue_per_tenant,
                    })),
                    names: (0..tenants).map(|tenant| format!("tenant {tenant:02}").into()).collect(),
                    weights: scenario.tenants.iter().map(|tenant| tenant.weight).collect(),
                }
            }
        }
    }

    /// Puts a request into the queue; `false`: it is refused.
    pub(crate) fn enter(&mut self, now: f64, number: usize, request: &Request) -> bool {
        match self {
            Self::Queue { waiting, limit } => {
                if let Some(limit) = limit {
                    let minute = (now / 60.0) as u64;
                    if limit.minute != minute {
                        limit.minute = minute;
                        limit.used.fill(0);
                    }
                    if limit.used[request.tenant] == limit.per_minute {
                        return false;
                    }
                    limit.used[request.tenant] += 1;
                }
                waiting.push_back(number);
            }
            Self::Lcf { waiting, .. } => waiting[request.tenant].push_back(number),
            Self::Vtc { schedule, names, weights } => {
                let asked = Asked {
                    tenant: Arc::clone(&names[request.tenant]),
                    weight: weights[request.tenant],
                    priority: Priority::Normal,
                    input: request.input,
                };
                schedule.enter(Duration::from_secs_f64(now), &asked, number);
            }
        }
        true
    }

    /// The request that is next.
    pub(crate) fn next(&mut self, now: f64, requests: &[Request]) -> Option<(usize, Running)> {
        match self {
            Self::Queue { waiting, .. } => waiting.pop_front().map(|number| (number, Running(None))),
            Self::Lcf { waiting, counters } => {
                let waits = (0..waiting.len()).filter(|&tenant| !waiting[tenant].is_empty());
                let least = waits.min_by(|&a, &b| counters[a].total_cmp(&counters[b]))?;
                let number = waiting[least].pop_front()?;
                counters[least] += WEIGHTS.input * requests[number].input as f64;
                Some((number, Running(None)))
            }
            Self::Vtc { schedule, .. } => {
                let chosen = schedule.next(Duration::from_secs_f64(now))?;
                Some((chosen.entry, Running(Some(chosen.turn))))
            }
        }
    }

    /// A running request has written one token.
    pub(crate) fn token(&mut self, request: &Request, running: &Running) {
        match (self, &running.0) {
            (Self::Lcf { counters, .. }, _) => counters[request.tenant] += WEIGHTS.output,
            (_, Some(turn)) => turn.charge(1),
            (_, None) => {}
        }
    }

    pub(crate) fn finish(&mut self, now: f64, running: &Running) {
        if let (Self::Vtc { schedule, .. }, Some(turn)) = (self, &running.0) {
            schedule.finish(Duration::from_secs_f64(now), turn);
        }
    }
}
