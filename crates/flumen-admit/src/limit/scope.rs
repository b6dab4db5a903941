use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Bucket, Concurrency, Daily, Gcra, Moment};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// What a scope allows. What is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests in a second.
    pub requests_per_second: Option<u64>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Requests at once; otherwise as many as in the whole period.
    pub requests_burst: Option<u64>,
    /// Tokens in a minute, prompts and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Tokens of prompts in a minute.
    pub input_tokens_per_minute: Option<u64>,
    /// Tokens of answers in a minute.
    pub output_tokens_per_minute: Option<u64>,
    /// Tokens in a day (UTC), prompts and answers together.
    pub tokens_per_day: Option<u64>,
    /// Answers at the same time.
    pub concurrent_streams: Option<u64>,
}

/// One kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields of `Allowance`")]
pub enum Kind {
    RequestsPerSecond,
    RequestsPerMinute,
    TokensPerMinute,
    InputTokensPerMinute,
    OutputTokensPerMinute,
    TokensPerDay,
    ConcurrentStreams,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RequestsPerSecond,
        Self::RequestsPerMinute,
        Self::TokensPerMinute,
        Self::InputTokensPerMinute,
        Self::OutputTokensPerMinute,
        Self::TokensPerDay,
        Self::ConcurrentStreams,
    ];

    /// The name in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::InputTokensPerMinute => "input_tokens_per_minute",
            Self::OutputTokensPerMinute => "output_tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::ConcurrentStreams => "concurrent_streams",
        }
    }

    /// The time that it counts over, if it does.
    pub fn window(self) -> Option<Duration> {
        match self {
            Self::RequestsPerSecond => Some(SECOND),
            Self::TokensPerDay => Some(Duration::from_hours(24)),
            Self::ConcurrentStreams => None,
            _ => Some(MINUTE),
        }
    }

    /// Whether it counts requests; otherwise tokens, or what runs.
    pub fn counts_requests(self) -> bool {
        matches!(self, Self::RequestsPerSecond | Self::RequestsPerMinute)
    }

    /// Whether it counts tokens.
    pub fn counts_tokens(self) -> bool {
        !self.counts_requests() && self != Self::ConcurrentStreams
    }

    /// What a request with so many tokens needs of it.
    pub(super) fn part(self, input: u64, output: u64) -> u64 {
        match self {
            Self::InputTokensPerMinute => input,
            Self::OutputTokensPerMinute => output,
            Self::TokensPerMinute | Self::TokensPerDay => input.saturating_add(output),
            _ => 1,
        }
    }
}

impl Allowance {
    /// What it says of a kind.
    pub fn of(&self, kind: Kind) -> Option<u64> {
        match kind {
            Kind::RequestsPerSecond => self.requests_per_second,
            Kind::RequestsPerMinute => self.requests_per_minute,
            Kind::TokensPerMinute => self.tokens_per_minute,
            Kind::InputTokensPerMinute => self.input_tokens_per_minute,
            Kind::OutputTokensPerMinute => self.output_tokens_per_minute,
            Kind::TokensPerDay => self.tokens_per_day,
            Kind::ConcurrentStreams => self.concurrent_streams,
        }
    }

    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.of(*kind).is_none())
    }
}

/// Where a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Which one.
    pub kind: Kind,
    /// What is allowed.
    pub limit: u64,
    /// What of it is left.
    pub remaining: u64,
    /// When all of it is back.
    pub reset: Duration,
}

/// The limits of one tenant, key or model, and what is used of them. Shared by threads.
#[derive(Debug)]
pub struct Scope {
    counts: Mutex<Counts>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Counts {
    allowance: Allowance,
    requests: Vec<(Kind, Gcra)>,
    tokens: Vec<(Kind, Bucket)>,
    daily: Option<Daily>,
    pub(super) running: Concurrency,
}

impl Scope {
    /// Nothing is used yet.
    pub fn new(allowance: Allowance, now: Moment) -> Self {
        let counts = Counts {
            allowance: Allowance::default(),
            requests: Vec::new(),
            tokens: Vec::new(),
            daily: None,
            running: Concurrency::default(),
        };
        let scope = Self { counts: Mutex::new(counts) };
        scope.adapt(allowance, now);
        scope
    }

    /// Takes over what is allowed now. What was used stays used.
    pub fn adapt(&self, allowance: Allowance, now: Moment) {
        let mut counts = self.lock();
        if counts.allowance != allowance {
            counts.adapt(allowance, now);
        }
    }

    /// Where its limits stand.
    pub fn levels(&self, now: Moment) -> Vec<Level> {
        self.lock().levels(now)
    }

    /// Whether it is as if it were new, so that it may be forgotten.
    pub fn is_idle(&self, now: Moment) -> bool {
        let mut counts = self.lock();
        counts.running.held() == 0
            && counts.requests.iter_mut().all(|(_, gcra)| gcra.is_idle(now.instant))
            && counts.tokens.iter_mut().all(|(_, bucket)| bucket.is_idle(now.instant))
            && counts.daily.as_mut().is_none_or(|daily| daily.is_idle(now))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn adapt(&mut self, allowance: Allowance, now: Moment) {
        self.allowance = allowance;
        let at = now.instant;
        self.requests.retain(|(kind, _)| allowance.of(*kind).is_some());
        self.tokens.retain(|(kind, _)| allowance.of(*kind).is_some());
        for kind in Kind::ALL {
            let (Some(most), Some(window)) = (allowance.of(kind), kind.window()) else { continue };
            if kind.counts_requests() {
                let burst = allowance.requests_burst.unwrap_or(most);
                match self.requests.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, gcra)) => gcra.set(most, window, burst, at),
                    None => self.requests.push((kind, Gcra::new(most, window, burst, at))),
                }
            } else if kind == Kind::TokensPerDay {
                self.daily.get_or_insert_with(|| Daily::new(most, now)).set(most);
            } else {
                match self.tokens.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, bucket)) => bucket.set(most, window, at),
                    None => self.tokens.push((kind, Bucket::new(most, window, at))),
                }
            }
        }
        if allowance.tokens_per_day.is_none() {
            self.daily = None;
        }
        self.running.set(allowance.concurrent_streams);
    }

    /// The limit that has no room for a request, and how long until it has; of several the one that takes longest.
    pub(super) fn refusal(&mut self, input: u64, output: u64, now: Moment) -> Option<(Kind, u64, Duration)> {
        let at = now.instant;
        let requests = self.requests.iter_mut().map(|(kind, gcra)| (*kind, gcra.wait(at)));
        let tokens =
            self.tokens.iter_mut().map(|(kind, bucket)| (*kind, bucket.wait(kind.part(input, output), at)));
        let daily = self
            .daily
            .iter_mut()
            .map(|daily| (Kind::TokensPerDay, daily.wait(Kind::TokensPerDay.part(input, output), now)));
        // Nobody knows when one ends; a second is soon enough to ask again.
        let running = if self.running.has_room() { Duration::ZERO } else { SECOND };
        let all = requests.chain(tokens).chain(daily).chain([(Kind::ConcurrentStreams, running)]);
        let (kind, wait) = all.filter(|(_, wait)| !wait.is_zero()).max_by_key(|(_, wait)| *wait)?;
        Some((kind, self.allowance.of(kind).unwrap_or(0), wait))
    }

    /// Takes what a request needs, there or not. Returns the day of its budget.
    pub(super) fn take(&mut self, input: u64, output: u64, now: Moment) -> u64 {
        for (_, gcra) in &mut self.requests {
            // It was asked before, under the same lock.
            let _ = gcra.take(now.instant);
        }
        self.running.begin();
        self.charge(input, output, now)
    }

    /// Takes tokens beyond what was taken.
    pub(super) fn charge(&mut self, input: u64, output: u64, now: Moment) -> u64 {
        for (kind, bucket) in &mut self.tokens {
            bucket.charge(kind.part(input, output), now.instant);
        }
        let part = Kind::TokensPerDay.part(input, output);
        self.daily.as_mut().map_or(now.day(), |daily| daily.charge(part, now))
    }

    /// Puts in order what was taken and what was used.
    pub(super) fn settle(&mut self, day: u64, taken: (u64, u64), used: (u64, u64), now: Moment) {
        for (kind, bucket) in &mut self.tokens {
            bucket.settle(kind.part(taken.0, taken.1), kind.part(used.0, used.1), now.instant);
        }
        if let Some(daily) = &mut self.daily {
            let part = |(input, output)| Kind::TokensPerDay.part(input, output);
            daily.settle(day, part(taken), part(used), now);
        }
    }

    pub(super) fn levels(&mut self, now: Moment) -> Vec<Level> {
        let (allowance, at) = (self.allowance, now.instant);
        let limit = |kind| allowance.of(kind).unwrap_or(0);
        let mut levels = Vec::new();
        for (kind, gcra) in &mut self.requests {
            let (remaining, reset) = (gcra.remaining(at), gcra.reset(at));
            levels.push(Level { kind: *kind, limit: limit(*kind), remaining, reset });
        }
        for (kind, bucket) in &mut self.tokens {
            let (remaining, reset) = (bucket.remaining(at), bucket.reset(at));
            levels.push(Level { kind: *kind, limit: limit(*kind), remaining, reset });
        }
        if let Some(daily) = &mut self.daily {
            let (kind, remaining) = (Kind::TokensPerDay, daily.remaining(now));
            levels.push(Level { kind, limit: limit(kind), remaining, reset: now.rest_of_day() });
        }
        levels
    }
}
