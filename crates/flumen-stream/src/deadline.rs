//! Three clocks on a stream: to the first frame, between two frames, and in all.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::Alarm;

/// How long a stream may take. `None` sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// From the start to the first frame.
    pub first: Option<Duration>,
    /// From one frame to the next.
    pub idle: Option<Duration>,
    /// From the start to the end.
    pub total: Option<Duration>,
}

/// Which of the three clocks ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Expired {
    /// No first frame in time.
    #[error("no first frame in time")]
    First,
    /// Too long a silence after a frame.
    #[error("too long a silence between frames")]
    Idle,
    /// The whole took too long.
    #[error("the stream took too long")]
    Total,
}

/// The three clocks of one stream, for code that drives a stream by hand; [`Deadlined`] is the adaptor.
///
/// Its timer is set again only when it fires or when a limit moves closer, so a frame costs one reading of the clock.
pub struct Watchdog {
    deadlines: Deadlines,
    started: Instant,
    last: Option<Instant>,
    suspended: bool,
    alarm: Alarm,
}

impl Watchdog {
    /// Starts the clocks now.
    pub fn start(deadlines: Deadlines) -> Self {
        Self::start_at(deadlines, Instant::now())
    }

    /// Starts the clocks at an instant in the past, for example when the request came.
    pub fn start_at(deadlines: Deadlines, started: Instant) -> Self {
        let mut dog = Self { deadlines, started, last: None, suspended: false, alarm: Alarm::at(started) };
        let next = dog.next().0;
        dog.alarm.reset(next);
        dog
    }

    /// Says that a frame came at `now`.
    ///
    /// # Errors
    /// [`Expired::Total`] when the total has run out: a source that is always ready never lets the timer be polled.
    pub fn progress(&mut self, now: Instant) -> Result<(), Expired> {
        self.last = Some(now);
        match self.deadlines.total {
            Some(total) if now - self.started > total => Err(Expired::Total),
            _ => Ok(()),
        }
    }

    /// Stops the clocks for the first frame and for silence: the source is not being read. The total runs on.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Starts them again. A time of silence begins anew, at `now`.
    pub fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.suspended) && self.last.is_some() {
            self.last = Some(now);
        }
    }

    /// Ready when a clock has run out.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let (next, expired) = self.next();
            if next < self.alarm.due() {
                self.alarm.reset(next);
            }
            ready!(self.alarm.poll(cx));
            if next <= Instant::now() {
                return Poll::Ready(expired);
            }
            self.alarm.reset(next);
        }
    }

    /// The clock that runs out next.
    fn next(&self) -> (Instant, Expired) {
        // Far enough to be never, near enough for the timer to hold.
        let never = self.started + Duration::from_hours(365 * 24);
        let after = |from: Instant, span: Option<Duration>| {
            span.and_then(|span| from.checked_add(span)).unwrap_or(never).min(never)
        };
        let total = (after(self.started, self.deadlines.total), Expired::Total);
        let frame = match self.last {
            _ if self.suspended => return total,
            None => (after(self.started, self.deadlines.first), Expired::First),
            Some(last) => (after(last, self.deadlines.idle), Expired::Idle),
        };
        if frame.0 <= total.0 { frame } else { total }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("deadlines", &self.deadlines).finish_non_exhaustive()
    }
}

pin_project! {
    /// Ends a stream that misses a deadline; see [`StreamTools::deadlines`](crate::StreamTools::deadlines).
    #[derive(Debug)]
    pub struct Deadlined<S> {
        #[pin]
        stream: S,
        dog: Watchdog,
        done: bool,
    }
}

impl<S: Stream> Deadlined<S> {
    pub(crate) fn new(stream: S, deadlines: Deadlines) -> Self {
        Self { stream, dog: Watchdog::start(deadlines), done: false }
    }
}

impl<S: Stream> Stream for Deadlined<S> {
    type Item = Result<S::Item, Expired>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if *this.done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = this.stream.poll_next(cx) {
            let late = this.dog.progress(Instant::now());
            *this.done = item.is_none() || late.is_err();
            return Poll::Ready(item.map(|item| late.map(|()| item)));
        }
        let expired = ready!(this.dog.poll_expired(cx));
        *this.done = true;
        Poll::Ready(Some(Err(expired)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use tokio::time::sleep;

    use super::*;
    use crate::StreamTools;

    const SECOND: Duration = Duration::from_secs(1);

    /// A stream whose n-th frame comes after the n-th delay, and then silence.
    fn delays(seconds: &[u64]) -> impl Stream<Item = u64> + Unpin {
        let frames = stream::iter(seconds.to_vec()).then(|wait| async move {
            sleep(SECOND * u32::try_from(wait).unwrap()).await;
            wait
        });
        Box::pin(frames.chain(stream::pending()))
    }

    async fn run(seconds: &[u64], first: u64, idle: u64, total: u64) -> (usize, Expired, u64) {
        let limit = |seconds| Some(Duration::from_secs(seconds));
        let deadlines = Deadlines { first: limit(first), idle: limit(idle), total: limit(total) };
        let start = Instant::now();
        let items: Vec<_> = delays(seconds).deadlines(deadlines).collect().await;
        (items.len() - 1, items.last().unwrap().unwrap_err(), start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn each_clock_has_its_own_end() {
        assert_eq!(run(&[], 60, 30, 600).await, (0, Expired::First, 60));
        assert_eq!(run(&[59, 29], 60, 30, 600).await, (2, Expired::Idle, 118));
        assert_eq!(run(&[1], 60, 30, 600).await, (1, Expired::Idle, 31));
        assert_eq!(run(&[20; 100], 60, 30, 590).await, (29, Expired::Total, 590));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_always_ready_meets_its_total() {
        let busy = stream::repeat(()).then(|()| tokio::time::advance(SECOND));
        let items: Vec<_> = Box::pin(busy)
            .deadlines(Deadlines { total: Some(SECOND * 5), ..Deadlines::default() })
            .collect()
            .await;
        assert_eq!((items.len(), items[5]), (6, Err(Expired::Total)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limits_never_expire() {
        let mut stream = delays(&[100_000]).deadlines(Deadlines::default());
        assert_eq!(stream.next().await, Some(Ok(100_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_does_not_count_while_suspended_and_begins_anew_after() {
        let limit = |seconds| Some(SECOND * seconds);
        let mut dog = Watchdog::start(Deadlines { first: limit(10), idle: limit(10), total: limit(100) });
        dog.progress(Instant::now()).unwrap();
        dog.suspend();
        let expired = std::future::poll_fn(|cx| dog.poll_expired(cx));
        assert!(tokio::time::timeout(SECOND * 50, expired).await.is_err());
        dog.resume(Instant::now());
        let start = Instant::now();
        assert_eq!(std::future::poll_fn(|cx| dog.poll_expired(cx)).await, Expired::Idle);
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
