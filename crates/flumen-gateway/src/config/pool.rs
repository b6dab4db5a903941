//! Pools: upstreams that serve the same models, whose turn it is, and what happens when one fails.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use http::HeaderName;

/// Upstreams that serve the same models.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The names of its upstreams, each with its weight.
    pub upstreams: BTreeMap<String, f64>,
    /// How an upstream is chosen.
    pub balance: Balance,
    /// Answers that may run at once. Default 10,000.
    pub concurrency: usize,
    /// Upstreams that may be tried for one request. Default 3.
    pub attempts: NonZeroU32,
    /// Wait for the first token after which a second upstream is asked as well. Default: never.
    pub hedge: Option<Duration>,
    /// Whether an answer whose upstream fails in the middle goes on from another that can continue it. Default false.
    pub continues: bool,
    /// Who waits, and whose turn it is.
    pub queue: Queue,
    /// A limit that finds itself. Default none.
    pub adaptive: Option<Adaptive>,
}

/// How an upstream is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// `round-robin`: one after the other, by their weights.
    #[default]
    RoundRobin,
    /// `least-in-flight`: the one with the fewest answers in flight for its weight.
    LeastInFlight,
    /// `fastest`: of two chosen by chance, the one that is quicker with its first token, for what it has in flight.
    Fastest,
    /// `hash-header`: the same one for the same value of a header.
    HashHeader(HeaderName),
    /// `hash-prompt`: the same one for prompts that begin alike, whose beginning it may have cached. So many bytes count.
    HashPrompt(usize),
}

/// Who waits in front of a pool, and whose turn it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Requests that wait in all. Default 10,000.
    pub length: usize,
    /// Requests of one tenant that wait. Default 1,000.
    pub per_tenant: usize,
    /// The longest wait. Default 30 s.
    pub wait: Duration,
    /// What a token of the prompt counts. Default 1.
    pub input_weight: f64,
    /// What a token of the answer counts. Default 2.
    pub output_weight: f64,
    /// How classes of priority relate.
    pub priorities: Priorities,
    /// Time after which a waiting request counts as one class higher. Default 10 s.
    pub ageing: Duration,
    /// Wait after which a streaming client gets its headers and comments. Default: never.
    pub announce: Option<Duration>,
}

/// How classes of priority relate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priorities {
    /// The higher class goes first.
    #[default]
    Strict,
    /// Classes share, the higher with more.
    Weighted,
}

impl Priorities {
    pub(super) const NAMES: &[(&str, Self)] = &[("strict", Self::Strict), ("weighted", Self::Weighted)];
}

/// A concurrency limit that finds itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// How.
    pub kind: AdaptiveKind,
    /// Never below. Default 1.
    pub least: usize,
    /// Never above. Default 1,000.
    pub most: usize,
    /// Time to the first token that is still good. Default 2 s. For `aimd` only.
    pub target: Duration,
}

/// How a concurrency limit finds itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdaptiveKind {
    /// Up by little while all is well, down by a share when it is not.
    #[default]
    Aimd,
    /// By the trend of the time to the first token.
    Gradient,
}

impl AdaptiveKind {
    pub(super) const NAMES: &[(&str, Self)] = &[("aimd", Self::Aimd), ("gradient", Self::Gradient)];
}

/// When an upstream counts as broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// Failures in a row that open its breaker. Default 5.
    pub failures: u32,
    /// How long the breaker stays open the first time. Default 5 s.
    pub open: Duration,
    /// And at most. Default 1 min.
    pub open_longest: Duration,
    /// The span that outliers are judged by. Default 10 s.
    pub outlier_interval: Duration,
    /// Requests within it below which nobody is judged. Default 10.
    pub outlier_requests: u32,
    /// Share of failures that makes an outlier, if the rest of the pool is well. Default 0.5.
    pub outlier_failures: f64,
    /// How many times slower than the rest an outlier is. Default 5.
    pub outlier_slowness: f64,
    /// How long an upstream that recovered is spared. Default 30 s.
    pub slow_start: Duration,
    /// Time between two checks of upstreams that have a `health_path`. Default 10 s.
    pub check_interval: Duration,
    /// The longest that a check may take. Default 2 s.
    pub check_timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures: 5,
            open: Duration::from_secs(5),
            open_longest: Duration::from_mins(1),
            outlier_interval: Duration::from_secs(10),
            outlier_requests: 10,
            outlier_failures: 0.5,
            outlier_slowness: 5.0,
            slow_start: Duration::from_secs(30),
            check_interval: Duration::from_secs(10),
            check_timeout: Duration::from_secs(2),
        }
    }
}

/// How an upstream is asked to go on with an answer that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// `continue-final-message`: the answer so far is the last message, and a field says so (vLLM, `SGLang`).
    FinalMessage,
    /// `prefix`: the last message has the field `prefix` (`DeepSeek`, Mistral).
    Prefix,
    /// `prefill`: the last message is the assistant's, and that is enough.
    Prefill,
}

impl Continuation {
    pub(super) const NAMES: &[(&str, Option<Self>)] = &[
        ("none", None),
        ("continue-final-message", Some(Self::FinalMessage)),
        ("prefix", Some(Self::Prefix)),
        ("prefill", Some(Self::Prefill)),
    ];
}

impl Pool {
    /// A pool of these upstreams, with the defaults.
    pub fn of(upstreams: BTreeMap<String, f64>) -> Self {
        Self {
            upstreams,
            balance: Balance::default(),
            concurrency: 10_000,
            attempts: NonZeroU32::MIN.saturating_add(2),
            hedge: None,
            continues: false,
            queue: Queue::default(),
            adaptive: None,
        }
    }

    /// The pool of one upstream.
    pub fn alone(upstream: &str) -> Self {
        Self::of(BTreeMap::from([(upstream.to_owned(), 1.0)]))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            length: 10_000,
            per_tenant: 1_000,
            wait: Duration::from_secs(30),
            input_weight: 1.0,
            output_weight: 2.0,
            priorities: Priorities::default(),
            ageing: Duration::from_secs(10),
            announce: None,
        }
    }
}
