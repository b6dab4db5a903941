//! Upstreams and the dialects they speak. One dialect a file.

use bytes::Bytes;
use flumen_wire::client::{self, Response};
use http::HeaderMap;

mod http_server;
pub(crate) mod openai;
mod sim;

pub(crate) use http_server::HttpServer;
pub(crate) use sim::Sim;

/// Something that generates.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    /// A server that speaks the OpenAI API over HTTP.
    Http(HttpServer),
    /// The simulator in this process.
    Sim(Sim),
}

impl Upstream {
    /// Sends a request body to one of the upstream's endpoints and waits for the head of its answer.
    ///
    /// Cancel-safe: dropping the future abandons the request.
    ///
    /// # Errors
    /// When no answer came; an answer with an error status is an answer.
    pub(crate) async fn send(&self, call: Call) -> Result<Response, client::Error> {
        match self {
            Self::Http(server) => server.send(call).await,
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
    /// Headers of the client that go along: those of distributed tracing.
    pub headers: HeaderMap,
}
