//! How soon the model notices that a client has left.

use std::{collections::HashMap, time::Duration};

use flumen_wire::client::{Client, Endpoint, Options, Request};
use hdrhistogram::Histogram;
use http::{HeaderMap, Method};
use serde::Deserialize;
use tokio::time::sleep;

use crate::{Error, Failure, tally::histogram};

/// What became of the streams that were left.
#[derive(Debug)]
pub(crate) struct Cancels {
    /// From the client's close to the abort at the simulator, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Streams that the simulator never saw aborted.
    pub(crate) missed: u64,
}

#[derive(Deserialize)]
struct Abort {
    user: Option<String>,
    at: u64,
}

/// What is still under way when the load ends may take this long.
const LATECOMERS: Duration = Duration::from_millis(500);

/// Compares the times at which clients left with those at which the simulator noticed. Both are of this machine.
pub(crate) async fn latencies(simulator: &Endpoint, left: &[(String, u64)]) -> Result<Cancels, Error> {
    sleep(LATECOMERS).await;
    let client = Client::new(simulator.clone(), Options::default()).map_err(Failure::from)?;
    let request = Request {
        method: Method::GET,
        path: "/sim/aborts".to_owned(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let mut response = client.send(&request).await.map_err(Failure::from)?;
    let mut body = Vec::new();
    while let Some(piece) = response.body.piece().await {
        body.extend_from_slice(&piece.map_err(Failure::from)?);
    }
    let aborts: Vec<Abort> = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(
            "no simulator",
            format!("{simulator} does not tell aborts as the simulator does: {error}"),
        )
    })?;
    let noticed: HashMap<String, u64> =
        aborts.into_iter().filter_map(|abort| Some((abort.user?, abort.at))).collect();
    let mut cancels = Cancels { latency: histogram(), missed: 0 };
    for (user, at) in left {
        match noticed.get(user) {
            Some(noticed) => cancels.latency.saturating_record(noticed.saturating_sub(*at)),
            None => cancels.missed += 1,
        }
    }
    Ok(cancels)
}
