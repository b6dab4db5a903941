//! What the handlers of one core share: where models go, and the ways to observe and to stop.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use flumen_rpc::{Encoding, grpc, ttheader};
use flumen_store::Store;
use flumen_wire::{
    client::{self, Dialer, Endpoint, Options, Protocol, Resolver},
    listen::{Gate, Shutdown},
    tls,
};
use http::{HeaderMap, HeaderValue, header};
use tokio_util::task::TaskTracker;

use crate::{
    access::Access,
    config::{self, Config},
    limits::Limiter,
    live::Roll,
    observe::{Facts, Record, access_log::AccessLog, metrics::Metrics},
    pool::{Pool, Pools},
    provider::{HttpServer, Service, Sim, Upstream},
    resume::Keys,
};

/// The state of one core. Upstream connections belong to it, so that no event crosses threads.
#[derive(Debug)]
pub(crate) struct Core {
    routing: ArcSwap<Routing>,
    shared: Shared,
    /// Generations that outlive their connections.
    generations: TaskTracker,
}

/// What all cores share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access_log: AccessLog,
    /// Counts connections.
    pub gate: Arc<Gate>,
    /// The end.
    pub shutdown: Shutdown,
    /// Where resumable streams are kept.
    pub store: Arc<dyn Store>,
    /// Which of them were begun under an idempotency key.
    pub keys: Arc<Keys>,
    /// Who may come.
    pub access: Arc<Access>,
    /// How much they may use.
    pub limiter: Arc<Limiter>,
    /// What waits and runs.
    pub roll: Arc<Roll>,
}

impl Core {
    /// A core that starts with this routing.
    pub(crate) fn new(routing: Routing, shared: Shared) -> Arc<Self> {
        Arc::new(Self { routing: ArcSwap::from_pointee(routing), shared, generations: TaskTracker::new() })
    }

    /// The routing in force. A request keeps the one that it began with.
    pub(crate) fn routing(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// The pools in force.
    pub(crate) fn pools(&self) -> Arc<Pools> {
        Arc::clone(self.routing.load().pools())
    }

    /// Puts a new routing in force for the requests that come from now on.
    pub(crate) fn set_routing(&self, routing: Routing) {
        self.routing.store(Arc::new(routing));
    }

    /// Opens the record of a request.
    pub(crate) fn record(&self, facts: Facts) -> Arc<Record> {
        Record::open(facts, Arc::clone(&self.shared.metrics), self.shared.access_log.clone())
    }

    /// The end of the server.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shared.shutdown
    }

    /// Where resumable streams are kept.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The idempotency keys of resumable streams.
    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.shared.keys
    }

    /// Who may come.
    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.shared.access
    }

    /// How much they may use.
    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.shared.limiter
    }

    /// What waits and runs.
    pub(crate) fn roll(&self) -> &Arc<Roll> {
        &self.shared.roll
    }

    /// The generations of this core that outlive their connections.
    pub(crate) fn generations(&self) -> &TaskTracker {
        &self.generations
    }

    /// All metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Counts the connections of all cores.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.shared.gate)
    }

    /// All metrics as text.
    pub(crate) fn scrape(&self) -> String {
        let Shared { metrics, gate, store, access, .. } = &self.shared;
        metrics.scrape(gate, &**store, self.routing.load().pools(), access)
    }
}

/// A configuration, its pools, and one core's clients for its upstreams.
#[derive(Debug)]
pub(crate) struct Routing {
    config: Arc<Config>,
    pools: Arc<Pools>,
    upstreams: BTreeMap<String, Upstream>,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// The configured name of the model: the key that matched.
    pub model: &'a str,
    /// What the upstream calls the model, if it calls it otherwise.
    pub rename: Option<&'a str>,
    /// The pool.
    pub pool: &'a Arc<Pool>,
    /// What all together may use of the model.
    pub limits: &'a config::Limits,
    /// Whether its streams are resumable unless the client says otherwise.
    pub resume: bool,
}

/// An upstream that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("upstream `{name}`: {problem}")]
pub struct UnusableUpstream {
    name: String,
    problem: String,
}

impl Routing {
    /// Makes the clients. Opens no connection.
    ///
    /// # Errors
    /// When an upstream's settings cannot be used.
    pub(crate) fn new(config: Arc<Config>, pools: Arc<Pools>) -> Result<Self, UnusableUpstream> {
        let resolver = Resolver::by_ttl(config.dns.clone());
        let upstreams = config
            .upstreams
            .iter()
            .map(|(name, upstream)| {
                upstream_of(upstream, &config, &resolver)
                    .map(|upstream| (name.clone(), upstream))
                    .map_err(|problem| UnusableUpstream { name: name.clone(), problem })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { config, pools, upstreams })
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The pools.
    pub(crate) fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// This core's client for an upstream.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.get(name)
    }

    /// This core's clients.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = (&String, &Upstream)> {
        self.upstreams.iter()
    }

    /// How an upstream is asked to go on with an answer, if it can.
    pub(crate) fn continuation(&self, upstream: &str) -> Option<config::Continuation> {
        self.config.upstreams.get(upstream)?.continuation
    }

    /// Where a request for this model goes.
    pub(crate) fn target(&self, model: &str) -> Option<Target<'_>> {
        let (name, route) = self.config.route(model)?;
        let pool = self.pools.get(&route.pool)?;
        // An alias is nothing that upstreams know.
        let alias = self.config.aliases.get(model).map(String::as_str);
        let rename = route.name.as_deref().or(alias).filter(|name| *name != model);
        let resume = route.resume.unwrap_or(self.config.resume.enabled);
        Some(Target { model: name, rename, pool, limits: &route.limits, resume })
    }
}

fn upstream_of(
    upstream: &config::Upstream,
    config: &Config,
    resolver: &Resolver,
) -> Result<Upstream, String> {
    match &upstream.kind {
        config::UpstreamKind::Sim(settings) => Ok(Upstream::Sim(Sim::new(flumen_sim::Settings {
            tokens_per_second: settings.tokens_per_second,
            jitter: settings.jitter,
            first_token: settings.first_token,
            tokens: settings.tokens,
            chunk: settings.chunk,
            seed: settings.seed,
            ..flumen_sim::Settings::default()
        }))),
        config::UpstreamKind::Rpc(rpc) => service_of(rpc, config, resolver).map(Upstream::Rpc),
        config::UpstreamKind::OpenAi(server) => {
            let protocol = match server.protocol {
                config::Protocol::Http1 => Protocol::Http1,
                config::Protocol::Http2 => Protocol::Http2,
            };
            let endpoint: Endpoint =
                server.base_url.parse().map_err(|error: client::InvalidUrl| error.to_string())?;
            let options = Options {
                connect_timeout: config.timeouts.connect,
                tls_timeout: config.timeouts.tls,
                extra_roots: extra_roots(server.ca_file.as_deref())?,
                resolver: resolver.clone(),
                ..Options::default()
            };
            let headers = headers_of(server)?;
            HttpServer::new(endpoint.protocol(protocol), options, headers, server.health_path.as_deref())
                .map(Upstream::Http)
                .map_err(|error| error.to_string())
        }
    }
}

/// An answer that is no stream may come in one message. Events of streams are held to `stream.max_event` besides.
const LARGEST_ANSWER: usize = 16 << 20;
/// What a service may send on one stream before it is read: seconds of text, and little to hold for a reader that is slow.
const STREAM_WINDOW: u32 = 32 * 1024;

fn service_of(rpc: &config::Rpc, config: &Config, resolver: &Resolver) -> Result<Service, String> {
    let identity = rpc.identity.as_ref().map(|(cert, key)| tls::Identity::read(cert, key)).transpose();
    let options = Options {
        connect_timeout: config.timeouts.connect,
        tls_timeout: config.timeouts.tls,
        extra_roots: extra_roots(rpc.ca_file.as_deref())?,
        identity: identity.map_err(|error| error.to_string())?,
        resolver: resolver.clone(),
        ..Options::default()
    };
    let dialers = rpc.endpoints.iter().map(|url| {
        let endpoint: Endpoint = url.parse().map_err(|error: client::InvalidUrl| error.to_string())?;
        Dialer::new(endpoint.protocol(Protocol::Http2), options.clone()).map_err(|error| error.to_string())
    });
    let dialers = dialers.collect::<Result<Vec<_>, String>>()?;
    let grpc = grpc::Options {
        max_streams: rpc.max_streams,
        stream_window: STREAM_WINDOW,
        max_message: LARGEST_ANSWER,
        ..grpc::Options::default()
    };
    let client = match rpc.transport {
        config::RpcTransport::Grpc => {
            flumen_rpc::Client::Grpc(grpc::Client::new(dialers, Encoding::Proto, grpc))
        }
        config::RpcTransport::ThriftGrpc => {
            flumen_rpc::Client::Grpc(grpc::Client::new(dialers, Encoding::Thrift, grpc))
        }
        config::RpcTransport::TtHeader => {
            let options = ttheader::Options { max_message: LARGEST_ANSWER, ..ttheader::Options::default() };
            flumen_rpc::Client::TtHeader(ttheader::Client::spread(dialers, options))
        }
    };
    Ok(Service::new(client, rpc.clone()))
}

fn extra_roots(file: Option<&Path>) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, String> {
    file.map_or(Ok(Vec::new()), |file| tls::read_certificates(file).map_err(|error| error.to_string()))
}

fn headers_of(server: &config::OpenAi) -> Result<HeaderMap, String> {
    let mut headers = server.headers.clone();
    if let Some(key) = &server.key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| "the key cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}
