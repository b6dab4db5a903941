//! A model server with continuous batching.

use crate::{
    gap::Gaps,
    scenario::{Request, SECONDS, Scenario},
    scheduler::{Kind, Running, Scheduler, WEIGHTS},
};

/// Requests in a batch.
pub(crate) const SLOTS: usize = 32;
/// What a step takes, in seconds: always, per sequence, and per token of the prompts that join.
pub(crate) const STEP: f64 = 0.020;
pub(crate) const SEQUENCE: f64 = 0.0003;
pub(crate) const PREFILL: f64 = 0.0001;

/// What came of it.
pub(crate) struct Outcome {
    /// After each second: the service of each tenant so far, and what it has asked for.
    pub(crate) service: Vec<Vec<f64>>,
    pub(crate) asked: Vec<Vec<f64>>,
    /// By time: the widest gap between two tenants since both have been waiting.
    pub(crate) gaps: Vec<(f64, f64)>,
    /// Tenant and time to first token, in seconds.
    pub(crate) first_tokens: Vec<(usize, f64)>,
    /// Tokens that were read or written.
    pub(crate) tokens: u64,
    pub(crate) refused: usize,
}

struct Serving {
    number: usize,
    running: Running,
    written: u64,
}

fn cost(request: &Request) -> f64 {
    WEIGHTS.input * request.input as f64 + WEIGHTS.output * request.output as f64
}

pub(crate) fn run(scenario: &Scenario, kind: Kind) -> Outcome {
    let requests = &scenario.requests;
    let mut scheduler = Scheduler::new(kind, scenario);
    let tenants = scenario.tenants.len();
    let (mut service, mut asked) = (vec![0.0; tenants], vec![0.0; tenants]);
    let mut waiting = vec![0; tenants];
    let mut gaps = Gaps::new(scenario.tenants.iter().map(|tenant| tenant.weight).collect());
    let mut outcome = Outcome {
        service: Vec::new(),
        asked: Vec::new(),
        gaps: Vec::new(),
        first_tokens: Vec::new(),
        tokens: 0,
        refused: 0,
    };
    let mut batch: Vec<Serving> = Vec::new();
    let (mut time, mut came) = (0.0, 0);
    while time < SECONDS {
        while came < requests.len() && requests[came].arrives <= time {
            let request = &requests[came];
            asked[request.tenant] += cost(request);
            if scheduler.enter(request.arrives, came, request) {
                waiting[request.tenant] += 1;
            } else {
                outcome.refused += 1;
            }
            came += 1;
        }
        let mut prefill = 0;
        while batch.len() < SLOTS
            && let Some((number, running)) = scheduler.next(time, requests)
        {
            let request = &requests[number];
            waiting[request.tenant] -= 1;
            prefill += request.input;
            service[request.tenant] += WEIGHTS.input * request.input as f64;
            batch.push(Serving { number, running, written: 0 });
        }
        gaps.look(time, &waiting, &service);
        time += if batch.is_empty() {
            requests.get(came).map_or(SECONDS, |next| next.arrives) - time
        } else {
            STEP + SEQUENCE * batch.len() as f64 + PREFILL * prefill as f64
        };
        outcome.tokens += prefill + batch.len() as u64;
        batch.retain_mut(|serving| {
            let request = &requests[serving.number];
            if serving.written == 0 {
                outcome.first_tokens.push((request.tenant, time - request.arrives));
            }
            serving.written += 1;
            scheduler.token(request, &serving.running);
            service[request.tenant] += WEIGHTS.output;
            let goes_on = serving.written < request.output;
            if !goes_on {
                scheduler.finish(time, &serving.running);
            }
            goes_on
        });
        while (outcome.service.len() as f64) < time.min(SECONDS) {
            outcome.service.push(service.clone());
            outcome.asked.push(asked.clone());
        }
    }
    outcome.gaps = gaps.points();
    outcome
}
