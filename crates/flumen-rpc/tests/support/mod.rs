//! One contract, `interop/kitex/echo.thrift` and `echo.proto`, as types, as services and as calls.

#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub, reason = "shared by several tests")]

pub mod echo;
pub mod scenarios;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use flumen_rpc::{Client, Encoding, Services, grpc};
use flumen_wire::{
    client::{Dialer, Endpoint, Options, Protocol},
    listen::{Gate, Listener, Shutdown},
};
use tokio::{sync::Notify, time::timeout};

pub use echo::{Message, Plan, Summary, Wire};

/// A call that ended at a server of ours.
#[derive(Clone, Debug)]
pub struct Ended {
    pub method: &'static str,
    pub received: i64,
    pub sent: i64,
    /// Why it was cancelled, if it was.
    pub reason: Option<flumen_rpc::Cancel>,
    pub call: flumen_rpc::Call,
}

/// The calls that ended, in their order.
#[derive(Clone, Default)]
pub struct Ends {
    calls: Arc<Mutex<Vec<Ended>>>,
    changed: Arc<Notify>,
}

impl Ends {
    pub fn push(&self, ended: Ended) {
        self.calls.lock().unwrap().push(ended);
        self.changed.notify_waiters();
    }

    pub fn len(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// Waits for the next call of a method that ends, and takes it.
    pub async fn of(&self, method: &str) -> Ended {
        within(async {
            loop {
                let changed = self.changed.notified();
                let found = {
                    let mut calls = self.calls.lock().unwrap();
                    let at = calls.iter().position(|ended| ended.method == method);
                    at.map(|at| calls.remove(at))
                };
                match found {
                    Some(ended) => return ended,
                    None => changed.await,
                }
            }
        })
        .await
    }
}

/// A server of ours on a port of its own.
pub struct Server {
    pub address: SocketAddr,
    pub ends: Ends,
    pub shutdown: Shutdown,
    pub serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Serves the contract, over every protocol.
    pub fn start() -> Self {
        let ends = Ends::default();
        Self::serve(echo::services(&ends), ends, grpc::Limits::default())
    }

    pub fn serve(services: Services, ends: Ends, limits: grpc::Limits) -> Self {
        Self::serve_at("127.0.0.1:0".parse().unwrap(), services, ends, limits)
    }

    /// The same at an address that another one has left.
    pub fn at(address: SocketAddr) -> Self {
        let ends = Ends::default();
        Self::serve_at(address, echo::services(&ends), ends, grpc::Limits::default())
    }

    fn serve_at(address: SocketAddr, services: Services, ends: Ends, limits: grpc::Limits) -> Self {
        let shutdown = Shutdown::new();
        let listener = Listener::bind(address, false).unwrap();
        let address = listener.local_addr().unwrap();
        let router = grpc::router(services.clone(), limits, shutdown.clone());
        let beside =
            flumen_rpc::ttheader::beside(services, flumen_rpc::ttheader::Limits::default(), shutdown.clone());
        let wide = grpc::listener_limits();
        let serving = listener.besides(beside).serve(
            router,
            Arc::new(wide),
            Arc::new(Gate::default()),
            None,
            shutdown.clone(),
        );
        let serving = tokio::spawn(serving);
        Self { address, ends, shutdown, serving }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.abort();
    }
}

/// What carries a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    ProtoGrpc,
    ThriftGrpc,
    TtHeader,
}

impl Carrier {
    pub const ALL: [Self; 3] = [Self::ProtoGrpc, Self::ThriftGrpc, Self::TtHeader];

    pub fn client(self, address: SocketAddr) -> Client {
        self.client_with(address, grpc::Options::default())
    }

    pub fn client_with(self, address: SocketAddr, options: grpc::Options) -> Client {
        let dialer = dialer(address);
        match self {
            Self::ProtoGrpc => Client::Grpc(grpc::Client::new(vec![dialer], Encoding::Proto, options)),
            Self::ThriftGrpc => Client::Grpc(grpc::Client::new(vec![dialer], Encoding::Thrift, options)),
            Self::TtHeader => Client::TtHeader(flumen_rpc::ttheader::Client::new(
                dialer,
                flumen_rpc::ttheader::Options::default(),
            )),
        }
    }
}

pub fn dialer(address: SocketAddr) -> Dialer {
    let endpoint: Endpoint = format!("http://{address}").parse().unwrap();
    Dialer::new(endpoint.protocol(Protocol::Http2), Options::default()).unwrap()
}

/// Nothing in a test takes longer.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("it takes too long")
}
