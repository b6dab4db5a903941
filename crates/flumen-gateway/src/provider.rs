//! Upstreams and the dialects they speak. One dialect a file.

use bytes::Bytes;
use flumen_wire::client::{self, Response};
use http::HeaderMap;
use tokio::time::Instant;

mod http_server;
pub(crate) mod openai;
mod rpc;
mod sim;

pub(crate) use http_server::HttpServer;
pub(crate) use rpc::Service;
pub(crate) use sim::Sim;

/// Something that generates.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    /// A server that speaks the OpenAI API over HTTP.
    Http(HttpServer),
    /// A model service behind RPC.
    Rpc(Service),
    /// The simulator in this process.
    Sim(Sim),
}

impl Upstream {
    /// Whether it can be asked how it is.
    pub(crate) fn has_check(&self) -> bool {
        match self {
            Self::Http(server) => server.has_check(),
            Self::Rpc(service) => service.has_check(),
            Self::Sim(_) => false,
        }
    }

    /// Asks how it is.
    pub(crate) async fn check(&self) -> bool {
        match self {
            Self::Http(server) => server.check().await,
            Self::Rpc(service) => service.check().await,
            Self::Sim(_) => true,
        }
    }

    /// Sends a request body to one of the upstream's endpoints and waits for the head of its answer.
    ///
    /// Cancel-safe: dropping the future abandons the request.
    ///
    /// # Errors
    /// When no answer came; an answer with an error status is an answer.
    pub(crate) async fn send(&self, call: Call) -> Result<Response, client::Error> {
        match self {
            Self::Http(server) => server.send(call).await,
            Self::Rpc(service) => service.send(call).await,
            Self::Sim(sim) => sim.send(call).await,
        }
    }
}

/// One request to an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Path below the API's base, for example `/chat/completions`.
    pub path: &'static str,
    /// The body.
    pub body: Bytes,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Headers that go along: those of distributed tracing, and the request's name.
    pub headers: HeaderMap,
    /// When the answer must be complete.
    pub deadline: Option<Instant>,
    /// Until when the head of the answer is waited for.
    pub due: Option<Instant>,
}
