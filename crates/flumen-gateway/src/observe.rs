//! What the operator sees: metrics, the access log, and the record of each request that feeds both.

pub mod access_log;
pub mod metrics;
mod observed;
mod record;

pub use observed::observe;
pub use record::{Facts, Record};
