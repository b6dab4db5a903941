//! Pacing: at most so many frames or bytes per second.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// A rate with a burst: a token bucket, kept as the generic cell rate algorithm (ITU-T I.371), which needs one
/// instant of state and no refilling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Time that one unit costs.
    interval: Duration,
    /// Units that may go at once after a pause.
    burst: u32,
}

impl Pace {
    /// So many units (frames, or bytes) per second on average, one at a time. Rates under one per 1,000 s count as that.
    pub fn per_second(units: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / units.max(0.001)), burst: 1 }
    }

    /// One unit per interval.
    pub fn every(interval: Duration) -> Self {
        Self { interval, burst: 1 }
    }

    /// Lets this many units go at once after a pause.
    pub fn burst(mut self, units: u32) -> Self {
        self.burst = units.max(1);
        self
    }

    /// How long so many units take, without the burst.
    pub fn span(self, units: usize) -> Duration {
        self.cost(units)
    }

    fn cost(self, units: usize) -> Duration {
        self.interval.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

pin_project! {
    /// Holds a stream to a [`Pace`]; see [`StreamTools::paced`](crate::StreamTools::paced).
    ///
    /// Pacing is backpressure, not buffering: the source is not polled before its next frame may go.
    #[derive(Debug)]
    pub struct Paced<S: Stream> {
        #[pin]
        stream: S,
        pace: Pace,
        units: fn(&S::Item) -> usize,
        // When all that has gone so far will have been paid for.
        paid: Instant,
        timer: Pin<Box<Sleep>>,
    }
}

impl<S: Stream> Paced<S> {
    pub(crate) fn new(stream: S, pace: Pace, units: fn(&S::Item) -> usize) -> Self {
        let now = Instant::now();
        Self { stream, pace, units, paid: now, timer: Box::pin(sleep_until(now)) }
    }
}

impl<S: Stream> Stream for Paced<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let mut now = Instant::now();
        let credit = this.pace.cost(this.pace.burst as usize - 1);
        let free = this.paid.checked_sub(credit).unwrap_or(now);
        if free > now {
            if this.timer.deadline() != free {
                this.timer.as_mut().reset(free);
            }
            ready!(this.timer.as_mut().poll(cx));
            now = free;
        }
        let item = ready!(this.stream.poll_next(cx));
        if let Some(item) = &item {
            let cost = this.pace.cost((this.units)(item));
            *this.paid = (*this.paid).max(now) + cost.min(Duration::from_hours(24));
        }
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::StreamTools;

    async fn times<S: Stream + Unpin>(stream: S) -> Vec<u128> {
        let start = Instant::now();
        stream.map(|_| start.elapsed().as_millis()).collect().await
    }

    #[tokio::test(start_paused = true)]
    async fn frames_go_at_their_interval() {
        let paced = stream::iter(0..4).paced(Pace::per_second(10.0));
        assert_eq!(times(paced).await, [0, 100, 200, 300]);
        let every = stream::iter(0..3).paced(Pace::every(Duration::from_millis(7)));
        assert_eq!(times(every).await, [0, 7, 14]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_average_holds() {
        let paced = stream::iter(0..6).paced(Pace::per_second(10.0).burst(3));
        assert_eq!(times(paced).await, [0, 0, 0, 100, 200, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_paid_after_they_went() {
        let frames = [50, 100, 1].map(|len| Bytes::from(vec![0; len]));
        let paced = stream::iter(frames).paced_bytes(Pace::per_second(100.0));
        assert_eq!(times(paced).await, [0, 500, 1500]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_frames_earns_no_more_than_the_burst() {
        let quiet = stream::once(async { tokio::time::sleep(Duration::from_mins(1)).await });
        let paced = Box::pin(quiet.chain(stream::iter([(); 4]))).paced(Pace::per_second(1.0).burst(2));
        assert_eq!(times(paced).await, [60_000, 60_000, 61_000, 62_000, 63_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_source_is_not_polled_ahead() {
        let polled = std::cell::Cell::new(0);
        let counted = stream::iter(0..100).inspect(|_| polled.set(polled.get() + 1));
        let mut paced = counted.paced(Pace::per_second(1.0));
        paced.next().await;
        assert!(futures_util::FutureExt::now_or_never(paced.next()).is_none());
        assert_eq!(polled.get(), 1);
    }

    #[test]
    fn senseless_rates_are_mended() {
        for rate in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Pace::per_second(rate).interval, Duration::from_secs(1000));
        }
        assert_eq!(Pace::per_second(f64::INFINITY).interval, Duration::ZERO);
    }
}
