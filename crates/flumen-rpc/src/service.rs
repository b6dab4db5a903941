//! For authors of model services: implement [`Generate`], get a server.
//!
//! ```no_run
//! use flumen_rpc::service::{Generate, Request, Server, Writer};
//! use flumen_rpc::Status;
//!
//! struct Parrot;
//!
//! impl Generate for Parrot {
//!     async fn generate(&self, request: Request, mut writer: Writer) -> Result<(), Status> {
//!         for word in request.prompt().split_inclusive(' ') {
//!             writer.text(word).await?; // waits while the reader is slow
//!         }
//!         writer.finish("stop").await
//!     }
//! }
//!
//! # #[tokio::main] async fn main() -> std::io::Result<()> {
//! Server::new(Parrot).serve("127.0.0.1:50051").await
//! # }
//! ```
//!
//! One port speaks the contract over gRPC (protocol buffers or Thrift) and over TTHeader Streaming, and has the health and
//! reflection services of gRPC and `GET /metrics`.

mod call;
mod request;
mod server;
mod stats;
mod writer;

pub use request::Request;
pub use server::Server;
pub use stats::Stats;
pub use writer::Writer;

pub(crate) use call::answer;

use std::future::Future;

use crate::Status;

/// A model, or what stands before it.
pub trait Generate: Send + Sync + 'static {
    /// Answers one request, by writing.
    ///
    /// It runs as a task of its own, which is dropped when the caller leaves, the deadline passes or somebody says stop:
    /// [`Request::cancellation`] then tells why. An error before the first word becomes the status of the call.
    fn generate(&self, request: Request, writer: Writer) -> impl Future<Output = Result<(), Status>> + Send;
}
