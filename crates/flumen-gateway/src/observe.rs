//! What the operator sees: metrics, the access log, and the record of each request that feeds both.

pub(crate) mod access_log;
pub(crate) mod metrics;
mod observed;
mod record;
mod tenants;
mod totals;

pub(crate) use observed::{REQUEST_ID, facts_of, observe};
pub(crate) use record::{Facts, Record, Tried};
