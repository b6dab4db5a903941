//! Asking the simulator and taking its answers apart.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "called from tests only")]

use bytes::Bytes;
use flumen_sim::{Cut, Reply, Settings, Simulator};
use futures_util::StreamExt;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) fn simulator() -> Simulator {
    Simulator::new(Settings::default())
}

pub(crate) async fn post(simulator: &Simulator, path: &str, body: &Value) -> Reply {
    simulator.handle(&Method::POST, path, "", body.to_string().into()).await
}

/// A streamed chat with this model.
pub(crate) async fn chat(model: &str) -> Reply {
    post(&simulator(), "/v1/chat/completions", &request(model, true)).await
}

pub(crate) fn request(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Erzähl mir vom Fluss 🌊"}]})
}

/// All of a body, the time of every chunk in milliseconds, and whether the connection was cut.
pub(crate) struct Collected {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) times: Vec<u128>,
    pub(crate) cut: bool,
}

pub(crate) async fn collect(reply: Reply) -> Collected {
    let start = Instant::now();
    let (mut body, mut collected) = (reply.body, Collected { chunks: vec![], times: vec![], cut: false });
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => {
                collected.chunks.push(chunk);
                collected.times.push(start.elapsed().as_millis());
            }
            Err(Cut) => collected.cut = true,
        }
    }
    collected
}

impl Collected {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    /// The payloads of all events, which must be complete.
    pub(crate) fn payloads(&self) -> Vec<String> {
        let text = self.text();
        let events = text.strip_suffix("\n\n").unwrap_or_else(|| panic!("unterminated: {text}"));
        events.split("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
    }

    /// All events but the end mark as JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        let payloads = self.payloads();
        payloads
            .iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// The assembled text of a chat.
    pub(crate) fn content(&self) -> String {
        content(&self.events())
    }
}

pub(crate) fn content(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

/// A reply that must be whole JSON.
pub(crate) async fn whole(reply: Reply) -> (StatusCode, Value) {
    let status = reply.status;
    (status, serde_json::from_slice(&collect(reply).await.bytes()).unwrap())
}
