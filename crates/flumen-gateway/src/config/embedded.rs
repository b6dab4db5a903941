//! What applies when there is no file.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    AccessFormat, Admin, Auth, Backpressure, Config, Continuation, Cors, Health, Level, Limits, Log, Model,
    Pool, Resume, Server, Sim, StoreKind, Stream, Timeouts, Upstream, UpstreamKind,
};

impl Config {
    /// The configuration that applies when there is no file: the simulator behind `127.0.0.1:8080`.
    pub fn embedded() -> Self {
        let model = |name: &str| {
            let limits = Limits::default();
            (name.to_owned(), Model { pool: "sim".to_owned(), name: None, resume: None, limits })
        };
        let sim = Sim {
            tokens_per_second: 50.0,
            jitter: 0.2,
            first_token: Duration::from_millis(200),
            tokens: None,
            chunk: 1,
            seed: 0,
        };
        let sim = Upstream {
            kind: UpstreamKind::Sim(sim),
            first_token: None,
            idle: None,
            total: None,
            concurrency: None,
            continuation: Some(Continuation::FinalMessage),
        };
        Self {
            server: Server {
                listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
                threads: std::thread::available_parallelism().map_or(1, usize::from).min(1024),
                tls: None,
                max_connections: 20_000,
                max_connections_per_address: 2_000,
                playground: true,
                max_header_size: 16 << 10,
                max_body_size: 10 << 20,
                http2_max_streams: 256,
                http2_max_resets: 100,
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                tls: Duration::from_secs(5),
                request_header: Duration::from_secs(10),
                request_body: Duration::from_secs(30),
                first_token: Duration::from_mins(1),
                idle: Duration::from_secs(30),
                total: Duration::from_mins(10),
                client_stall: Duration::from_mins(1),
                keep_alive: Duration::from_secs(75),
                drain: Duration::from_secs(30),
            },
            stream: Stream {
                buffer: 64 << 10,
                high: 0.8,
                low: 0.5,
                max_event: 1 << 20,
                heartbeat: Duration::from_secs(15),
                compression: Vec::new(),
            },
            resume: Resume {
                enabled: false,
                grace: Duration::from_secs(30),
                retention: Duration::from_mins(10),
                stream_size: 1 << 20,
                budget: 256 << 20,
                backpressure: Backpressure::default(),
                store: StoreKind::default(),
            },
            cors: Cors::default(),
            log: Log { level: Level::default(), access: AccessFormat::default() },
            dns: Vec::new(),
            health: Health::default(),
            admin: Admin::default(),
            auth: Auth::default(),
            tenants: BTreeMap::new(),
            keys: BTreeMap::new(),
            limits: Limits::default(),
            upstreams: BTreeMap::from([("sim".to_owned(), sim)]),
            pools: BTreeMap::from([("sim".to_owned(), Pool::alone("sim"))]),
            models: BTreeMap::from([model("sim"), model("sim:*")]),
            aliases: BTreeMap::new(),
        }
    }
}
