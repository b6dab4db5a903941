//! Where a service is: the addresses of all its endpoints.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flumen_wire::client::{Dialer, Error};
use tokio::time::Instant;

/// An endpoint, and one of its addresses.
pub(super) type Address = (usize, IpAddr);

/// Names are asked for again so often; what lives longer the resolver keeps.
const LOOK_UP: Duration = Duration::from_secs(5);

/// What is known of the endpoints' names. Where something is known nobody waits for news.
#[derive(Debug)]
pub(super) struct Addresses {
    dialers: Vec<Dialer>,
    known: Mutex<Known>,
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    /// By endpoint. Better old addresses than none.
    addresses: Vec<Vec<IpAddr>>,
    since: Option<Instant>,
}

impl Addresses {
    pub(super) fn of(dialers: Vec<Dialer>) -> Arc<Self> {
        let addresses = vec![Vec::new(); dialers.len()];
        let known = Mutex::new(Known { addresses, since: None });
        Arc::new(Self { dialers, known, asking: Arc::default() })
    }

    pub(super) fn dialer(&self, endpoint: usize) -> &Dialer {
        &self.dialers[endpoint]
    }

    /// All that is known. The first caller waits for it; later ones have it renewed.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Vec<Address>, Error> {
        let (all, is_old) = self.all();
        if all.is_empty() {
            let _one = self.asking.lock().await;
            // Somebody may have asked meanwhile.
            let (all, _) = self.all();
            if all.is_empty() {
                self.ask().await?;
                return Ok(self.all().0);
            }
            return Ok(all);
        }
        if is_old && let Ok(one) = Arc::clone(&self.asking).try_lock_owned() {
            let own = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = own.ask().await {
                    tracing::debug!(%error, "no new addresses of a service; the old ones stay in use");
                }
                drop(one);
            });
        }
        Ok(all)
    }

    fn all(&self) -> (Vec<Address>, bool) {
        let known = self.known();
        let of = |(endpoint, addresses): (usize, &Vec<IpAddr>)| {
            addresses.iter().map(move |address| (endpoint, *address)).collect::<Vec<_>>()
        };
        let all = known.addresses.iter().enumerate().flat_map(of).collect();
        (all, known.since.is_none_or(|since| since.elapsed() >= LOOK_UP))
    }

    /// Asks for the names of all endpoints. An error is one only where nothing at all is known.
    async fn ask(&self) -> Result<(), Error> {
        let mut last = None;
        for (endpoint, dialer) in self.dialers.iter().enumerate() {
            match dialer.addresses().await {
                Ok(addresses) => self.known().addresses[endpoint] = addresses,
                Err(error) => last = Some(error),
            }
        }
        let mut known = self.known();
        known.since = Some(Instant::now());
        match last {
            Some(error) if known.addresses.iter().all(Vec::is_empty) => Err(error),
            _ => Ok(()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
