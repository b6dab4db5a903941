//! A timer for limits that are looked at with every frame.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// A timer that is cheap to poll again and again from the same task.
///
/// A [`Sleep`] lies in memory of its own, which is cold when a token comes once in a while: looking at the timers of a stream for
/// each was 5 % of a profile of the gateway. This one looks at it for a new task, and when its time has come.
pub struct Alarm {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
    /// Whom the timer wakes.
    waker: Option<Waker>,
}

impl Alarm {
    /// Goes off at this instant.
    pub fn at(due: Instant) -> Self {
        Self { due, sleep: Box::pin(sleep_until(due)), waker: None }
    }

    /// When it goes off.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Goes off at this instant instead, also if it had before.
    pub fn reset(&mut self, due: Instant) {
        self.due = due;
        self.waker = None;
        self.sleep.as_mut().reset(due);
    }

    /// Ready when it has gone off, and from then on.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) && Instant::now() < self.due {
            return Poll::Pending;
        }
        // Limits hold also for a task that has used up its share of time; a timer that knew of that would not wake it.
        let gone_off = pin!(unconstrained(self.sleep.as_mut())).poll(cx);
        self.waker = gone_off.is_pending().then(|| cx.waker().clone());
        gone_off
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("due", &self.due).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    fn in_seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_whoever_polled_it_last() {
        let (mut alarm, due) = (Alarm::at(in_seconds(5)), in_seconds(5));
        let mut noop = Context::from_waker(Waker::noop());
        assert!(alarm.poll(&mut noop).is_pending() && alarm.poll(&mut noop).is_pending());
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            // Polled more than once, as beside frames that come.
            assert_eq!(alarm.poll(cx), alarm.poll(cx));
            alarm.poll(cx)
        })
        .await;
        assert_eq!((polls, Instant::now() >= due), (2, true));
        assert!(alarm.poll(&mut noop).is_ready(), "and stays so");
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_set_to_go_off_sooner_later_and_again() {
        let mut alarm = Alarm::at(in_seconds(60));
        for seconds in [5, 1, 30] {
            poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await;
            let due = in_seconds(seconds);
            alarm.reset(due);
            poll_fn(|cx| alarm.poll(cx)).await;
            assert!(
                alarm.due() == due
                    && Instant::now() >= due
                    && Instant::now() < due + Duration::from_millis(2)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_used_up_its_time_is_woken_all_the_same() {
        let mut alarm = Alarm::at(in_seconds(1));
        poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _ = pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            alarm.poll(cx)
        })
        .await;
    }
}
