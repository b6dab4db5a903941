//! Who may begin, how much, and whose turn it is: fair admission and limits, counted in tokens.
//!
//! [`Admission`] stands in front of a pool of model servers with a bounded number of slots. Who waits is chosen by the
//! *virtual token counter* ([`schedule`]): the tenant that has had the least service is next, where service counts tokens, not
//! requests. No slot stays empty while anybody waits.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), flumen_admit::Refused> {
//! use flumen_admit::{Admission, Asked, Priority, Settings};
//!
//! let admission = Admission::new(Settings { slots: 1, ..Settings::default() });
//! let asked = |tenant: &str| Asked {
//!     tenant: tenant.into(),
//!     weight: 1.0,
//!     priority: Priority::Normal,
//!     input: 120,
//! };
//! let first = admission.enter(asked("ada"))?.await?;
//! let again = admission.enter(asked("ada"))?;
//! let other = admission.enter(asked("bob"))?;
//! first.charge(5); // tokens as they stream
//! first.settle(Some(117), Some(5)); // what it was in truth
//! drop(first);
//!
//! // Ada has asked first, but Bob has had nothing yet.
//! drop(other.await?);
//! drop(again.await?);
//! # Ok(())
//! # }
//! ```

mod adaptive;
mod admission;
pub mod limit;
mod priority;
pub mod schedule;
mod sync;

pub use adaptive::Adaptive;
pub use admission::{Admission, Permit, Refused, Settings, Snapshot, Ticket};
pub use priority::{NoPriority, Policy, Priority, Shares};
pub use schedule::{Asked, ClassReport, TenantReport, Weights};
