use flumen_sim::{Settings, Simulator};
use flumen_wire::client::{Body, Error, ErrorKind, Response};
use futures_util::StreamExt;
use http::Method;
use tokio::time::Instant;

use super::Call;

/// The model simulator, answering within this process.
#[derive(Clone, Debug)]
pub(crate) struct Sim {
    simulator: Simulator,
}

impl Sim {
    /// A simulator with these settings.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { simulator: Simulator::new(settings) }
    }

    pub(super) async fn send(&self, call: Call) -> Result<Response, Error> {
        let (started, size) = (Instant::now(), call.body.len());
        let reply = self.simulator.handle(&Method::POST, call.path, "", call.body).await;
        let pieces = reply.body.map(|piece| {
            piece.map_err(|_| Error::new(ErrorKind::Broken, "the simulator cut the connection"))
        });
        let mut body = Body::local(pieces);
        let timings = body.timings_mut();
        timings.started = started;
        timings.header = Some(started.elapsed());
        timings.body_bytes_out = size as u64;
        Ok(Response { status: reply.status, headers: reply.headers, body })
    }
}
