use std::net::SocketAddr;

use super::Secret;

/// The listener for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Default: nowhere.
    pub listen: Option<SocketAddr>,
    /// What operators present. Only on loopback is none needed.
    pub token: Option<Secret>,
}
