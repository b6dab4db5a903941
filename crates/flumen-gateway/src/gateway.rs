//! The gateway as a whole: binding, one runtime per core, reloading, draining.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::SystemTime,
};

use axum::Router;

use flumen_store::{DiskOptions, DiskStore, MemoryStore, OpenError, Store, Sync};
use flumen_wire::{
    listen::{Gate, Limits, Listener, Shutdown},
    tls::{InvalidCertificate, ServerTls},
};
use tokio_util::task::AbortOnDropHandle;
use tracing_appender::non_blocking::WorkerGuard;

use crate::{
    access::Access,
    admin::{self, Admin, Hooks},
    config::{Config, ConfigError, Loaded, StoreKind},
    core::{Core, Routing, Shared, UnusableUpstream},
    limits::Limiter,
    observe::{access_log::AccessLog, metrics::Metrics},
    pool::{Pools, probe},
    resume::{end_orphans, tidy},
    routes::routes,
};

/// A gateway that is bound to its addresses and not yet serving.
#[derive(Debug)]
pub struct Gateway {
    control: Control,
    limits: Arc<Limits>,
    /// For each core, its listener at each address.
    listeners: Vec<Vec<Listener>>,
    addresses: Vec<SocketAddr>,
    admin: Option<Listener>,
    _log_guard: Option<WorkerGuard>,
}

/// Why a gateway does not start, or does not take a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An upstream's settings cannot be used.
    #[error(transparent)]
    Upstream(#[from] UnusableUpstream),
    /// The certificate or its key cannot be used.
    #[error("server.tls: {0}")]
    Tls(#[from] InvalidCertificate),
    /// Others could reach a gateway that asks nobody who they are.
    #[error(
        "server.listen: {0} can be reached from elsewhere, and there are no keys (add keys, listen on 127.0.0.1, or set auth.open = true)"
    )]
    Exposed(SocketAddr),
    /// The folder of streams cannot be used.
    #[error("resume.folder: {0}")]
    Store(#[from] OpenError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}{}", if source.kind() == io::ErrorKind::AddrInUse { " (is another server running there? choose another address with --listen)" } else { "" })]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Steers a running gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    cores: Arc<[Arc<Core>]>,
    tls: Option<Arc<ServerTls>>,
    shutdown: Shutdown,
    current: Arc<Mutex<Current>>,
    /// Held from the reading of a configuration until it is in force, so that an older one never follows a newer one.
    taking_over: Arc<Mutex<()>>,
    /// Where it listens, whatever a later configuration says.
    bound: Arc<[SocketAddr]>,
}

/// What is in force.
#[derive(Debug)]
struct Current {
    config: Arc<Config>,
    /// As operators may see it.
    shown: serde_json::Value,
}

impl Gateway {
    /// Binds every address, once per core. Nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// See [`StartError`]. Everything is checked before the first address is bound.
    pub fn bind(loaded: Loaded) -> Result<Self, StartError> {
        let config = Arc::new(loaded.config);
        let server = &config.server;
        guarded(&config, &server.listen)?;
        let tls =
            server.tls.as_ref().map(|tls| ServerTls::read(&tls.cert, &tls.key)).transpose()?.map(Arc::new);
        let (access_log, log_guard) = AccessLog::to_stdout(config.log.access);
        let shared = Shared {
            metrics: Arc::new(Metrics::new()),
            access_log,
            gate: Arc::new(Gate::default()),
            shutdown: Shutdown::new(),
            store: open_store(&config)?,
            keys: Arc::default(),
            access: Arc::new(Access::new(&config)),
            limiter: Arc::new(Limiter::new(&config.limits)),
            roll: Arc::default(),
        };
        let pools = Arc::new(Pools::new(&config, None));
        let cores = (0..server.threads)
            .map(|_| Ok(Core::new(Routing::new(Arc::clone(&config), Arc::clone(&pools))?, shared.clone())))
            .collect::<Result<Vec<_>, UnusableUpstream>>()?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        listeners.resize_with(cores.len(), Vec::new);
        for &address in &server.listen {
            let bind_error = |source| StartError::Bind { address, source };
            let per_core = Listener::bind_per_core(address, cores.len()).map_err(bind_error)?;
            addresses.push(per_core[0].local_addr().map_err(bind_error)?);
            for (own, listener) in listeners.iter_mut().zip(per_core) {
                own.push(listener);
            }
        }
        let admin = match config.admin.listen {
            Some(address) => {
                let bound = Listener::bind(address, false);
                Some(bound.map_err(|source| StartError::Bind { address, source })?)
            }
            None => None,
        };
        let shutdown = shared.shutdown.clone();
        let limits = Arc::new(limits(&config));
        let control = Control {
            cores: cores.into(),
            tls,
            shutdown,
            current: Arc::new(Mutex::new(Current { config: Arc::clone(&config), shown: loaded.shown })),
            bound: addresses.clone().into(),
            taking_over: Arc::default(),
        };
        Ok(Self { control, limits, listeners, addresses, admin, _log_guard: log_guard })
    }

    /// The addresses it is bound to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where operators are listened to, if they are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Steers it while it runs.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until the shutdown is over. Blocks the thread; the cores have threads of their own.
    ///
    /// # Errors
    /// When a core cannot start.
    pub fn run(self, hooks: Hooks) -> io::Result<()> {
        let mut admin = self.admin.map(|listener| {
            let (core, control) = (Arc::clone(&self.control.cores[0]), self.control.clone());
            let token = self.control.config().admin.token.clone();
            let started = SystemTime::now();
            let admin = Admin { core, control, hooks: Arc::new(hooks), token, started };
            (listener, admin::routes(admin))
        });
        let cores = self.listeners.into_iter().zip(&*self.control.cores);
        let threads = cores
            .enumerate()
            .map(|(number, (listeners, core))| {
                let serving = (Arc::clone(core), Arc::clone(&self.limits), self.control.tls.clone());
                // The first core looks after what all share.
                let admin = admin.take();
                thread::Builder::new().name(format!("core-{number}")).spawn(move || {
                    let tends = number == 0;
                    serve_core(listeners, &serving.0, &serving.1, serving.2.as_ref(), tends, admin)
                })
            })
            .collect::<io::Result<Vec<JoinHandle<io::Result<()>>>>>()?;
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a core panicked"))??;
        }
        Ok(())
    }
}

fn serve_core(
    listeners: Vec<Listener>,
    core: &Arc<Core>,
    limits: &Arc<Limits>,
    tls: Option<&Arc<ServerTls>>,
    tends: bool,
    admin: Option<(Listener, Router)>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let gate = core.gate();
    runtime.block_on(async {
        let mut tending = Vec::new();
        if tends {
            end_orphans(core.store()).await;
            let tidying = tidy(Arc::clone(core.store()), Arc::clone(core.keys()));
            tending.push(AbortOnDropHandle::new(tokio::spawn(tidying)));
            tending.push(AbortOnDropHandle::new(tokio::spawn(probe(Arc::clone(core)))));
            let (access, limiter) = (Arc::clone(core.access()), Arc::clone(core.limiter()));
            tending.push(AbortOnDropHandle::new(tokio::spawn(async move { access.tend().await })));
            tending.push(AbortOnDropHandle::new(tokio::spawn(async move { limiter.tend().await })));
        }
        if let Some((listener, router)) = admin {
            // Operators are listened to until the very end, and however many clients there are.
            let (limits, gate) = (Arc::new(Limits::default()), Arc::default());
            let serving = listener.serve(router, limits, gate, None, Shutdown::new());
            let serving = tokio::spawn(async {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the admin API cannot be served");
                }
            });
            tending.push(AbortOnDropHandle::new(serving));
        }
        let routes = routes(core).await?;
        let serving = listeners.into_iter().map(|listener| {
            let (limits, gate, tls) = (Arc::clone(limits), Arc::clone(&gate), tls.cloned());
            listener.serve(routes.clone(), limits, gate, tls, core.shutdown().clone())
        });
        futures_util::future::try_join_all(serving).await?;
        // Generations outlive their connections, up to the end of the drain.
        core.generations().close();
        tokio::select! {
            () = core.generations().wait() => {}
            () = core.shutdown().over() => {}
        }
        drop(tending);
        Ok(())
    })
}

fn open_store(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    let resume = &config.resume;
    let limits = flumen_store::Limits {
        stream: resume.stream_size,
        budget: resume.budget,
        retention: resume.retention,
    };
    Ok(match &resume.store {
        StoreKind::Memory => Arc::new(MemoryStore::new(limits)),
        StoreKind::Disk { folder, flush } => {
            let sync = if *flush { Sync::Disk } else { Sync::Write };
            Arc::new(DiskStore::open(folder, limits, DiskOptions { sync, ..DiskOptions::default() })?)
        }
    })
}

fn limits(config: &Config) -> Limits {
    let (server, timeouts) = (&config.server, &config.timeouts);
    Limits {
        connections: server.max_connections,
        connections_per_address: server.max_connections_per_address,
        header_size: server.max_header_size,
        http2_streams: server.http2_max_streams,
        http2_resets: server.http2_max_resets,
        request_header: timeouts.request_header,
        keep_alive: timeouts.keep_alive,
        stall: timeouts.client_stall,
        tls_handshake: timeouts.tls,
        ..Limits::default()
    }
}

impl Control {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current().config)
    }

    /// Waits until nobody else takes over a configuration.
    pub(crate) fn taking_over(&self) -> MutexGuard<'_, ()> {
        self.taking_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as operators may see it: every key, without secrets.
    pub(crate) fn shown(&self) -> serde_json::Value {
        let current = self.current();
        let mut shown = current.shown.clone();
        // The command line may have said otherwise.
        let listen: Vec<_> = current.config.server.listen.iter().map(ToString::to_string).collect();
        shown["server"]["listen"] = listen.into();
        shown
    }

    /// Polite end: no new connections, running streams go on.
    pub fn drain(&self) {
        self.shutdown.drain();
    }

    /// Ends streams with an error event that says so.
    pub fn abort(&self) {
        self.shutdown.abort();
    }

    /// Puts a new configuration in force: all of it or nothing. Running streams keep the one that they began with.
    /// Returns the settings that take effect only after a restart.
    ///
    /// # Errors
    /// When it cannot be used; the old one stays.
    pub fn reload(&self, loaded: Loaded) -> Result<Vec<&'static str>, StartError> {
        let config = Arc::new(loaded.config);
        // Another address takes a restart, but keys that are gone would be gone at once.
        guarded(&config, &self.bound)?;
        // Nothing is taken over before all of it can be used.
        self.cores.iter().try_for_each(|core| Routing::new(Arc::clone(&config), core.pools()).map(drop))?;
        if let Some(tls) = &self.tls {
            tls.reload()?;
        }
        let before = self.cores.first().map(|core| core.pools());
        let pools = Arc::new(Pools::new(&config, before.as_deref()));
        let routing = |_| Routing::new(Arc::clone(&config), Arc::clone(&pools));
        let routings = self.cores.iter().map(routing).collect::<Result<Vec<_>, _>>()?;
        for (core, routing) in self.cores.iter().zip(routings) {
            core.set_routing(routing);
        }
        if let Some(core) = self.cores.first() {
            core.access().apply(&config);
            core.limiter().apply(&config.limits);
        }
        let mut current = self.current();
        let fixed = needs_restart(&current.config, &config);
        *current = Current { config, shown: loaded.shown };
        Ok(fixed)
    }
}

/// Whether a configuration may serve these addresses.
fn guarded(config: &Config, listen: &[SocketAddr]) -> Result<(), StartError> {
    config.auth.exposes(&config.keys, listen).map_or(Ok(()), |address| Err(StartError::Exposed(address)))
}

/// Settings that differ and that a running server cannot change.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (before, after) = (&old.server, &new.server);
    let mut fixed = Vec::new();
    let mut check = |differs: bool, key| {
        if differs {
            fixed.push(key);
        }
    };
    check(before.listen != after.listen, "server.listen");
    check(before.threads != after.threads, "server.threads");
    check(before.tls != after.tls, "server.tls");
    check(limits(old) != limits(new), "server limits and connection timeouts");
    let store = |config: &Config| {
        let resume = &config.resume;
        (resume.store.clone(), resume.stream_size, resume.budget, resume.retention)
    };
    check(store(old) != store(new), "where and for how long streams are kept");
    check(old.admin != new.admin, "admin");
    check(old.log.access != new.log.access, "log.access");
    fixed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn load(text: &str) -> Loaded {
        Config::parse(text, Path::new("x"), std::iter::empty()).unwrap()
    }

    #[test]
    fn keys_do_not_go_while_others_can_reach_the_address() {
        let key = format!("[keys.a]\nhash = \"{}\"\ntenant = \"t\"\n", crate::config::KeyHash::of("k"));
        let config =
            |listen: &str, rest: &str| load(&format!("[server]\nthreads = 1\nlisten = \"{listen}\"\n{rest}"));
        let gateway = Gateway::bind(config("0.0.0.0:0", &key)).unwrap();
        let control = gateway.control();
        assert!(matches!(control.reload(config("127.0.0.1:0", "")), Err(StartError::Exposed(_))));
        assert!(control.config().auth.required(&control.config().keys));
        assert_eq!(control.reload(config("127.0.0.1:0", &key)).unwrap(), ["server.listen"]);
        assert!(matches!(control.reload(config("127.0.0.1:0", "")), Err(StartError::Exposed(_))));
        control.reload(config("127.0.0.1:0", "[auth]\nopen = true\n")).unwrap();
    }

    #[test]
    fn a_configuration_that_nobody_checked_is_not_served_to_everybody() {
        let mut loaded = load("");
        loaded.config.server.listen = vec!["0.0.0.0:0".parse().unwrap()];
        assert!(matches!(Gateway::bind(loaded), Err(StartError::Exposed(_))));
    }
}
