//! Names to addresses, for as long as the records say.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::time::{Instant, timeout};

/// Resolves host names. Cheap to clone; belongs to the runtime that first uses it.
#[derive(Clone, Default)]
pub struct Resolver {
    servers: Option<Arc<Servers>>,
}

struct Servers {
    own: Vec<SocketAddr>,
    /// Nothing where the machine names no server.
    resolver: OnceLock<Option<TokioResolver>>,
}

/// The addresses of a name, and how long they may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) lives: Duration,
}

/// Records are asked for again after this time at the latest, and not more often than the other.
const LONGEST: Duration = Duration::from_mins(10);
const SHORTEST: Duration = Duration::from_secs(1);
/// After a failure the old addresses are used for this long before somebody asks again.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The system's own resolver does not tell how long an address may be used.
const UNKNOWN: Duration = Duration::from_secs(30);

impl Resolver {
    /// Asks the machine's own resolver, for every connection anew. This is the default.
    pub fn system() -> Self {
        Self { servers: None }
    }

    /// Asks these servers, or those that the machine names if there are none, and asks again when a record's time to live is over:
    /// connections to addresses that are gone are not used again then. A name that the servers do not know is left to the
    /// machine's own resolver.
    pub fn by_ttl(servers: Vec<SocketAddr>) -> Self {
        Self { servers: Some(Arc::new(Servers { own: servers, resolver: OnceLock::new() })) }
    }

    pub(super) async fn resolve(&self, name: &str) -> io::Result<Found> {
        let asked = self.servers.as_ref().and_then(|servers| servers.resolver());
        if let Some(resolver) = asked {
            match resolver.lookup_ip(name).await {
                Ok(found) => {
                    let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min();
                    let lives = ttl.map_or(UNKNOWN, |ttl| Duration::from_secs(ttl.into()));
                    let addresses = found.iter().collect();
                    return Ok(Found { addresses, lives: lives.clamp(SHORTEST, LONGEST) });
                }
                Err(error) => tracing::debug!(%error, name, "the name servers do not know the name"),
            }
        }
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(Found { addresses: found.map(|address| address.ip()).collect(), lives: UNKNOWN })
    }

    fn keeps(&self) -> bool {
        self.servers.is_some()
    }
}

impl Servers {
    fn resolver(&self) -> Option<&TokioResolver> {
        self.resolver.get_or_init(|| self.build()).as_ref()
    }

    fn build(&self) -> Option<TokioResolver> {
        let builder = if self.own.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let server = |address: &SocketAddr| {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                server
            };
            let config = ResolverConfig::from_parts(None, vec![], self.own.iter().map(server).collect());
            Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        };
        let built = builder.and_then(|mut builder| {
            // How long an answer is good for is kept here, so that connections can follow.
            builder.options_mut().cache_size = 0;
            builder.build()
        });
        built
            .inspect_err(
                |error| tracing::warn!(%error, "no name servers; the system's own resolver is asked"),
            )
            .ok()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("servers", &self.servers.as_ref().map(|servers| &servers.own))
            .finish()
    }
}

/// What is known of one name.
#[derive(Debug)]
pub(super) struct Known {
    resolver: Resolver,
    name: String,
    state: Mutex<Option<(Vec<IpAddr>, Instant)>>,
    /// Held by the one who asks again.
    renewal: tokio::sync::Mutex<()>,
}

impl Known {
    pub(super) fn new(resolver: Resolver, name: &str) -> Self {
        let (state, renewal) = Default::default();
        Self { resolver, name: name.to_owned(), state, renewal }
    }

    /// The addresses, as they were last known: whoever connects has [renewed](Self::renewed) them before.
    pub(super) async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        if let Some((addresses, _)) = &*self.state() {
            return Ok(addresses.clone());
        }
        let found = self.resolver.resolve(&self.name).await?;
        self.keep(&found);
        Ok(found.addresses)
    }

    /// Whether the time of the addresses is over, so that connections must follow the new ones.
    pub(super) fn is_over(&self) -> bool {
        self.state().as_ref().is_some_and(|(_, until)| *until <= Instant::now())
    }

    /// Asks again when the time of the addresses is over. Nothing where they stay in use: another one is asking, or there is no
    /// answer in time; better an old address than none.
    pub(super) async fn renewed(&self, wait: Duration) -> Option<Vec<IpAddr>> {
        let _one = self.renewal.try_lock().ok()?;
        if !self.is_over() {
            return None;
        }
        match timeout(wait, self.resolver.resolve(&self.name)).await {
            Ok(Ok(found)) if !found.addresses.is_empty() => {
                self.keep(&found);
                Some(found.addresses)
            }
            _ => {
                tracing::debug!(name = self.name, "no new addresses; the old ones stay in use");
                if let Some((_, until)) = &mut *self.state() {
                    *until = Instant::now() + AFTER_FAILURE;
                }
                None
            }
        }
    }

    fn keep(&self, found: &Found) {
        if self.resolver.keeps() && !found.addresses.is_empty() {
            *self.state() = Some((found.addresses.clone(), Instant::now() + found.lives));
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<(Vec<IpAddr>, Instant)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
