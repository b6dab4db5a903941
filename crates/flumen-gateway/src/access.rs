//! Who asks, and what they may: keys, tokens and identity providers, and the tenants that they stand for.
//!
//! `gatekeeper` stands before the routes and puts an [`Identity`] into every request that passes. It looks people up in the
//! `roster`, which a reload replaces as a whole.

mod credential;
mod gatekeeper;
mod identity;
mod issuer;
mod jwks;
mod key;
mod mint;
mod permission;
mod roster;
mod tend;
mod token;

pub(crate) use gatekeeper::{admit, identify};
pub(crate) use identity::{Identity, Proof, Tenant, Who};
pub(crate) use issuer::url as issuer_url;
pub(crate) use jwks::parse as issuer_keys;
pub use key::new_key;
pub(crate) use key::{looks_like_a_key, looks_like_a_token};
pub(crate) use mint::mint;
pub(crate) use roster::Access;
pub use token::{TokenWish, sign_token};
