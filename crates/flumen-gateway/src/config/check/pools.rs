//! What concerns pools, and how upstreams fail.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
};

use http::HeaderName;

use super::super::{
    Adaptive, AdaptiveKind, Balance, Continuation, Health, Model, Pool, Priorities, Queue, Upstream,
    section::{Section, meant},
};
use super::limits::limits;

pub(super) fn health(mut section: Section<'_>, default: &Health) -> Health {
    let health = Health {
        failures: section.integer("failures", 1..=1000).unwrap_or(default.failures),
        open: section.duration("open").unwrap_or(default.open),
        open_longest: section.duration("open_longest").unwrap_or(default.open_longest),
        outlier_interval: section.duration("outlier_interval").unwrap_or(default.outlier_interval),
        outlier_requests: section
            .integer("outlier_requests", 1..=1_000_000)
            .unwrap_or(default.outlier_requests),
        outlier_failures: section.number("outlier_failures", 0.01..=1.0).unwrap_or(default.outlier_failures),
        outlier_slowness: section.number("outlier_slowness", 1.1..=1e6).unwrap_or(default.outlier_slowness),
        slow_start: section.duration("slow_start").unwrap_or(default.slow_start),
        check_interval: section.duration("check_interval").unwrap_or(default.check_interval),
        check_timeout: section.duration("check_timeout").unwrap_or(default.check_timeout),
    };
    if health.open > health.open_longest {
        section.fault("open_longest", "is shorter than `open`", None);
    }
    section.finish();
    health
}

pub(super) fn dns(mut section: Section<'_>) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for server in section.strings("servers").unwrap_or_default() {
        let address = server.parse().or_else(|_| server.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
        match address {
            Ok(address) => servers.push(address),
            Err(_) => section.fault("servers", format_args!("`{server}` is not an address"), None),
        }
    }
    section.finish();
    servers
}

/// The names of a table's entries, or what was probably meant by one that is none of them.
fn unknown<T>(name: &str, known: &BTreeMap<String, T>) -> String {
    let names: Vec<_> = known.keys().map(String::as_str).collect();
    meant(name, &names).unwrap_or_else(|| format!("known: {}", names.join(", ")))
}

pub(super) fn pool(mut section: Section<'_>, known: &BTreeMap<String, Upstream>) -> Pool {
    let mut upstreams = BTreeMap::new();
    for name in section.strings("upstreams").unwrap_or_default() {
        if known.contains_key(&name) {
            upstreams.insert(name, 1.0);
        } else {
            let problem = format!("there is no upstream `{name}`");
            section.fault("upstreams", problem, Some(unknown(&name, known)));
        }
    }
    if upstreams.is_empty() {
        section.fault("upstreams", "a pool needs upstreams", Some(unknown("", known)));
    }
    for (name, weight) in section.numbers("weights") {
        match upstreams.get_mut(&name) {
            Some(_) if !(0.001..=1000.0).contains(&weight) => {
                section.fault("weights", format_args!("{weight} is not between 0.001 and 1000"), None);
            }
            Some(own) => *own = weight,
            None => {
                let hint = Some(unknown(&name, &upstreams));
                section.fault("weights", format_args!("the pool has no upstream `{name}`"), hint);
            }
        }
    }
    let default = Pool::of(upstreams);
    let pool = Pool {
        balance: balance(&mut section),
        concurrency: section.integer("concurrency", 1..=10_000_000).unwrap_or(default.concurrency),
        attempts: section.integer("attempts", 1..=100).and_then(NonZeroU32::new).unwrap_or(default.attempts),
        hedge: section.duration("hedge"),
        continues: section.boolean("continues").unwrap_or(default.continues),
        queue: queue(section.section("queue")),
        adaptive: section.table("adaptive").map(adaptive),
        ..default
    };
    if pool.hedge.is_some() && pool.upstreams.len() < 2 {
        section.fault("hedge", "needs a second upstream", None);
    }
    if pool.continues && !pool.upstreams.keys().any(|name| known[name].continuation.is_some()) {
        let hint = "give an upstream that can the key `continuation`".to_owned();
        section.fault("continues", "no upstream of the pool can continue an answer", Some(hint));
    }
    section.finish();
    pool
}

fn balance(section: &mut Section<'_>) -> Balance {
    #[derive(Clone, Copy)]
    enum Kind {
        RoundRobin,
        LeastInFlight,
        Fastest,
        HashHeader,
        HashPrompt,
    }
    let names = [
        ("round-robin", Kind::RoundRobin),
        ("least-in-flight", Kind::LeastInFlight),
        ("fastest", Kind::Fastest),
        ("hash-header", Kind::HashHeader),
        ("hash-prompt", Kind::HashPrompt),
    ];
    let kind = section.choice("balance", &names, Kind::RoundRobin);
    let header = section.string("hash_header");
    let bytes = section.size("hash_prompt", 16..=1 << 20, 1 << 10);
    match kind {
        Kind::RoundRobin => Balance::RoundRobin,
        Kind::LeastInFlight => Balance::LeastInFlight,
        Kind::Fastest => Balance::Fastest,
        Kind::HashPrompt => Balance::HashPrompt(bytes),
        Kind::HashHeader => {
            let Some(header) = header else {
                let hint = "for example hash_header = \"x-session-id\"".to_owned();
                section.fault("hash_header", "hash-header needs the name of a header", Some(hint));
                return Balance::RoundRobin;
            };
            let Ok(name) = HeaderName::try_from(&header) else {
                section.fault("hash_header", format_args!("`{header}` is not the name of a header"), None);
                return Balance::RoundRobin;
            };
            Balance::HashHeader(name)
        }
    }
}

fn queue(mut section: Section<'_>) -> Queue {
    let default = Queue::default();
    let weight = 0.0..=1_000_000.0;
    let queue = Queue {
        length: section.integer("length", 0..=10_000_000).unwrap_or(default.length),
        per_tenant: section.integer("per_tenant", 0..=10_000_000).unwrap_or(default.per_tenant),
        wait: section.duration("wait").unwrap_or(default.wait),
        input_weight: section.number("input_weight", weight.clone()).unwrap_or(default.input_weight),
        output_weight: section.number("output_weight", weight).unwrap_or(default.output_weight),
        priorities: section.choice("priorities", Priorities::NAMES, default.priorities),
        ageing: section.duration("ageing").unwrap_or(default.ageing),
        announce: section.duration("announce"),
    };
    if queue.input_weight <= 0.0 && queue.output_weight <= 0.0 {
        section.fault("output_weight", "tokens must count something", None);
    }
    section.finish();
    queue
}

fn adaptive(mut section: Section<'_>) -> Adaptive {
    let adaptive = Adaptive {
        kind: section.choice("kind", AdaptiveKind::NAMES, AdaptiveKind::default()),
        least: section.integer("least", 1..=1_000_000).unwrap_or(1),
        most: section.integer("most", 1..=1_000_000).unwrap_or(1000),
        target: section.duration("target").unwrap_or(std::time::Duration::from_secs(2)),
    };
    if adaptive.least > adaptive.most {
        section.fault("most", format_args!("is less than `least`, which is {}", adaptive.least), None);
    }
    section.finish();
    adaptive
}

pub(super) fn continuation(section: &mut Section<'_>) -> Option<Continuation> {
    section.choice("continuation", Continuation::NAMES, None)
}

/// Reads a model. One that goes to an upstream goes to the pool of that upstream alone.
pub(super) fn model(
    name: &str,
    mut section: Section<'_>,
    upstreams: &BTreeMap<String, Upstream>,
    pools: &mut BTreeMap<String, Pool>,
) -> Option<(Model, Vec<String>)> {
    let (upstream, pool) = (section.string("upstream"), section.string("pool"));
    let renamed = section.string("name");
    let resume = section.boolean("resume");
    let limits = limits(&mut section);
    let aliases = section.strings("aliases").unwrap_or_default();
    if renamed.is_some() && name.ends_with('*') {
        section.fault("name", "a pattern stands for many models and cannot rename them", None);
    }
    let pool = match (upstream, pool) {
        (None, None) => {
            section.fault("upstream", "a model needs an upstream or a pool", Some(unknown("", upstreams)));
            None
        }
        (Some(_), Some(_)) => {
            section.fault("pool", "give either `upstream` or `pool`, not both", None);
            None
        }
        (None, Some(pool)) if !pools.contains_key(&pool) => {
            let hint = Some(unknown(&pool, pools));
            section.fault("pool", format_args!("there is no pool `{pool}`"), hint);
            None
        }
        (Some(upstream), None) if !upstreams.contains_key(&upstream) => {
            let hint = Some(unknown(&upstream, upstreams));
            section.fault("upstream", format_args!("there is no upstream `{upstream}`"), hint);
            None
        }
        (Some(upstream), None) => {
            pools.entry(upstream.clone()).or_insert_with(|| Pool::alone(&upstream));
            Some(upstream)
        }
        (None, pool) => pool,
    };
    section.finish();
    pool.map(|pool| (Model { pool, name: renamed, resume, limits }, aliases))
}
