use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;

use crate::{reply::Reply, simulator::Simulator, stats::Stats};

/// Largest request body that is read.
const MAX_BODY: usize = 16 << 20;

impl Simulator {
    /// The API as routes, for a server of its own. `GET /sim/stats` tells the [`Stats`].
    pub fn router(self) -> Router {
        Router::new().route("/sim/stats", get(stats)).fallback(answer).with_state(self)
    }
}

async fn stats(State(sim): State<Simulator>) -> Json<Stats> {
    Json(sim.stats())
}

async fn answer(State(sim): State<Simulator>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let reply = match to_bytes(body, MAX_BODY).await {
        Ok(body) => sim.handle(&head.method, head.uri.path(), body).await,
        Err(_) => {
            Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the request body is too large")
        }
    };
    (reply.status, reply.headers, Body::from_stream(reply.body)).into_response()
}
