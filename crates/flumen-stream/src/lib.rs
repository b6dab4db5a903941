//! Streaming primitives: what happens to a frame between the socket it came from and the socket it leaves by.
//!
//! * [`Event`] is one server-sent event that keeps the bytes it came with; [`codec::sse::Decoder`] finds events in
//!   a byte stream without copying them.
//! * [`mod@log`] is the bounded stream itself: one [`Writer`], any number of [`Cursor`]s, and the slowest cursor makes
//!   the writer wait. Backpressure is nothing but the lag of the cursors.
//! * [`compact`] keeps frames in a tenth of their size, for logs that are read again.
//! * [`pace`], [`heartbeat`] and [`deadline`] are adaptors for any [`futures_util::Stream`]; [`StreamTools`] hangs
//!   them on it as methods.
//! * [`Alarm`] is a timer for limits that are looked at with every frame.
//! * [`Meter`] counts what went through and when.
//!
//! This crate opens no socket and spawns no task. Time is tokio's, so tests can pause it.
//!
//! ```
//! use flumen_stream::{Event, Watermarks, log};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (mut writer, mut cursor) = log(Watermarks::new(64 * 1024));
//! writer.append(Event::data("hello")).await.unwrap();
//! writer.complete();
//!
//! assert_eq!(&*cursor.next().await.unwrap().unwrap().payload(), b"hello");
//! assert!(cursor.next().await.is_none());
//! # }
//! ```

mod alarm;
pub mod codec;
pub mod compact;
pub mod deadline;
mod end;
mod event;
pub mod heartbeat;
pub mod log;
mod meter;
pub mod pace;
mod tools;
mod watermark;

pub use alarm::Alarm;
pub use deadline::{Deadlines, Expired};
pub use end::{Cause, End};
pub use event::{Event, EventBuilder, InvalidField};
pub use log::{Closed, Cursor, Frame, Writer, log, log_in};
pub use meter::Meter;
pub use pace::Pace;
pub use tools::StreamTools;
pub use watermark::{Pressure, Watermarks};
