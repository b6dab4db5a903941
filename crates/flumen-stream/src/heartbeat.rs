//! A sign of life on a quiet stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::Alarm;

pin_project! {
    /// Yields a beat after every `every` without a frame; see [`StreamTools::heartbeat`](crate::StreamTools::heartbeat).
    ///
    /// A beat comes between two frames, never instead of one, and ends with the stream.
    #[derive(Debug)]
    pub struct Heartbeat<S: Stream> {
        #[pin]
        stream: S,
        every: Duration,
        beat: S::Item,
        last: Instant,
        // Frames have come since `last`. The clock is read when they stop, not for each of them.
        flowing: bool,
        alarm: Alarm,
        done: bool,
    }
}

impl<S: Stream> Heartbeat<S> {
    pub(crate) fn new(stream: S, every: Duration, beat: S::Item) -> Self {
        // A zero interval would beat without end, and the clock has one.
        let every = every.clamp(Duration::from_millis(1), Duration::from_hours(365 * 24));
        let now = Instant::now();
        Self { stream, every, beat, last: now, flowing: false, alarm: Alarm::at(now + every), done: false }
    }
}

impl<S: Stream<Item: Clone>> Stream for Heartbeat<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        if *this.done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = this.stream.poll_next(cx) {
            *this.flowing = true;
            *this.done = item.is_none();
            return Poll::Ready(item);
        }
        if std::mem::take(this.flowing) {
            *this.last = Instant::now();
        }
        loop {
            ready!(this.alarm.poll(cx));
            let now = Instant::now();
            let due = *this.last + *this.every <= now;
            if due {
                *this.last = now;
            }
            this.alarm.reset(*this.last + *this.every);
            if due {
                return Poll::Ready(Some(this.beat.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use tokio::time::sleep;

    use super::*;
    use crate::StreamTools;

    #[tokio::test(start_paused = true)]
    async fn beats_only_after_silence_and_not_after_the_end() {
        let frames = stream::iter([5_u64, 14, 31, 0]).then(|wait| async move {
            sleep(Duration::from_secs(wait)).await;
            "frame"
        });
        let start = Instant::now();
        let seen: Vec<_> = Box::pin(frames)
            .heartbeat(Duration::from_secs(15), "beat")
            .map(|item| (start.elapsed().as_secs(), item))
            .collect()
            .await;
        let expected =
            [(5, "frame"), (19, "frame"), (34, "beat"), (49, "beat"), (50, "frame"), (50, "frame")];
        assert_eq!(seen, expected);
    }
}
