//! A typed stream of events from any endpoint that streams them, which goes on by itself when its connection does not.
//!
//! ```
//! # use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpListener};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}", listener.local_addr()?);
//! # tokio::spawn(async move {
//! #     for answer in [
//! #         "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\nretry: 1\ndata: {\"n\":1}\nid: 1\n\ndata: {",
//! #         "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 37\r\n\r\ndata: {\"n\":2}\nid: 2\n\ndata: [DONE]\n\n\n\n",
//! #     ] {
//! #         let (mut socket, _) = listener.accept().await.unwrap();
//! #         let _ = socket.read(&mut [0; 4096]).await;
//! #         socket.write_all(answer.as_bytes()).await.unwrap();
//! #     }
//! # });
//! use flumen_client::Client;
//!
//! #[derive(serde::Deserialize)]
//! struct Count { n: u32 }
//!
//! let client = Client::new(&url)?;
//! let mut counts = client.get("/counts").stream().json::<Count>();
//! let mut seen = Vec::new();
//! // The server cuts its answer after the first event; the second comes over another connection.
//! while let Some(count) = counts.next().await {
//!     seen.push(count?.value.n);
//! }
//! assert_eq!(seen, [1, 2]);
//! assert_eq!(counts.events().stats().connections, 2);
//! # Ok(()) }
//! ```
//!
//! # Servers
//!
//! A **GET** of server-sent events is read as the WHATWG's `EventSource` reads it: the last id goes into `Last-Event-ID`, an id counts
//! when its event is complete, `retry:` sets the wait, 204 is the end. Redirects are not followed.
//!
//! A **POST** to a gateway of ours is resumable: the answer names its stream, and the client goes on with `GET /v1/streams/<id>`. If the
//! connection breaks before an answer began, the same POST with the same `Idempotency-Key` finds the stream. A POST to anybody
//! else is not run again once its answer began, unless [`Call::repost`] allows it: it ends with [`ErrorKind::Broken`].
//!
//! | | |
//! |---|---|
//! | tried again | no connection, a broken one, silence ([`Call::idle`]), 429, 502, 503, 504 |
//! | the end | 204, an end mark, the end of a body where [`End`] says so |
//! | an error at once | any other status, another content type, a missing event ([`ErrorKind::Gap`]), an event too long |
//!
//! # Transports
//!
//! [`Transport::Sse`] and [`Transport::Ndjson`] read any server, [`Transport::WebSocket`] and [`Transport::LongPoll`] gateways of ours. Given
//! several, the client changes to the next when one does not work, in the middle of a stream as well:
//!
//! ```
//! use flumen_client::{Client, Transport};
//!
//! # fn main() -> Result<(), flumen_client::Error> {
//! let client = Client::builder("https://llm.example.com")
//!     .transports([Transport::WebSocket, Transport::Sse, Transport::LongPoll])
//!     .header("authorization", "Bearer k")
//!     .build()?;
//! let answer = client.post("/v1/chat/completions", r#"{"model":"m","messages":[],"stream":true}"#).stream();
//! # drop(answer);
//! # Ok(()) }
//! ```

mod call;
mod client;
mod error;
mod json;
mod link;
mod policy;
mod position;
mod received;
mod stats;
mod stream;
mod transport;

pub use call::Call;
pub use client::{Builder, Client};
pub use error::{Error, ErrorKind};
pub use json::{JsonStream, Typed};
pub use policy::Reconnect;
pub use position::Id;
pub use received::{End, Received};
pub use stats::{Leg, Stats};
pub use stream::EventStream;
pub use transport::Transport;

/// How connections are made: timeouts, certificates, how many unused ones are kept.
pub use flumen_wire::client::{Options, Protocol, Timings};
