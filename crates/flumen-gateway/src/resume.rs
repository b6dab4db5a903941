//! Streams that outlive their connections. `docs/streams.md` is what clients are promised.
//!
//! `keep` runs a generation that belongs to the gateway, `attach` finds a reader its place, `deliver` turns readers into responses;
//! `streams`, `poll` and `socket` are the endpoints.

mod attach;
mod deliver;
mod envelope;
mod keep;
mod keys;
mod orphans;
mod owner;
mod pacing;
mod poll;
mod reading;
mod socket;
mod streams;
mod wish;

pub(crate) use attach::attach;
pub(crate) use deliver::{Delivery, Numbered, Transport, apart};
pub(crate) use keep::{Kept, Origin, keep};
pub(crate) use keys::Keys;
pub(crate) use orphans::{end_orphans, tidy};
pub(crate) use owner::Owner;
pub(crate) use pacing::Pacing;
pub(crate) use poll::poll;
pub(crate) use socket::{KEY_PROTOCOL, socket};
pub(crate) use streams::{STREAM_ID, accepted, list, read, reply, state, stop};
pub(crate) use wish::Wish;
