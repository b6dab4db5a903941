use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Admission, Permit, Refused};
use crate::{
    schedule::{Asked, Place, Turn},
    sync::{Mutex, lock},
};

/// A request that waits for its turn. The future resolves to the [`Permit`], or to [`Refused::TooLong`] when the longest wait is
/// over. Dropping it leaves the queue at once; a slot that it was given in that moment goes to the next. So it is cancel
/// safe: it may be polled by reference and dropped at any time.
///
/// # Panics
///
/// When it is polled after it was ready, or first outside a tokio runtime with time.
#[derive(Debug)]
#[must_use = "a ticket that is dropped leaves the queue"]
pub struct Ticket {
    admission: Arc<Admission>,
    asked: Asked,
    seat: Arc<Seat>,
    place: Place,
    entered: Duration,
    /// When the longest wait is over, if ever.
    deadline: Option<Instant>,
    /// Made when it has to wait.
    sleep: Option<Pin<Box<Sleep>>>,
    /// It was resolved.
    done: bool,
}

/// Where a ticket is told that its turn has come. Locked after the lock of admission, or alone.
#[derive(Debug, Default)]
pub(super) struct Seat(Mutex<Occupied>);

#[derive(Debug, Default)]
struct Occupied {
    waker: Option<Waker>,
    turn: Option<(Turn, Duration)>,
}

impl Seat {
    /// Gives the turn to the ticket; the waker is to be woken without any lock.
    pub(super) fn grant(&self, turn: Turn, waited: Duration) -> Option<Waker> {
        let mut seat = lock(&self.0);
        seat.turn = Some((turn, waited));
        seat.waker.take()
    }

    fn take(&self) -> Option<(Turn, Duration)> {
        lock(&self.0).turn.take()
    }

    fn poll(&self, cx: &Context<'_>) -> Option<(Turn, Duration)> {
        let mut seat = lock(&self.0);
        let turn = seat.turn.take();
        if turn.is_none() {
            match &mut seat.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                slot => *slot = Some(cx.waker().clone()),
            }
        }
        turn
    }
}

impl Ticket {
    pub(super) fn new(
        admission: Arc<Admission>,
        asked: Asked,
        seat: Arc<Seat>,
        place: Place,
        entered: Duration,
        wait: Duration,
    ) -> Self {
        let deadline = entered.checked_add(wait).and_then(|end| admission.epoch.checked_add(end));
        Self { admission, asked, seat, place, entered, deadline, sleep: None, done: false }
    }

    /// How many are probably served before it: an estimate, since nobody knows who comes, who leaves, and how many tokens each takes.
    /// 0 when it is next, or has had its turn.
    pub fn position(&self) -> usize {
        lock(&self.admission.state).schedule.ahead(self.place)
    }

    /// Time since it entered.
    pub fn waited(&self) -> Duration {
        self.admission.now().saturating_sub(self.entered)
    }

    fn permit(&mut self, (turn, waited): (Turn, Duration)) -> Poll<Result<Permit, Refused>> {
        self.done = true;
        Poll::Ready(Ok(Permit::new(Arc::clone(&self.admission), turn, waited)))
    }

    /// Leaves the queue because the longest wait is over; says when to come back. `None`: its turn has come.
    fn give_up(&self) -> Option<Duration> {
        let mut state = lock(&self.admission.state);
        let now = self.admission.now();
        state.schedule.leave(now, self.place)?;
        let ahead = state.schedule.ahead_of_new(&self.asked.tenant, self.asked.priority);
        Some(state.retry_after(now, ahead))
    }
}

impl Future for Ticket {
    type Output = Result<Permit, Refused>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        assert!(!this.done, "a ticket is not polled after it was ready");
        if let Some(turn) = this.seat.poll(cx) {
            return this.permit(turn);
        }
        let Some(deadline) = this.deadline else { return Poll::Pending };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        match (this.give_up(), this.seat.take()) {
            (Some(retry_after), _) => {
                this.done = true;
                Poll::Ready(Err(Refused::TooLong { retry_after }))
            }
            (None, Some(turn)) => this.permit(turn),
            (None, None) => unreachable!("who is not in the queue has had a turn"),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.admission.change(|state, now| {
            // Turns are given under the lock that is held: it either waits still or has one.
            if state.schedule.leave(now, self.place).is_none()
                && let Some((turn, _)) = self.seat.take()
            {
                state.schedule.settle(now, &turn, Some(0), Some(0));
                state.schedule.finish(now, &turn);
            }
        });
    }
}
