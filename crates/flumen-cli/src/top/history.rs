//! How fast it goes, from what was polled in the last minute.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{model::Snapshot, text::whole};

/// As far as the past is shown.
const PAST: Duration = Duration::from_mins(1);

/// Per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) tokens: f64,
}

/// The counters of a minute.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    uptime: f64,
    requests: u64,
    tokens: u64,
}

impl History {
    /// Remembers the counters. Those of a gateway that began anew begin anew too.
    pub(super) fn push(&mut self, snapshot: &Snapshot) {
        let overview = &snapshot.overview;
        let point = Point {
            at: snapshot.at,
            uptime: overview.uptime_ms,
            requests: overview.requests,
            tokens: overview.tokens_out,
        };
        if self.points.back().is_some_and(|last| {
            point.uptime < last.uptime || point.requests < last.requests || point.tokens < last.tokens
        }) {
            self.points.clear();
        }
        self.points.push_back(point);
        // One point from before the minute stays: the rate at its beginning needs two.
        while self.points.get(1).is_some_and(|second| point.at.duration_since(second.at) >= PAST) {
            self.points.pop_front();
        }
    }

    /// The rates between the last two polls.
    pub(super) fn rates(&self) -> Option<Rates> {
        let mut newest = self.points.iter().rev();
        let (last, before) = (newest.next()?, newest.next()?);
        let seconds = last.at.duration_since(before.at).as_secs_f64();
        let rate = |now: u64, then: u64| difference(now, then) / seconds;
        (seconds > 0.0).then(|| Rates {
            requests: rate(last.requests, before.requests),
            tokens: rate(last.tokens, before.tokens),
        })
    }

    /// Tokens per second over the last minute, the oldest first; `None` where nothing was known.
    pub(super) fn tokens(&self, columns: u16) -> Vec<Option<u64>> {
        let step = PAST.as_secs_f64() / f64::from(columns.max(1));
        let edge = |column: u16| self.tokens_at(f64::from(columns - column) * step);
        (0..columns).map(|column| Some(whole(((edge(column + 1)? - edge(column)?) / step).round()))).collect()
    }

    /// The tokens since the first point, as of so many seconds before the last one. Between two points they are taken
    /// to have come evenly, so that polls and columns need not fall together.
    fn tokens_at(&self, seconds: f64) -> Option<f64> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        let age = |point: &Point| last.at.duration_since(point.at).as_secs_f64();
        let points = self.points.iter().zip(self.points.iter().skip(1));
        let (from, to) = points.into_iter().find(|(from, to)| age(from) >= seconds && seconds >= age(to))?;
        let length = age(from) - age(to);
        let part = if length > 0.0 { (age(from) - seconds) / length } else { 1.0 };
        Some(difference(from.tokens, first.tokens) + part * difference(to.tokens, from.tokens))
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 in a minute")]
fn difference(now: u64, then: u64) -> f64 {
    now.saturating_sub(then) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    fn after(start: Instant, seconds: f64, requests: u64, tokens: u64) -> Snapshot {
        let mut snapshot = example::snapshot();
        snapshot.at = start + Duration::from_secs_f64(seconds);
        snapshot.overview.uptime_ms = 1e6 + seconds * 1000.0;
        (snapshot.overview.requests, snapshot.overview.tokens_out) = (requests, tokens);
        snapshot
    }

    #[test]
    fn rates_need_two_polls_and_survive_a_restart() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!(history.rates(), None);
        history.push(&after(start, 0.0, 100, 1000));
        assert_eq!(history.rates(), None);
        history.push(&after(start, 2.0, 110, 1500));
        assert_eq!(history.rates(), Some(Rates { requests: 5.0, tokens: 250.0 }));
        history.push(&after(start, 3.0, 0, 0));
        assert_eq!(history.rates(), None);
        history.push(&after(start, 3.0, 1, 1));
        assert_eq!(history.rates(), None, "no time has passed");
    }

    #[test]
    fn a_minute_is_spread_over_the_columns() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!(history.tokens(3), [None; 3]);
        for poll in 0..100_u16 {
            // Polls are never quite on time.
            let at = f64::from(poll) * 1.037;
            let tokens = whole(at.min(70.0) * 1000.0);
            history.push(&after(start, at, 0, tokens));
        }
        assert!(history.points.len() <= 60, "{}", history.points.len());
        // The last minute begins at 42.7 s; after 70 s nothing came.
        assert_eq!(history.tokens(6)[..2], [Some(1000); 2]);
        assert_eq!(history.tokens(6)[3..], [Some(0); 3]);
        assert_eq!(history.tokens(0), []);
    }

    #[test]
    fn what_was_before_the_first_poll_is_not_known() {
        let (mut history, start) = (History::default(), Instant::now());
        history.push(&after(start, 0.0, 0, 0));
        history.push(&after(start, 30.0, 0, 300));
        assert_eq!(history.tokens(4), [None, None, Some(10), Some(10)]);
    }
}
