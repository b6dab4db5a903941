//! A language-model simulator: plausible text at a settable speed, through the OpenAI API, with faults on demand.
//!
//! The gateway has it built in as an upstream; `flumen sim` serves it alone. One request can set everything by the
//! model's name: `sim:tps=100,tokens=500,fault=stall@30`; see [`Directives`].
//!
//! ```
//! use bytes::Bytes;
//! use flumen_sim::{Settings, Simulator};
//! use http::Method;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let sim = Simulator::new(Settings::default());
//! let body = r#"{"model": "sim:tps=0,ttft=0ms", "messages": [{"role": "user", "content": "hi"}]}"#;
//! let reply = sim.handle(&Method::POST, "/v1/chat/completions", Bytes::from(body)).await;
//! assert_eq!(reply.status, 200);
//! # }
//! ```

mod answer;
mod directives;
mod embeddings;
mod generate;
mod reply;
mod request;
mod router;
mod settings;
mod simulator;
mod stats;
mod text;
mod tools;

pub use directives::{Directives, Fault, InvalidDirective};
pub use reply::{Cut, Reply, ReplyBody};
pub use settings::Settings;
pub use simulator::Simulator;
pub use stats::Stats;
