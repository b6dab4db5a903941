use std::time::Duration;

use crate::Transport;

/// When and how often a broken connection is made again.
///
/// A wait is drawn evenly from zero to a bound that doubles with every attempt that brought nothing new ("full jitter"), so
/// that many clients do not come back together. What the server asks for (`retry:` of an event, `Retry-After`) is waited in
/// any case, as far as `longest_asked` allows.
///
/// ```
/// use std::time::Duration;
/// use flumen_client::Reconnect;
///
/// let patient = Reconnect { attempts: 100, cap: Duration::from_secs(60), ..Reconnect::default() };
/// assert_eq!(Reconnect::never().attempts, 0);
/// assert!(patient.base < patient.cap);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Bound of the first wait.
    pub base: Duration,
    /// Largest bound of a wait.
    pub cap: Duration,
    /// How many attempts in a row may fail without a new event; 0 never connects again.
    pub attempts: u32,
    /// The longest that a server may ask us to wait.
    pub longest_asked: Duration,
}

impl Default for Reconnect {
    /// From 250 ms to 15 s, ten attempts, a minute on a server's word.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            cap: Duration::from_secs(15),
            attempts: 10,
            longest_asked: Duration::from_mins(1),
        }
    }
}

impl Reconnect {
    /// Never connects again.
    pub fn never() -> Self {
        Self { attempts: 0, ..Self::default() }
    }
}

/// Where the attempts of one stream stand.
#[derive(Debug)]
pub(crate) struct Retries {
    policy: Reconnect,
    /// Attempts since the last new event.
    spent: u32,
    /// The reconnection time the server set with `retry:`.
    asked: Option<Duration>,
}

impl Retries {
    pub(crate) fn new(policy: Reconnect) -> Self {
        Self { policy, spent: 0, asked: None }
    }

    pub(crate) fn progress(&mut self) {
        self.spent = 0;
    }

    pub(crate) fn ask(&mut self, retry: Duration) {
        self.asked = Some(retry.min(self.policy.longest_asked));
    }

    /// The wait before another attempt, if there may be one. `after` is a `Retry-After`, `luck` is from 0 to 1.
    pub(crate) fn next(&mut self, after: Option<Duration>, luck: f64) -> Option<Duration> {
        if self.spent >= self.policy.attempts {
            return None;
        }
        let doubled = self.policy.base.saturating_mul(1_u32.checked_shl(self.spent).unwrap_or(u32::MAX));
        let drawn = doubled.min(self.policy.cap).mul_f64(luck);
        // On the first attempt the server's own time is enough of a wait.
        let drawn = if self.spent == 0 && self.asked.is_some() { Duration::ZERO } else { drawn };
        self.spent += 1;
        let after = after.unwrap_or_default().min(self.policy.longest_asked);
        Some(drawn.saturating_add(self.asked.unwrap_or_default()).max(after))
    }

    /// The wait of a connection that ended as it should and goes on with the next.
    pub(crate) fn pause(&self) -> Duration {
        self.asked.unwrap_or(self.policy.base)
    }

    /// Whether this is the first attempt since something new came.
    pub(crate) fn is_first(&self) -> bool {
        self.spent <= 1
    }

    /// The wait, where the next request only asks whether there is more.
    pub(crate) fn asked(&self) -> Duration {
        self.asked.unwrap_or_default()
    }
}

/// Which transport is used next.
#[derive(Debug)]
pub(crate) struct Ladder {
    transports: Vec<Transport>,
    at: usize,
    rotate: bool,
    /// Failures of the current one in a row that came before any byte.
    barren: u32,
}

/// A transport that failed this often before a byte came gives way to the next.
const GIVES_WAY: u32 = 2;

impl Ladder {
    pub(crate) fn new(transports: Vec<Transport>, rotate: bool) -> Self {
        let transports = if transports.is_empty() { vec![Transport::default()] } else { transports };
        Self { transports, at: 0, rotate, barren: 0 }
    }

    pub(crate) fn current(&self) -> Transport {
        self.transports[self.at]
    }

    pub(crate) fn has_others(&self) -> bool {
        self.transports.len() > 1
    }

    /// A connection is over; `bytes` tells whether it brought any.
    pub(crate) fn over(&mut self, bytes: bool) {
        self.barren = if bytes { 0 } else { self.barren + 1 };
        if self.rotate || self.barren >= GIVES_WAY {
            self.barren = 0;
            self.at = (self.at + 1) % self.transports.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn retries() -> Retries {
        Retries::new(Reconnect { base: MS(100), cap: MS(300), attempts: 4, longest_asked: MS(5000) })
    }

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_with_progress() {
        let mut retries = retries();
        let mut waits = || [(); 5].map(|()| retries.next(None, 1.0));
        assert_eq!(waits(), [Some(MS(100)), Some(MS(200)), Some(MS(300)), Some(MS(300)), None]);
        retries.progress();
        assert_eq!(retries.next(None, 0.5), Some(MS(50)));
        assert_eq!(Retries::new(Reconnect::never()).next(None, 1.0), None);
        let mut endless = Retries::new(Reconnect { attempts: u32::MAX, ..Reconnect::default() });
        endless.spent = 4_000_000_000;
        assert_eq!(endless.next(None, 1.0), Some(Duration::from_secs(15)));
    }

    #[test]
    fn what_the_server_asks_for_is_waited_within_reason() {
        let mut retries = retries();
        retries.ask(MS(40));
        assert_eq!(retries.next(None, 1.0), Some(MS(40)));
        assert_eq!(retries.next(None, 1.0), Some(MS(240)));
        assert_eq!(retries.next(Some(MS(2000)), 0.0), Some(MS(2000)));
        assert_eq!(retries.next(Some(Duration::MAX), 0.0), Some(MS(5000)));
        retries.progress();
        retries.ask(Duration::MAX);
        assert_eq!(retries.next(None, 1.0), Some(MS(5000)));
    }

    #[test]
    fn a_transport_gives_way_after_two_barren_failures() {
        let mut ladder = Ladder::new(vec![Transport::WebSocket, Transport::Sse], false);
        ladder.over(false);
        ladder.over(true);
        ladder.over(false);
        assert_eq!(ladder.current(), Transport::WebSocket);
        ladder.over(false);
        assert_eq!(ladder.current(), Transport::Sse);
        ladder.over(true);
        assert_eq!(ladder.current(), Transport::Sse);
    }

    #[test]
    fn rotating_uses_another_one_each_time() {
        let mut ladder = Ladder::new(vec![Transport::Sse, Transport::Ndjson, Transport::LongPoll], true);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(ladder.current());
            ladder.over(true);
        }
        assert_eq!(seen, [Transport::Sse, Transport::Ndjson, Transport::LongPoll, Transport::Sse]);
        assert_eq!(Ladder::new(Vec::new(), false).current(), Transport::Sse);
    }
}
