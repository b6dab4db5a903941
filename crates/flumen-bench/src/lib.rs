//! Load for servers that stream tokens over the OpenAI API.
//!
//! A [`Plan`] says what to ask and how hard; [`run`] does it and returns a [`Report`]. Every answer is read to its end
//! and checked: events must be JSON, in order (the simulator's stamps tell), and end with `[DONE]`. Whatever else
//! happens is an error of a named kind, never a faster answer.
//!
//! With [`Load::Closed`] a number of streams runs at any time, each followed by the next. With [`Load::Open`] streams
//! begin at fixed times whether or not earlier ones are done, and times count from the planned start: a server that
//! falls behind cannot hide it.
//!
//! With [`Plan::resume`] streams go on over further connections when theirs breaks, or is cut on purpose ([`Chaos`]); they are
//! checked as a whole.

mod check;
mod exchange;
mod generate;
mod leave;
mod plan;
mod process;
mod report;
mod resume;
mod tally;

pub use exchange::{Failure, open};
pub use generate::{Progress, run};
pub use plan::{Chaos, Load, Plan};
pub use process::ProcessError;
pub use report::{Process, Quantiles, Report};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first request, which only asks whether there is a server to measure, failed.
    #[error("{0}")]
    Unusable(#[from] Failure),
    /// A process that was to be watched cannot be.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A thread of the load generator failed.
    #[error("the load generator failed: {0}")]
    Generator(String),
}
