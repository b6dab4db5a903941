//! A simulated language model that speaks OpenAI's HTTP API, with a steady hand and faults on demand.
//!
//! It answers chat, text and embedding requests with seeded, plausible prose at the pace of a model, streamed or
//! whole. The gateway calls it in process ([`Simulator::handle`]); `flumen sim` serves the same thing over HTTP
//! ([`Simulator::router`]).
//!
//! Whatever a test needs from one answer, its request says in the model's name, after the first colon:
//! `sim:tps=100,ttft=50ms,tokens=500`, or `sim:fault=cut@20`:
//!
//! | Directive | Meaning |
//! |---|---|
//! | `tps=50` | tokens per second; 0 means as fast as possible |
//! | `interval=20ms` | time from event to event, instead of `tps` |
//! | `ttft=200ms` | time from the request to the first token |
//! | `tokens=500`, `tokens=endless` | length of the answer |
//! | `chunk=3` | tokens per event |
//! | `seed=7` | seed of the text |
//! | `jitter=0.2` | share of the interval by which gaps vary, 0 to 1 |
//! | `size=1024` | pads the text of every event with dots to so many bytes |
//! | `lang=auto` | `auto` (that of the prompt), `en`, `zh`, `de`, `es`, `ja`, `emoji`, `code`, `md` or `mix` |
//! | `header=5s` | holds the header of the reply back |
//! | `echo=1` | the answer is the text of the last user message |
//! | `split=1` | one event per body chunk, and each chunk comes in two halves, through a character if it can |
//! | `stamp=1` | every event tells its number and when it was made (µs since 1970): `"sim":{"seq":0,"at":…}` |
//! | `fault=stall@N` | after N token events nothing is sent any more |
//! | `fault=cut@N` | after N token events the connection is cut |
//! | `fault=end@N` | after N token events the body ends, without finish or `[DONE]` |
//! | `fault=error@N` | after N token events an error event, then the end |
//! | `fault=garbage@N` | after N token events binary garbage, then the end |
//! | `fault=unterminated@N` | after N token events half an event, then the end |
//! | `fault=status:503` | that status with an error body, instead of an answer |
//!
//! A fault at N events comes when event N + 1 would have been due. If the answer is shorter than N events, it never
//! comes; `@N` left out means `@0`. An answer that is not streamed takes the time that the streamed one would, and
//! meets the same faults: its header waits for the whole text, `error` becomes a status 500, and `end` and
//! `unterminated` send half of the body.
//!
//! ```
//! use flumen_sim::{Settings, Simulator};
//! use futures_util::TryStreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let simulator = Simulator::new(Settings::default());
//! let request = r#"{"model":"sim:echo=1,tps=0,ttft=0s","messages":[{"role":"user","content":"Hello"}]}"#;
//! let reply = simulator.handle(&http::Method::POST, "/v1/chat/completions", "", request.into()).await;
//! let body = reply.body.try_collect::<Vec<_>>().await.unwrap().concat();
//! assert!(String::from_utf8(body).unwrap().contains(r#""content":"Hello""#));
//! # }
//! ```

mod answer;
mod chat;
mod completions;
mod directives;
mod embeddings;
mod error;
mod fault;
mod frames;
mod generation;
mod hash;
mod models;
mod pieces;
mod reply;
mod request;
mod router;
mod schedule;
mod settings;
mod simulator;
mod stats;
mod stream;
mod text;
mod toolcall;

pub use reply::{Cut, Reply, ReplyBody};
pub use settings::Settings;
pub use simulator::Simulator;
pub use stats::Stats;
