//! The adaptors as methods.

use std::time::Duration;

use futures_util::Stream;

use crate::{
    Frame, Pace,
    deadline::{Deadlined, Deadlines},
    heartbeat::Heartbeat,
    pace::Paced,
};

/// Pacing, heartbeat and deadlines for any stream.
///
/// ```
/// use flumen_stream::{Pace, StreamTools};
/// use futures_util::{StreamExt, stream};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let slow = stream::iter("river".chars()).paced(Pace::per_second(1000.0));
/// assert_eq!(slow.collect::<String>().await, "river");
/// # }
/// ```
pub trait StreamTools: Stream + Sized {
    /// At most so many frames per second, or one per interval.
    fn paced(self, pace: Pace) -> Paced<Self> {
        Paced::new(self, pace, |_| 1)
    }

    /// At most so many bytes per second. A frame goes whole and is paid for afterwards.
    fn paced_bytes(self, pace: Pace) -> Paced<Self>
    where
        Self::Item: Frame,
    {
        Paced::new(self, pace, Frame::size)
    }

    /// Yields `beat` after every `every` without a frame.
    fn heartbeat(self, every: Duration, beat: Self::Item) -> Heartbeat<Self>
    where
        Self::Item: Clone,
    {
        Heartbeat::new(self, every, beat)
    }

    /// Ends the stream with an error when it misses a deadline. The clocks start now.
    fn deadlines(self, deadlines: Deadlines) -> Deadlined<Self> {
        Deadlined::new(self, deadlines)
    }
}

impl<S: Stream> StreamTools for S {}
