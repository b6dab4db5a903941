//! The configuration: TOML, checked into types before any port is bound.
//!
//! Every fault of a file is reported at once, with its line, its key and a hint. [`EXAMPLE`] explains every key.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use flumen_wire::transport::Coding;
use http::HeaderMap;

mod admin;
mod auth;
mod check;
mod embedded;
mod fault;
mod limits;
mod load;
mod pool;
mod rpc;
mod secret;
mod section;
mod shown;
mod size;

pub use admin::Admin;
pub use auth::{Auth, Issuer, Jwks, Key, KeyHash, Priority, Signature, Tenant, Tokens, may_be_key};
pub(crate) use check::{is_origin, may_be_named};
pub use fault::{ConfigError, Fault};
pub use limits::{Limits, Shape};
pub use load::LISTEN;
pub use pool::{Adaptive, AdaptiveKind, Balance, Continuation, Health, Pool, Priorities, Queue};
pub use rpc::{Rpc, RpcRequest, RpcTransport};
pub use secret::Secret;

/// A file that explains every key and shows its default.
pub const EXAMPLE: &str = include_str!("../flumen.example.toml");

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Addresses and limits towards clients.
    pub server: Server,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What one stream may hold.
    pub stream: Stream,
    /// Streams that outlive their connections.
    pub resume: Resume,
    /// Which web pages may use the gateway.
    pub cors: Cors,
    /// What is logged.
    pub log: Log,
    /// The name servers that are asked for the addresses of upstreams. Default: those that the machine names.
    pub dns: Vec<SocketAddr>,
    /// When an upstream counts as broken.
    pub health: Health,
    /// The listener for operators.
    pub admin: Admin,
    /// How callers prove who they are.
    pub auth: Auth,
    /// Tenants by name; a name that ends with `*` is a pattern for those that are not named.
    pub tenants: BTreeMap<String, Tenant>,
    /// Keys by their names, those of [`Auth::keys_file`] included.
    pub keys: BTreeMap<String, Key>,
    /// What all together may use.
    pub limits: Limits,
    /// Upstreams by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Pools by name. An upstream that a model names is a pool of its own, by the same name.
    pub pools: BTreeMap<String, Pool>,
    /// Models by the name that clients ask for; a name that ends with `*` is a pattern.
    pub models: BTreeMap<String, Model>,
    /// Further names of models.
    pub aliases: BTreeMap<String, String>,
}

/// Addresses and limits towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where to listen. Default `127.0.0.1:8080`.
    pub listen: Vec<SocketAddr>,
    /// Cores to use, each with a runtime of its own. Default: all.
    pub threads: usize,
    /// Certificate and key; without them the server speaks plain HTTP.
    pub tls: Option<ServerTls>,
    /// Open connections in all. Default 20,000.
    pub max_connections: usize,
    /// Open connections of one address. Default 2,000.
    pub max_connections_per_address: usize,
    /// Whether the playground page is served at `/`. Default true.
    pub playground: bool,
    /// Largest request head in bytes. Default 16 KiB.
    pub max_header_size: usize,
    /// Largest request body in bytes. Default 10 MiB.
    pub max_body_size: usize,
    /// Concurrent streams of one HTTP/2 connection. Default 256.
    pub http2_max_streams: u32,
    /// Streams that one HTTP/2 connection may abandon within a minute. Default 100.
    pub http2_max_resets: usize,
}

/// Certificate and key of the server, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Connecting to an upstream, name resolution included. Default 5 s.
    pub connect: Duration,
    /// A TLS handshake, on either side. Default 5 s.
    pub tls: Duration,
    /// A client's request head. Default 10 s.
    pub request_header: Duration,
    /// A client's request body. Default 30 s.
    pub request_body: Duration,
    /// From the request to the first token. Default 60 s.
    pub first_token: Duration,
    /// Between two tokens. Default 30 s.
    pub idle: Duration,
    /// From the request to the end of the answer. Default 10 min.
    pub total: Duration,
    /// How long a client may take nothing while something waits for it. Default 60 s.
    pub client_stall: Duration,
    /// How long a client's connection may stay without a request. Default 75 s.
    pub keep_alive: Duration,
    /// How long running streams may go on when the server stops. Default 30 s.
    pub drain: Duration,
}

/// What one stream may hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Bytes between upstream and client. Default 64 KiB.
    pub buffer: usize,
    /// Share of the buffer at which the upstream is paused. Default 0.8.
    pub high: f64,
    /// Share of the buffer at which it goes on. Default 0.5.
    pub low: f64,
    /// Largest event accepted, in bytes. Default 1 MiB.
    pub max_event: usize,
    /// Silence after which a comment keeps the client's connection alive. Default 15 s.
    pub heartbeat: Duration,
    /// Codings that streams may be compressed in, for clients that accept one. Default none.
    pub compression: Vec<Coding>,
}

/// Streams that outlive their connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Whether every stream is resumable, not only those whose clients ask for it. Default false.
    pub enabled: bool,
    /// How long generation goes on while nobody reads. Default 30 s.
    pub grace: Duration,
    /// How long a finished stream stays readable. Default 10 min.
    pub retention: Duration,
    /// Bytes kept of one stream, in compact form. Default 1 MiB.
    pub stream_size: usize,
    /// Bytes kept of all streams. Default 256 MiB.
    pub budget: usize,
    /// Whether the model waits for readers. Default coupled.
    pub backpressure: Backpressure,
    /// Where streams are kept.
    pub store: StoreKind,
}

/// Whether a resumable stream's model waits for its readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// It waits for the fastest one.
    #[default]
    Coupled,
    /// It never waits, as long as there is room.
    Detached,
}

impl Backpressure {
    const NAMES: &[(&str, Self)] = &[("coupled", Self::Coupled), ("detached", Self::Detached)];
}

/// Where resumable streams are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// In the memory of the process.
    #[default]
    Memory,
    /// In a folder, so that they survive the process.
    Disk {
        /// The folder.
        folder: PathBuf,
        /// Whether readers wait until the disk has an event, not only the system.
        flush: bool,
    },
}

/// Which web pages of other origins may use the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Their origins, such as `https://chat.example.com`; `*` is any. Default none.
    pub origins: Vec<String>,
    /// Whether they may send cookies and the like. Default false.
    pub credentials: bool,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The server's own messages, on standard error. Default `info`.
    pub level: Level,
    /// The access log, on standard output. Default `auto`.
    pub access: AccessFormat,
}

/// How much the server says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the usual five")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    const NAMES: &[(&str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The level of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
    }

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, level)| *level == self).map_or("info", |(name, _)| name)
    }
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// None.
    Off,
}

impl AccessFormat {
    const NAMES: &[(&str, Self)] =
        &[("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text), ("off", Self::Off)];
}

/// Something that generates.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// What it is.
    pub kind: UpstreamKind,
    /// Overrides [`Timeouts::first_token`].
    pub first_token: Option<Duration>,
    /// Overrides [`Timeouts::idle`].
    pub idle: Option<Duration>,
    /// Overrides [`Timeouts::total`].
    pub total: Option<Duration>,
    /// Answers that it may give at once. Default: as many as the pool.
    pub concurrency: Option<usize>,
    /// How it is asked to go on with an answer that has begun. Default: it cannot.
    pub continuation: Option<Continuation>,
}

/// The kinds of upstreams.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamKind {
    /// `kind = "openai"`: a server that speaks the OpenAI API.
    OpenAi(OpenAi),
    /// `kind = "grpc"`, `"thrift-grpc"` or `"ttheader"`: a model service behind RPC.
    Rpc(Rpc),
    /// `kind = "sim"`: the built-in simulator.
    Sim(Sim),
}

/// A server that speaks the OpenAI API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAi {
    /// The API's base, usually ending with `/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …`.
    pub key: Option<Secret>,
    /// Sent with every request.
    pub headers: HeaderMap,
    /// The HTTP version.
    pub protocol: Protocol,
    /// Certificates to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// The path on the server that is asked, again and again, whether it is well. Default: none.
    pub health_path: Option<String>,
}

/// The HTTP version spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    const NAMES: &[(&str, Self)] = &[("http1", Self::Http1), ("http2", Self::Http2)];
}

/// Settings of the built-in simulator.
#[derive(Clone, Debug, PartialEq)]
pub struct Sim {
    /// Tokens per second of one answer; 0 means as fast as possible. Default 50.
    pub tokens_per_second: f64,
    /// Share of the interval by which gaps vary, 0 to 1. Default 0.2.
    pub jitter: f64,
    /// Time to the first token. Default 200 ms.
    pub first_token: Duration,
    /// Tokens of an answer. Default: plausible lengths.
    pub tokens: Option<u32>,
    /// Tokens per event. Default 1.
    pub chunk: u32,
    /// Seed of all texts. Default 0.
    pub seed: u64,
}

/// Where a model's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name of a pool.
    pub pool: String,
    /// What the upstream calls the model, if otherwise than clients do.
    pub name: Option<String>,
    /// Whether its streams are resumable; overrides [`Resume::enabled`].
    pub resume: Option<bool>,
    /// What all together may use of it.
    pub limits: Limits,
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every file that was read, or is read when it is put in force: to be watched.
    pub files: Vec<PathBuf>,
    /// Every key as it was given, or its default; without secrets.
    pub shown: serde_json::Value,
}

impl Config {
    /// Where a model's requests go, with the key that matched: the exact name or alias, else the longest pattern.
    pub fn route(&self, model: &str) -> Option<(&str, &Model)> {
        let model = self.aliases.get(model).map_or(model, String::as_str);
        if let Some((name, route)) = self.models.get_key_value(model) {
            return Some((name, route));
        }
        let patterns = self
            .models
            .iter()
            .filter(|(name, _)| name.strip_suffix('*').is_some_and(|prefix| model.starts_with(prefix)));
        patterns.max_by_key(|(name, _)| name.len()).map(|(name, route)| (name.as_str(), route))
    }
}

#[cfg(test)]
mod tests;
