//! Names to addresses, by the system's resolver.

use std::{net::IpAddr, time::Duration};

use flumen_flow::{Error, ErrorKind, Result, ResultExt};
use tokio::{net::lookup_host, time::timeout};

/// How long the resolver may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of a host name, in the order of the system's preference, each once.
///
/// # Errors
/// Retryable, when the name does not resolve, or not within 5 s.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>> {
    let found = match timeout(PATIENCE, lookup_host((name, 0))).await {
        Ok(found) => found.or_retry(),
        Err(_) => {
            Err(Error::new(ErrorKind::TimedOut, format!("`{name}` was not resolved within {PATIENCE:?}"))
                .retryable())
        }
    };
    let mut addresses = Vec::new();
    for address in found? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}
