//! The two sides of the gateway that tests play, and the gateway itself.

mod client;
mod cutter;
mod gateway;
mod pool;
mod service;
mod upstream;

use std::{future::Future, time::Duration};

pub(crate) use client::{Answer, Client, chat, post};
pub(crate) use cutter::Cutter;
pub(crate) use gateway::{Gateway, command, config};
pub(crate) use pool::{Stepper, ask, pooled, post_with, until_metric};
pub(crate) use service::Service;
pub(crate) use upstream::{Conn, Upstream, event};

/// Nothing here takes long; what does not happen by then does not happen.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it happens within 20 s")
}
