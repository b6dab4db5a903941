//! Admission: requests wait here for one of the slots in front of a pool of model servers.
//!
//! One [`Admission`] is shared by all cores. Its lock is held for one step of the schedule at a time, never while anybody
//! waits and never while a waker runs, which may do anything. No task is spawned: whoever gives back a slot hands it on.

mod permit;
mod settings;
mod snapshot;
mod ticket;

use std::{sync::Arc, task::Waker, time::Duration};

use thiserror::Error;
use tokio::time::Instant;

use self::ticket::Seat;
pub use self::{permit::Permit, settings::Settings, snapshot::Snapshot, ticket::Ticket};
use crate::{
    adaptive::Limit,
    schedule::{Asked, Full, Recent, Schedule},
    sync::{Mutex, lock},
};

/// The shortest time after which anybody is told to come back, and the longest.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_mins(1);

/// Fair admission to a bounded number of slots; see [`schedule`](crate::schedule) for who is next.
#[derive(Debug)]
pub struct Admission {
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// Cap from outside.
    usable: usize,
    limit: Option<Limit>,
    schedule: Schedule<Arc<Seat>>,
    /// Turns that began.
    began: Recent,
    first: Option<Duration>,
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// As many requests wait as may wait in all.
    #[error("too many requests are waiting")]
    QueueFull {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// As many requests of this tenant wait as may.
    #[error("too many requests of this tenant are waiting")]
    TenantQueueFull {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// It has waited as long as it may.
    #[error("the request has waited too long for its turn")]
    TooLong {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
}

impl Refused {
    /// When it may be worth trying again: what would be ahead, divided by the rate at which requests were let in during about
    /// the last minute; at least a second, at most the longest wait, and never more than a minute.
    pub fn retry_after(&self) -> Duration {
        let (Self::QueueFull { retry_after }
        | Self::TenantQueueFull { retry_after }
        | Self::TooLong { retry_after }) = *self;
        retry_after
    }
}

/// Who is to be woken when the lock is released. Most of the time it is one: that needs no allocation.
#[derive(Debug, Default)]
struct Wakes(Option<Waker>, Vec<Waker>);

impl Wakes {
    fn add(&mut self, waker: Option<Waker>) {
        match (&self.0, waker) {
            (Some(_), Some(waker)) => self.1.push(waker),
            (None, waker) => self.0 = waker,
            (Some(_), None) => {}
        }
    }

    fn wake(self) {
        self.0.into_iter().chain(self.1).for_each(Waker::wake);
    }
}

impl Admission {
    /// Nobody is in, nobody waits; [`set_slots`](Self::set_slots) is as if it had been called with `usize::MAX`.
    pub fn new(settings: Settings) -> Arc<Self> {
        let state = State {
            usable: usize::MAX,
            limit: settings.adaptive.map(Limit::new),
            schedule: Schedule::new(settings.rules()),
            began: Recent::default(),
            first: None,
            settings,
        };
        Arc::new(Self { epoch: Instant::now(), state: Mutex::new(state) })
    }

    /// Changes the settings. Whoever is in or waits stays: also beyond the new bounds, and with the longest wait it came with.
    /// The height that an adaptive limit has found stays, too, if it is of the same kind.
    pub fn configure(&self, settings: Settings) {
        self.change(|state, _| {
            state.schedule.configure(settings.rules());
            match (&mut state.limit, settings.adaptive) {
                (Some(limit), Some(rule)) if limit.is_like(rule) => limit.configure(rule),
                (limit, rule) => *limit = rule.map(Limit::new),
            }
            state.settings = settings;
        });
    }

    /// Caps the slots from outside, for example by how many the healthy upstreams have. 0 lets nobody in: all wait. Whoever is in
    /// stays in.
    pub fn set_slots(&self, usable: usize) {
        self.change(|state, _| state.usable = usable);
    }

    /// Asks for a slot. The ticket is good at once if one is free and nobody waits; otherwise it waits in its tenant's queue from
    /// now on, polled or not.
    ///
    /// # Errors
    ///
    /// [`Refused::QueueFull`] or [`Refused::TenantQueueFull`], if it would have to wait and there is no room.
    pub fn enter(self: &Arc<Self>, asked: Asked) -> Result<Ticket, Refused> {
        let seat = Arc::new(Seat::default());
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let now = self.now();
        let free = state.schedule.running() < state.slots() && state.schedule.waiting() == 0;
        if !free && let Err(full) = state.schedule.check(&asked.tenant) {
            let ahead = state.schedule.ahead_of_new(&asked.tenant, asked.priority);
            let retry_after = state.retry_after(now, ahead);
            return Err(match full {
                Full::Queue => Refused::QueueFull { retry_after },
                Full::Tenant => Refused::TenantQueueFull { retry_after },
            });
        }
        let place = state.schedule.enter(now, &asked, Arc::clone(&seat));
        let mut wakes = Wakes::default();
        state.dispatch(now, &mut wakes);
        let wait = state.settings.wait;
        drop(guard);
        wakes.wake();
        Ok(Ticket::new(Arc::clone(self), asked, seat, place, now, wait))
    }

    /// Time since this was made.
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Changes something, after which others may be let in.
    fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = lock(&self.state);
        // Read under the lock, so that it is never before what another thread has said.
        let now = self.now();
        let result = change(&mut state, now);
        let mut wakes = Wakes::default();
        state.dispatch(now, &mut wakes);
        drop(state);
        wakes.wake();
        result
    }
}

impl State {
    /// Requests that may be in.
    fn slots(&self) -> usize {
        let limit = self.limit.as_ref().map_or(usize::MAX, Limit::get);
        self.settings.slots.min(self.usable).min(limit)
    }

    /// Lets in whoever may be.
    fn dispatch(&mut self, now: Duration, wakes: &mut Wakes) {
        while self.schedule.running() < self.slots()
            && let Some(chosen) = self.schedule.next(now)
        {
            self.first.get_or_insert(now);
            self.began.add(now, 1.0);
            wakes.add(chosen.entry.grant(chosen.turn, chosen.waited));
        }
    }

    /// Requests let in per second, of late.
    fn rate(&self, now: Duration) -> f64 {
        self.first.map_or(0.0, |first| self.began.per_second(now, first))
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn retry_after(&self, now: Duration, ahead: usize) -> Duration {
        let most = self.settings.wait.clamp(SOON, LATE);
        let seconds = (ahead + 1) as f64 / self.rate(now);
        Duration::try_from_secs_f64(seconds).map_or(most, |time| time.clamp(SOON, most))
    }
}
