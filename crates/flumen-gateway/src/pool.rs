//! Pools of upstreams: whose turn it is to be asked, who is left out, how often may be tried again, and the queue in front.
//!
//! `member` is what is known of one upstream, `breaker`, `outlier` and `probe` find out whether it is well, `choice` balances,
//! `budget` bounds retries, `pools` is all of it together and survives reloads. Pools belong to the process, connections to a core.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_admit::{Admission, Asked, Permit, Refused, Ticket};
use http::HeaderMap;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::config::{self, Balance, Health};

mod breaker;
mod budget;
mod choice;
mod member;
mod outlier;
mod pools;
mod probe;

use breaker::Trial;
use budget::Budget;
use choice::{Candidate, choose, print};
pub(crate) use member::Member;
use member::Taken;
pub(crate) use pools::Pools;
pub(crate) use probe::probe;

/// Upstreams that serve the same models, and the queue in front of them.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
    config: config::Pool,
    health: Health,
    members: Vec<(Arc<Member>, f64)>,
    admission: Arc<Admission>,
    turns: Mutex<Turns>,
    /// Held from the look at the others until a failure has been counted. An upstream may belong to several pools, so all pools
    /// have the same. Taken before `turns`, and both before what is known of a member.
    failing: Arc<Mutex<()>>,
    /// Told when an upstream has a place again.
    freed: Arc<Notify>,
    /// A new configuration has taken its place; requests that it had go on.
    replaced: AtomicBool,
}

#[derive(Debug)]
struct Turns {
    earned: Vec<f64>,
    budget: Budget,
    /// When outliers were looked for.
    judged: Instant,
}

/// What a pool has for a request.
#[derive(Debug)]
pub(crate) enum Picked {
    /// An upstream to ask.
    Attempt(Attempt),
    /// All places are taken.
    Busy,
    /// Nobody is left to ask.
    Nobody,
}

/// One request on its way to one upstream: a place there, and what will be said of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pool: Arc<Pool>,
    at: usize,
    /// Whether it finds out if all is well there again.
    trial: Option<Trial>,
    started: Instant,
    settled: bool,
}

impl Pool {
    /// The configured name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the configuration says of it.
    pub(crate) fn config(&self) -> &config::Pool {
        &self.config
    }

    /// Its upstreams.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter().map(|(member, _)| member)
    }

    /// The queue in front of it.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Gets in line.
    pub(crate) fn enter(&self, asked: Asked) -> Result<Ticket, Refused> {
        self.lock().budget.request();
        self.admission.enter(asked)
    }

    /// What consistent hashing goes by, where it is asked for.
    pub(crate) fn key(&self, headers: &HeaderMap, prompt: &[u8]) -> Option<u64> {
        match &self.config.balance {
            Balance::HashHeader(name) => headers.get(name).map(|value| print(value.as_bytes())),
            Balance::HashPrompt(bytes) => Some(print(&prompt[..prompt.len().min(*bytes)])),
            Balance::RoundRobin | Balance::LeastInFlight | Balance::Fastest => None,
        }
    }

    /// Whether one more upstream may be tried, for which the pool's budget then pays.
    pub(crate) fn may_retry(&self) -> bool {
        self.lock().budget.take()
    }

    /// Chooses an upstream that is not among those to be avoided and fits.
    pub(crate) fn pick(
        self: &Arc<Self>,
        key: Option<u64>,
        avoid: &[String],
        fits: impl Fn(&str) -> bool,
    ) -> Picked {
        let now = Instant::now();
        self.judge(now);
        let candidates = |usable: &dyn Fn(&Member) -> Option<f64>| -> Vec<Candidate> {
            let members = self.members.iter().enumerate();
            members
                .filter(|(_, (member, _))| !avoid.contains(&member.name) && fits(&member.name))
                .filter_map(|(at, (member, weight))| {
                    let weight = weight * usable(member)?;
                    Some(Candidate {
                        at,
                        weight,
                        in_flight: member.in_flight(),
                        first_token: member.likely_first_token(),
                        print: print(member.name.as_bytes()),
                    })
                })
                .collect()
        };
        let open = candidates(&|member| member.share(now));
        let mut picked = self.pick_of(open, key, now, false);
        if matches!(picked, Picked::Nobody) && avoid.is_empty() {
            let resort = candidates(&|member| member.is_last_resort().then_some(1.0));
            picked = self.pick_of(resort, key, now, true);
        }
        picked
    }

    fn pick_of(
        self: &Arc<Self>,
        mut open: Vec<Candidate>,
        key: Option<u64>,
        now: Instant,
        last_resort: bool,
    ) -> Picked {
        let all = open.len();
        open.retain(|candidate| candidate.in_flight < self.members[candidate.at].0.concurrency());
        let mut busy = open.len() < all;
        let mut state = self.lock();
        while let Some(at) = choose(&self.config.balance, &open, key, &mut state.earned) {
            match self.members[at].0.take(now, last_resort) {
                Taken::Place(trial) => {
                    let pool = Arc::clone(self);
                    return Picked::Attempt(Attempt { pool, at, trial, started: now, settled: false });
                }
                // Another core was quicker.
                Taken::Full => busy = true,
                Taken::Barred => {}
            }
            open.retain(|candidate| candidate.at != at);
        }
        if busy { Picked::Busy } else { Picked::Nobody }
    }

    /// The same, but waits while all places are taken.
    pub(crate) async fn place(
        self: &Arc<Self>,
        key: Option<u64>,
        avoid: &[String],
        fits: impl Fn(&str) -> bool,
        until: Instant,
    ) -> Option<Attempt> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.pick(key, avoid, &fits) {
                Picked::Attempt(attempt) => return Some(attempt),
                Picked::Nobody => return None,
                Picked::Busy => timeout_at(until, freed).await.ok()?,
            }
        }
    }

    /// Leaves outliers out, when it is time to judge.
    fn judge(&self, now: Instant) {
        if self.members.len() < 2 {
            return;
        }
        {
            let mut turns = self.lock();
            if now.saturating_duration_since(turns.judged) < self.health.outlier_interval {
                return;
            }
            turns.judged = now;
        }
        let seen: Vec<_> = self.members.iter().map(|(member, _)| member.window(now)).collect();
        let outliers = outlier::outliers(&seen, &self.health);
        for (at, (member, _)) in self.members.iter().enumerate() {
            if member.is_ejected(now) {
                // Another pool was quicker.
            } else if outliers.contains(&at) {
                tracing::warn!(
                    upstream = member.name,
                    pool = self.name,
                    "the upstream is an outlier and left out for a while"
                );
                member.eject(now);
            } else {
                member.acquit();
            }
        }
    }

    /// Lets the queue know how many can run: the places of the upstreams that are well.
    pub(crate) fn count_places(&self) {
        if self.replaced.load(Relaxed) {
            // The queue has a new owner, with other upstreams.
            return;
        }
        let now = Instant::now();
        let well = |(member, _): &(Arc<Member>, f64)| member.share(now).map(|_| member.concurrency());
        let resort = |(member, _): &(Arc<Member>, f64)| member.is_last_resort().then(|| member.concurrency());
        let total = |places: &mut dyn Iterator<Item = usize>| {
            places.fold(None, |sum: Option<usize>, places| Some(sum.unwrap_or(0).saturating_add(places)))
        };
        let places = total(&mut self.members.iter().filter_map(well))
            .or_else(|| total(&mut self.members.iter().filter_map(resort)));
        // With nobody left, requests are let through to be told so.
        self.admission.set_slots(places.unwrap_or(usize::MAX));
    }

    fn others_are_well(&self, at: usize) -> bool {
        let now = Instant::now();
        self.members.iter().enumerate().any(|(other, (member, _))| other != at && member.share(now).is_some())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The upstream's name.
    pub(crate) fn upstream(&self) -> &str {
        &self.member().name
    }

    /// How long it has been on its way.
    pub(crate) fn took(&self) -> Duration {
        self.started.elapsed()
    }

    /// The first token came.
    pub(crate) fn first_token(&self) {
        self.member().first_token(self.trial, self.took());
    }

    /// It went well, or whatever went wrong was not the upstream's fault. The first to say how it went is heard.
    pub(crate) fn succeeded(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.member().succeeded(self.trial);
        }
    }

    /// The upstream failed.
    pub(crate) fn failed(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        {
            // Two that fail at the same moment would each see the other well, and both open.
            let _alone = self.pool.failing.lock().unwrap_or_else(PoisonError::into_inner);
            let may_open = self.pool.others_are_well(self.at);
            self.member().failed(self.trial, may_open);
        }
        self.pool.count_places();
    }

    fn member(&self) -> &Member {
        &self.pool.members[self.at].0
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled {
            self.member().abandoned(self.trial);
        }
        self.member().release();
        self.pool.freed.notify_waiters();
    }
}

/// A place in a pool's queue that was waited for, until the answer is over.
pub(crate) type Place = Permit;

#[cfg(test)]
mod tests;
