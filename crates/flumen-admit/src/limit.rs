//! Limits: so many requests, tokens or streams.
//!
//! [`Gcra`], [`Bucket`], [`Concurrency`] and [`Daily`] count one thing each and are told the time. A [`Scope`] has those of one
//! tenant, key or model, and is shared by threads; [`take`] asks several scopes at once, so that a request has what it needs of all of
//! them or of none.

mod bucket;
mod clock;
mod concurrency;
mod daily;
mod gcra;
mod held;
mod leak;
mod scope;

pub use bucket::Bucket;
pub use clock::{Clock, Moment};
pub use concurrency::Concurrency;
pub use daily::Daily;
pub use gcra::Gcra;
pub use held::{Held, Need, Refused, take};
pub use scope::{Allowance, Kind, Level, Scope};
