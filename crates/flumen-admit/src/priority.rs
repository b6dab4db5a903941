use std::{fmt, str::FromStr};

use thiserror::Error;

/// The class of a request: how soon it should be served, apart from whose it is.
///
/// Written as `interactive`, `normal` or `batch`. The order is that of urgency: the most urgent is the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody sits in front of the screen.
    Interactive,
    /// Neither urgent nor patient.
    #[default]
    Normal,
    /// Served with what the others leave.
    Batch,
}

/// A word that names no [`Priority`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no priority: it is interactive, normal or batch")]
pub struct NoPriority(String);

/// How the classes share the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Policy {
    /// A class is served when nobody waits in a more urgent one; ageing keeps the others from starving.
    #[default]
    Strict,
    /// While they have waiting requests, classes get service in proportion to these weights. Output counts for its class when the
    /// schedule looks at the tenant next, at the latest when the request ends. Ageing works here, too.
    Weighted(Shares),
}

/// Weights of the classes. Each is clamped to 0.001 ..= 1000; one that is not a number counts as 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Weight of [`Priority::Interactive`].
    pub interactive: f64,
    /// Weight of [`Priority::Normal`].
    pub normal: f64,
    /// Weight of [`Priority::Batch`].
    pub batch: f64,
}

impl Priority {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Batch];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = NoPriority;

    fn from_str(word: &str) -> Result<Self, NoPriority> {
        Self::ALL.into_iter().find(|class| class.as_str() == word).ok_or_else(|| NoPriority(word.to_owned()))
    }
}

impl Default for Shares {
    /// 16 : 4 : 1.
    fn default() -> Self {
        Self { interactive: 16.0, normal: 4.0, batch: 1.0 }
    }
}

impl Shares {
    pub(crate) fn of(&self, class: usize) -> f64 {
        [self.interactive, self.normal, self.batch][class]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for class in Priority::ALL {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
        assert_eq!("urgent".parse::<Priority>(), Err(NoPriority("urgent".to_owned())));
        assert!(Priority::Interactive < Priority::Batch);
    }
}
