use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Clock, Kind, Level, Moment, Scope};

/// What a request needs: one request, one place among those that run, and so many tokens by estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

/// A limit is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is used up", kind.as_str())]
pub struct Refused {
    /// Whose limit, by its place among the scopes.
    pub scope: usize,
    /// Which limit.
    pub kind: Kind,
    /// What it allows.
    pub limit: u64,
    /// When there is room again, as far as one can tell.
    pub wait: Duration,
}

/// What a request has taken. Dropping it gives back its place and what of the estimate was not used.
#[derive(Debug)]
pub struct Held {
    scopes: Vec<(Arc<Scope>, u64)>,
    clock: Arc<Clock>,
    need: Need,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// Tokens of the answer that have come.
    streamed: u64,
    /// Something was asked of an upstream: before that nothing was used.
    begun: bool,
    /// The upstream's own count.
    input: Option<u64>,
    output: Option<u64>,
}

/// Takes what a request needs of all scopes, or of none. All are locked meanwhile, so that of requests that come at the same time
/// exactly as many are let in as there is room for; they must be given in the same order by everybody, and each once.
///
/// # Errors
/// The limit that takes longest to have room again.
pub fn take(scopes: Vec<Arc<Scope>>, need: Need, clock: &Arc<Clock>) -> Result<Held, Refused> {
    let now = clock.now();
    let days: Vec<u64> = {
        let mut locked: Vec<_> = scopes.iter().map(|scope| scope.lock()).collect();
        let refusals = locked.iter_mut().enumerate().filter_map(|(scope, counts)| {
            let (kind, limit, wait) = counts.refusal(need.input, need.output, now)?;
            Some(Refused { scope, kind, limit, wait })
        });
        if let Some(refused) = refusals.max_by_key(|refused| refused.wait) {
            return Err(refused);
        }
        locked.iter_mut().map(|counts| counts.take(need.input, need.output, now)).collect()
    };
    let scopes = scopes.into_iter().zip(days).collect();
    Ok(Held { scopes, clock: Arc::clone(clock), need, used: Mutex::default() })
}

impl Held {
    /// Counts tokens of the answer as they come. Beyond the estimate they are taken at once.
    pub fn output(&self, tokens: u64) {
        let more = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.begun = true;
            let before = used.streamed.max(self.need.output);
            used.streamed = used.streamed.saturating_add(tokens);
            used.streamed.max(self.need.output) - before
        };
        if more > 0 {
            let now = self.clock.now();
            for (scope, _) in &self.scopes {
                scope.lock().charge(0, more, now);
            }
        }
    }

    /// From now on tokens are used: what is dropped before gives everything back but the request itself.
    pub fn begin(&self) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).begun = true;
    }

    /// Tells what the request has really used, where that is known. It counts when the request ends.
    pub fn settle(&self, input: Option<u64>, output: Option<u64>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.begun = true;
        used.input = input.or(used.input);
        used.output = output.or(used.output);
    }

    /// Where the limits stand, each with the place of its scope.
    pub fn levels(&self) -> Vec<(usize, Level)> {
        let now = self.clock.now();
        let scopes = self.scopes.iter().enumerate();
        scopes
            .flat_map(|(place, (scope, _))| scope.levels(now).into_iter().map(move |level| (place, level)))
            .collect()
    }

    fn give_back(&mut self, now: Moment) {
        let used = self.used.get_mut().unwrap_or_else(PoisonError::into_inner);
        let taken = (self.need.input, self.need.output.max(used.streamed));
        let real = if used.begun {
            (used.input.unwrap_or(self.need.input), used.output.unwrap_or(used.streamed))
        } else {
            (0, 0)
        };
        for (scope, day) in &self.scopes {
            let mut counts = scope.lock();
            counts.settle(*day, taken, real, now);
            counts.running.end();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.give_back(now);
    }
}

#[cfg(test)]
mod tests;
