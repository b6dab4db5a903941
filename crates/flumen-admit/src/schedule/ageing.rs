//! Who has waited long enough to count as one class higher.

use std::{collections::VecDeque, time::Duration};

use super::tenant::TenantId;

/// A request on its way up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ripening {
    pub(super) since: Duration,
    pub(super) number: u64,
    pub(super) tenant: TenantId,
}

/// One step up: from which class, after how many times the ageing, and which step is next.
struct Step {
    from: usize,
    after: u32,
    next: Option<usize>,
}

const STEPS: [Step; 3] = [
    Step { from: 2, after: 1, next: Some(2) },
    Step { from: 1, after: 1, next: None },
    Step { from: 1, after: 2, next: None },
];

/// Requests of the lower classes in the order of arrival, so that the next to rise is always in front. Those that are gone stay
/// until they come to the front or are more than half.
#[derive(Debug, Default)]
pub(super) struct Ageing {
    steps: [VecDeque<Ripening>; STEPS.len()],
}

impl Ageing {
    /// A request has begun to wait in a class.
    pub(super) fn add(&mut self, class: usize, request: Ripening) {
        match class {
            0 => {}
            1 => self.steps[1].push_back(request),
            _ => self.steps[0].push_back(request),
        }
    }

    /// The next request that has waited long enough, if it still waits in the class that is given with it, and how it goes on.
    pub(super) fn next(&mut self, now: Duration, ageing: Duration) -> Option<(Ripening, usize, Rise)> {
        if ageing.is_zero() {
            return None;
        }
        STEPS.iter().enumerate().find_map(|(at, step)| {
            let first = self.steps[at].front()?;
            if now.saturating_sub(first.since) <= ageing.saturating_mul(step.after) {
                return None;
            }
            Some((self.steps[at].pop_front()?, step.from, Rise(step.next)))
        })
    }

    /// A request has risen.
    pub(super) fn risen(&mut self, request: Ripening, rise: Rise) {
        if let Some(next) = rise.0 {
            self.steps[next].push_back(request);
        }
    }

    /// Requests that are remembered, gone or not.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.steps.iter().map(VecDeque::len).sum()
    }

    /// Drops those that are gone, if they are many.
    pub(super) fn tidy(&mut self, waiting: usize, waits: impl Fn(&Ripening) -> bool) {
        for step in &mut self.steps {
            if step.len() > 2 * waiting + 64 {
                step.retain(&waits);
            }
        }
    }
}

/// Where a request goes on after it has risen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rise(Option<usize>);
