//! Where resumable streams are kept.
//!
//! * [`Store`] is what every place to keep streams can do: [`MemoryStore`] keeps them in this process, [`DiskStore`] on this
//!   machine, so that they survive the process. One suite of tests runs against each.
//! * [`Producer`] writes a stream, [`Reader`] reads one, from any place on, through to its end. A reader that went away comes back
//!   at the next number: it has lost nothing, and gets nothing twice.
//! * [`Attendance`] is who reads and who waits. It wakes, and paces the writer after the reader that has come furthest; what is
//!   true stands in the store alone.
//!
//! ```
//! use std::{sync::Arc, time::SystemTime};
//! use flumen_store::{About, Ending, Limits, MemoryStore, Producer, Reader, Store, StreamId};
//! use flumen_stream::Cause;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), flumen_store::Refused> {
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Limits::default()));
//! let id = StreamId::random().unwrap();
//! let about = About { owner: "me".into(), dialect: "text".into(), model: "none".into(), created: SystemTime::now() };
//! let mut producer = Producer::create(&store, id, about).await?;
//! producer.append(vec!["one".into(), "two".into()]).await?;
//! producer.end(Ending::of(Cause::Complete)).await?;
//!
//! let mut reader = Reader::attach(&store, id, 1)?; // after the first frame
//! assert_eq!(reader.next().await.unwrap()?.frame, "two");
//! assert!(reader.next().await.is_none());
//! # Ok(()) }
//! ```

mod attendance;
mod disk;
mod id;
mod kept;
mod memory;
mod producer;
mod reader;
mod store;
mod sync;

pub use attendance::Attendance;
pub use disk::{DiskOptions, DiskStore, OpenError, Sync};
pub use id::{EventId, InvalidId, NoRandomness, Position, StreamId};
pub use memory::MemoryStore;
pub use producer::{Producer, Unwanted};
pub use reader::{Item, Reader};
pub use store::{
    About, Batch, Ending, Holding, Limits, Page, Refused, Reply, Room, State, Status, Store, Tenure, later,
    now,
};
