//! How fair it was.

use crate::{
    pool::{Outcome, SLOTS},
    scenario::{SECONDS, Scenario},
    scheduler::WEIGHTS,
};

pub(crate) struct Figures {
    /// Service difference within a minute.
    pub(crate) most: f64,
    pub(crate) mean: f64,
    /// The widest gap between two tenants since both have been waiting, and its mean over time.
    pub(crate) gap: f64,
    pub(crate) mean_gap: f64,
    /// What the paper proves about two tenants that wait.
    pub(crate) bound: f64,
    /// Tokens a second.
    pub(crate) throughput: f64,
    pub(crate) refused: usize,
    /// Mean and 99th percentile of the time to first token by group, in seconds.
    pub(crate) first_tokens: Vec<(&'static str, f64, f64)>,
}

impl Figures {
    pub(crate) fn of(scenario: &Scenario, outcome: &Outcome) -> Self {
        let within = differences(scenario, outcome);
        let values = || within.iter().map(|&(_, value)| value);
        let longest = |length: fn(&crate::scenario::Request) -> u64| {
            scenario.requests.iter().map(length).max().unwrap_or(0) as f64
        };
        let (input, output) = (longest(|request| request.input), longest(|request| request.output));
        let least = scenario.tenants.iter().map(|tenant| tenant.weight).fold(f64::INFINITY, f64::min);
        let at_once = SLOTS as f64 * (input + output);
        Self {
            most: values().fold(0.0, f64::max),
            mean: values().sum::<f64>() / within.len() as f64,
            gap: outcome.gaps.iter().map(|&(_, gap)| gap).fold(0.0, f64::max),
            mean_gap: outcome.gaps.iter().map(|&(_, gap)| gap).sum::<f64>() / outcome.gaps.len() as f64,
            bound: 2.0 * f64::max(WEIGHTS.input * input, WEIGHTS.output * at_once) / least,
            throughput: outcome.tokens as f64 / SECONDS,
            refused: outcome.refused,
            first_tokens: first_tokens(scenario, outcome),
        }
    }
}

/// Service per weight between two seconds.
fn between(scenario: &Scenario, outcome: &Outcome, from: usize, to: usize) -> Vec<f64> {
    let tenants = scenario.tenants.iter().enumerate();
    tenants
        .map(|(at, tenant)| (outcome.service[to][at] - outcome.service[from][at]) / tenant.weight)
        .collect()
}

/// By time: the sum over tenants of how far each is behind the one that was served most within a minute, as far as it has asked for
/// more than it got.
pub(crate) fn differences(scenario: &Scenario, outcome: &Outcome) -> Vec<(f64, f64)> {
    let at = |middle: usize| {
        let (from, to) = (middle - 30, middle + 30);
        let served = between(scenario, outcome, from, to);
        let most = served.iter().copied().fold(0.0, f64::max);
        let behind = served.iter().zip(&scenario.tenants).enumerate().map(|(tenant, (&served, of))| {
            let wanted = (outcome.asked[to][tenant] - outcome.service[to][tenant]).max(0.0) / of.weight;
            (most - served).min(wanted)
        });
        (middle as f64, behind.sum())
    };
    (30..outcome.service.len() - 30).step_by(2).map(at).collect()
}

/// By tenant and time: the part of the service within ten seconds.
pub(crate) fn shares(outcome: &Outcome) -> Vec<Vec<(f64, f64)>> {
    let tenants = outcome.service[0].len();
    let at = |tenant: usize, middle: usize| {
        let of = |tenant: usize| outcome.service[middle + 5][tenant] - outcome.service[middle - 5][tenant];
        (middle as f64, of(tenant) / (0..tenants).map(of).sum::<f64>().max(1.0))
    };
    let seconds = 5..outcome.service.len() - 5;
    (0..tenants).map(|tenant| seconds.clone().step_by(2).map(|middle| at(tenant, middle)).collect()).collect()
}

fn first_tokens(scenario: &Scenario, outcome: &Outcome) -> Vec<(&'static str, f64, f64)> {
    let mut groups: Vec<&'static str> = scenario.tenants.iter().map(|tenant| tenant.group).collect();
    groups.dedup();
    let group = |group: &'static str| {
        let own = outcome.first_tokens.iter().filter(|(tenant, _)| scenario.tenants[*tenant].group == group);
        let mut times: Vec<f64> = own.map(|&(_, time)| time).collect();
        times.sort_by(f64::total_cmp);
        let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
        (group, mean, times.get(times.len() * 99 / 100).copied().unwrap_or(0.0))
    };
    groups.into_iter().map(group).collect()
}
