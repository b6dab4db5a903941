//! The Flumen gateway: clients speak the OpenAI API to it, and it streams from any model server behind it.
//!
//! [`Gateway`] is the whole. Inside, `routes` is the public surface; `generate` is what happens to a request that asks a
//! model; `relay` moves the tokens of the answer into the stream's log and `respond` moves them on to the client.

mod access;
mod admin;
mod burst;
pub mod config;
mod continuation;
mod core;
mod cors;
mod dispatch;
mod error;
mod front;
mod gateway;
mod generate;
mod guard;
mod health;
mod journey;
mod limits;
mod live;
mod models;
mod observe;
mod playground;
mod pool;
mod provider;
mod relay;
mod reload;
mod request;
mod respond;
mod resume;
mod routes;
mod sink;

pub use access::{TokenWish, new_key, sign_token};
pub use admin::{Hooks, Reload};
pub use gateway::{Control, Gateway, StartError};
pub use reload::{Watch, reload, reloading};
