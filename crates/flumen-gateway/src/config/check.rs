//! From a table to types.

use std::{collections::BTreeMap, fs, path::PathBuf};

use flumen_wire::client::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use toml::Table;

use super::{
    AccessFormat, Config, Continuation, Fault, Level, Log, OpenAi, Protocol, RpcTransport, Secret, Server,
    ServerTls, Sim, Stream, Timeouts, Upstream, UpstreamKind,
    load::relative,
    section::{KeyFault, Section},
};

mod admin;
mod auth;
mod limits;
mod pools;
mod rpc;
mod streams;

pub(crate) use auth::may_be_named;
use limits::limits;
use pools::{continuation, health, model, pool};
pub(crate) use streams::is_origin;
use streams::{compression, cors, resume};

/// Where relative paths start, what the environment holds, which files were read, and what is wrong in
/// those.
pub(super) struct Context {
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(String, String)>,
    pub(super) files: Vec<PathBuf>,
    pub(super) located: Vec<Fault>,
}

/// Reads everything and reports every fault. Where there is a fault, a default stands in.
pub(super) fn check(table: &Table, context: &mut Context, faults: &mut Vec<KeyFault>) -> Config {
    let default = Config::embedded();
    let mut root = Section::new(Vec::new(), Some(table), faults);
    let server = server(root.section("server"), &default.server, context);
    let timeouts = timeouts(root.section("timeouts"), &default.timeouts);
    let stream = stream(root.section("stream"), &default.stream);
    let resume = resume(root.section("resume"), &default.resume, context);
    let cors = cors(root.section("cors"));
    let log = log(root.section("log"));
    let admin = admin::admin(root.section("admin"), context);
    let auth = auth::auth(root.section("auth"), context);
    let tenants = auth::tenants(&mut root);
    let keys = auth::keys(&mut root, &auth, context);
    auth::exposure(&mut root, &auth, &keys, &server.listen);
    let limits = limits(&mut root);
    let mut upstreams = BTreeMap::new();
    let own_upstreams = root.map("upstreams", |name, section| {
        upstreams.insert(name.to_owned(), upstream(section, context));
    });
    let upstreams = if own_upstreams { upstreams } else { default.upstreams };
    let dns = pools::dns(root.section("dns"));
    let health = health(root.section("health"), &default.health);
    let mut pools = BTreeMap::new();
    root.map("pools", |name, mut section| {
        if upstreams.contains_key(name) {
            section.fault(
                "upstreams",
                "an upstream has the same name",
                Some("give the pool another".to_owned()),
            );
        }
        pools.insert(name.to_owned(), pool(section, &upstreams));
    });
    let (mut models, mut aliases) = (BTreeMap::new(), Vec::new());
    let own_models = root.map("models", |name, section| {
        if let Some((model, others)) = model(name, section, &upstreams, &mut pools) {
            aliases.extend(others.into_iter().map(|alias| (alias, name.to_owned())));
            models.insert(name.to_owned(), model);
        }
    });
    let mut names = BTreeMap::new();
    for (alias, name) in aliases {
        if alias.is_empty() || models.contains_key(&alias) || names.insert(alias.clone(), name).is_some() {
            root.fault(
                "models",
                format_args!("the alias `{alias}` is the name or alias of another model"),
                None,
            );
        }
    }
    let (models, pools) = if own_models { (models, pools) } else { (default.models, default.pools) };
    if own_upstreams && !own_models {
        let name = upstreams.keys().next().map_or("NAME", String::as_str);
        root.fault(
            "models",
            "upstreams are configured, but no model leads to them",
            Some(format!("for example: [models.\"*\"] with upstream = \"{name}\"")),
        );
    }
    root.finish();
    Config {
        server,
        timeouts,
        stream,
        resume,
        cors,
        log,
        admin,
        auth,
        tenants,
        keys,
        limits,
        dns,
        health,
        upstreams,
        pools,
        models,
        aliases: names,
    }
}

fn server(mut section: Section<'_>, default: &Server, context: &mut Context) -> Server {
    let mut listen = Vec::new();
    for address in section.strings("listen").unwrap_or_default() {
        match address.parse() {
            Ok(address) => listen.push(address),
            Err(_) => section.fault(
                "listen",
                format_args!("`{address}` is not an address with a port"),
                Some("for example 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080".to_owned()),
            ),
        }
    }
    if listen.is_empty() {
        listen.clone_from(&default.listen);
    }
    let threads =
        section.integer("threads", 0..=1024).filter(|threads| *threads > 0).unwrap_or(default.threads);
    let limit = 1..=10_000_000;
    let server = Server {
        listen,
        threads,
        tls: server_tls(section.section("tls"), context),
        max_connections: section.integer("max_connections", limit.clone()).unwrap_or(default.max_connections),
        max_connections_per_address: section
            .integer("max_connections_per_address", limit)
            .unwrap_or(default.max_connections_per_address),
        playground: section.boolean("playground").unwrap_or(default.playground),
        max_header_size: section.size("max_header_size", 8 << 10..=1 << 20, default.max_header_size),
        max_body_size: section.size("max_body_size", 1..=1 << 30, default.max_body_size),
        http2_max_streams: section
            .integer("http2_max_streams", 1..=10_000)
            .unwrap_or(default.http2_max_streams),
        http2_max_resets: section
            .integer("http2_max_resets", 1..=1_000_000)
            .unwrap_or(default.http2_max_resets),
    };
    section.finish();
    server
}

fn server_tls(mut section: Section<'_>, context: &mut Context) -> Option<ServerTls> {
    let files = (section.string("cert"), section.string("key"));
    let tls = match files {
        (Some(cert), Some(key)) => {
            Some(ServerTls { cert: relative(&context.folder, &cert), key: relative(&context.folder, &key) })
        }
        (None, None) => None,
        (cert, _) => {
            let missing = if cert.is_none() { "cert" } else { "key" };
            section.fault(missing, "TLS needs both `cert` and `key`", None);
            None
        }
    };
    section.finish();
    if let Some(tls) = &tls {
        context.files.extend([tls.cert.clone(), tls.key.clone()]);
    }
    tls
}

fn timeouts(mut section: Section<'_>, default: &Timeouts) -> Timeouts {
    let timeouts = Timeouts {
        connect: section.duration("connect").unwrap_or(default.connect),
        tls: section.duration("tls").unwrap_or(default.tls),
        request_header: section.duration("request_header").unwrap_or(default.request_header),
        request_body: section.duration("request_body").unwrap_or(default.request_body),
        first_token: section.duration("first_token").unwrap_or(default.first_token),
        idle: section.duration("idle").unwrap_or(default.idle),
        total: section.duration("total").unwrap_or(default.total),
        client_stall: section.duration("client_stall").unwrap_or(default.client_stall),
        keep_alive: section.duration("keep_alive").unwrap_or(default.keep_alive),
        drain: section.duration("drain").unwrap_or(default.drain),
    };
    section.finish();
    timeouts
}

fn stream(mut section: Section<'_>, default: &Stream) -> Stream {
    let high = section.number("high", 0.01..=1.0).unwrap_or(default.high);
    let low = section.number("low", 0.0..=0.99).unwrap_or(if default.low < high {
        default.low
    } else {
        high / 2.0
    });
    if low >= high {
        section.fault("low", format_args!("{low} is not below `high`, which is {high}"), None);
    }
    let stream = Stream {
        buffer: section.size("buffer", 4 << 10..=64 << 20, default.buffer),
        high,
        low,
        max_event: section.size("max_event", 1 << 10..=64 << 20, default.max_event),
        heartbeat: section.duration("heartbeat").unwrap_or(default.heartbeat),
        compression: compression(&mut section),
    };
    section.finish();
    stream
}

fn log(mut section: Section<'_>) -> Log {
    let log = Log {
        level: section.choice("level", Level::NAMES, Level::default()),
        access: section.choice("access", AccessFormat::NAMES, AccessFormat::default()),
    };
    section.finish();
    log
}

fn upstream(mut section: Section<'_>, context: &mut Context) -> Upstream {
    #[derive(Clone, Copy)]
    enum Kind {
        OpenAi,
        Rpc(RpcTransport),
        Sim,
    }
    let names = [
        ("openai", Kind::OpenAi),
        ("grpc", Kind::Rpc(RpcTransport::Grpc)),
        ("thrift-grpc", Kind::Rpc(RpcTransport::ThriftGrpc)),
        ("ttheader", Kind::Rpc(RpcTransport::TtHeader)),
        ("sim", Kind::Sim),
    ];
    // The simulator's own `first_token` is how long it takes, not how long one waits for it.
    let (kind, first_token) = match section.choice("kind", &names, Kind::OpenAi) {
        Kind::OpenAi => {
            (UpstreamKind::OpenAi(openai(&mut section, context)), section.duration("first_token"))
        }
        Kind::Rpc(transport) => {
            let rpc = rpc::rpc(&mut section, transport, context);
            (UpstreamKind::Rpc(rpc), section.duration("first_token"))
        }
        Kind::Sim => (UpstreamKind::Sim(sim(&mut section)), None),
    };
    // The simulator can go on with what it began.
    let own = match &kind {
        UpstreamKind::Sim(_) => Some(Continuation::FinalMessage),
        UpstreamKind::OpenAi(_) | UpstreamKind::Rpc(_) => continuation(&mut section),
    };
    let upstream = Upstream {
        kind,
        first_token,
        idle: section.duration("idle"),
        total: section.duration("total"),
        concurrency: section.integer("concurrency", 1..=10_000_000),
        continuation: own,
    };
    section.finish();
    upstream
}

fn sim(section: &mut Section<'_>) -> Sim {
    Sim {
        tokens_per_second: section.number("tokens_per_second", 0.0..=1e9).unwrap_or(50.0),
        jitter: section.number("jitter", 0.0..=1.0).unwrap_or(0.2),
        first_token: section.duration("first_token").unwrap_or(std::time::Duration::from_millis(200)),
        tokens: section.integer("tokens", 1..=100_000_000),
        chunk: section.integer("chunk", 1..=10_000).unwrap_or(1),
        seed: section.integer("seed", 0..=i64::MAX as u64).unwrap_or(0),
    }
}

fn openai(section: &mut Section<'_>, context: &mut Context) -> OpenAi {
    let base_url = section.string("base_url");
    match &base_url {
        None => section.fault(
            "base_url",
            "an upstream needs the URL of its API",
            Some("for example base_url = \"http://127.0.0.1:8000/v1\"".to_owned()),
        ),
        Some(url) => {
            if let Err(error) = url.parse::<Endpoint>() {
                section.fault("base_url", format_args!("`{url}`: {error}"), None);
            }
        }
    }
    let ca_file = section.string("ca_file").map(|file| relative(&context.folder, &file));
    if let Some(file) = &ca_file {
        if let Err(error) = flumen_wire::tls::read_certificates(file) {
            section.fault("ca_file", error, None);
        }
        context.files.push(file.clone());
    }
    let health_path = section.string("health_path");
    if health_path.as_deref().is_some_and(|path| !path.starts_with('/')) {
        section.fault("health_path", "a path starts with `/`", None);
    }
    OpenAi {
        base_url: base_url.unwrap_or_default(),
        key: header_secret(section, ["key_env", "key_file"], context),
        headers: headers(section),
        protocol: section.choice("protocol", Protocol::NAMES, Protocol::default()),
        ca_file,
        health_path,
    }
}

/// What is sent or asked for in a header and stands in a variable or a file: the names of these stand under two keys.
fn header_secret(
    section: &mut Section<'_>,
    [env, file]: [&'static str; 2],
    context: &mut Context,
) -> Option<Secret> {
    let (field, value) = match (section.string(env), section.string(file)) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            section.fault(file, format_args!("give either `{env}` or `{file}`, not both"), None);
            return None;
        }
        (Some(name), None) => {
            let found = context.variables.iter().find(|(variable, _)| *variable == name);
            (env, found.map(|(_, value)| value.clone()).ok_or(format!("the variable `{name}` is not set")))
        }
        (None, Some(name)) => {
            let path = relative(&context.folder, &name);
            context.files.push(path.clone());
            (file, fs::read_to_string(&path).map_err(|error| format!("`{name}` cannot be read: {error}")))
        }
    };
    match value.map(|value| value.trim().to_owned()) {
        Ok(value) if value.is_empty() => section.fault(field, "the key is empty", None),
        Ok(value) if HeaderValue::from_str(&value).is_err() => {
            section.fault(field, "the key has characters that cannot stand in a header", None);
        }
        Ok(value) => return Some(Secret::new(value)),
        Err(problem) => section.fault(field, problem, None),
    }
    None
}

/// Headers that the gateway writes itself.
const OWN: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];

fn headers(section: &mut Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.pairs("headers") {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value));
        match parsed {
            (Ok(header), _) if OWN.contains(&header) => {
                section.fault("headers", format_args!("`{name}` is written by the gateway itself"), None);
            }
            (Ok(header), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            _ => section.fault("headers", format_args!("`{name}` is not a valid header"), None),
        }
    }
    headers
}
