use std::{sync::Arc, time::Duration};

use super::Admission;
use crate::{schedule::Turn, sync::lock};

/// A slot. Dropping it gives the slot to the next in turn.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    turn: Turn,
    waited: Duration,
}

impl Permit {
    pub(super) fn new(admission: Arc<Admission>, turn: Turn, waited: Duration) -> Self {
        Self { admission, turn, waited }
    }

    /// Charges output tokens as they stream: two atomic additions, no lock.
    pub fn charge(&self, output_tokens: u64) {
        self.turn.charge(output_tokens);
    }

    /// The first token came, this long after the request was sent. Feeds the adaptive limit, if there is one.
    pub fn first_token(&self, after: Duration) {
        self.admission.change(|state, now| {
            let in_flight = state.schedule.running();
            if let Some(limit) = &mut state.limit {
                limit.first_token(now, after, in_flight);
            }
        });
    }

    /// The upstream was overloaded: it said so or did not answer in time. Lowers the adaptive limit, if there is one.
    pub fn failed(&self) {
        self.admission.change(|state, now| {
            if let Some(limit) = &mut state.limit {
                limit.overload(now);
            }
        });
    }

    /// Says what was used in truth; `None` leaves a figure as it was charged. What is missing is charged. What is too much is
    /// given back, where that is no credit for having been away. Of several calls the last holds.
    pub fn settle(&self, input: Option<u64>, output: Option<u64>) {
        // Nobody is let in by this.
        let mut state = lock(&self.admission.state);
        let now = self.admission.now();
        state.schedule.settle(now, &self.turn, input, output);
    }

    /// How long it has waited for the slot.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Input and output tokens that were charged.
    pub fn charged(&self) -> (u64, u64) {
        (self.turn.input(), self.turn.output())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.change(|state, now| state.schedule.finish(now, &self.turn));
    }
}
