//! The client against servers that do what a script says, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backpressure;
mod cuts;
mod endings;
mod eventsource;
mod fallback;
mod gaps;
mod gateway;
mod leaving;
mod posts;
mod server;
mod sockets;
mod statuses;
mod transports;
mod waiting;

use std::time::Duration;

use flumen_client::{Builder, Client, Error, EventStream, Reconnect};
use tokio::time::timeout;

/// Comes back at once, as often as it takes.
fn fast(url: &str) -> Builder {
    let reconnect =
        Reconnect { base: Duration::ZERO, cap: Duration::ZERO, attempts: 20, ..Reconnect::default() };
    Client::builder(url).reconnect(reconnect)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All payloads, and how it ended.
async fn read(stream: &mut EventStream) -> (Vec<String>, Option<Error>) {
    let mut payloads = Vec::new();
    // A stream that hangs is a failure, not a test that never ends.
    while let Some(received) = timeout(Duration::from_mins(1), stream.next()).await.unwrap() {
        match received {
            Ok(received) => payloads.push(text(&received.event.payload())),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error is the last item");
                return (payloads, Some(error));
            }
        }
    }
    (payloads, None)
}

/// All payloads of a stream that ends well.
async fn read_all(stream: &mut EventStream) -> Vec<String> {
    let (payloads, error) = read(stream).await;
    assert!(error.is_none(), "{error:?} after {payloads:?}");
    payloads
}
