use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, routing::get};
use flumen_wire::listen::{Gate, Listener, Shutdown};
use tokio::signal::unix::{SignalKind, signal};

use super::{Generate, Stats, answer};
use crate::{
    Services,
    generation::{DESCRIPTORS, METHOD, SERVICE, THRIFT_SERVICE},
    grpc, ttheader,
};

/// A server for a model service.
pub struct Server<G> {
    generator: Arc<G>,
    stats: Arc<Stats>,
    limits: grpc::Limits,
    further: Services,
}

impl<G: Generate> Server<G> {
    /// A server for this generator.
    pub fn new(generator: G) -> Self {
        Self {
            generator: Arc::new(generator),
            stats: Arc::default(),
            limits: grpc::Limits::default(),
            further: Services::new(),
        }
    }

    /// Other limits than the default ones.
    pub fn limits(self, limits: grpc::Limits) -> Self {
        Self { limits, ..self }
    }

    /// Serves these as well.
    pub fn with(self, further: Services) -> Self {
        Self { further, ..self }
    }

    /// What it does, for as long as it does it.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// The contract's method among services, for servers of your own.
    pub fn services(&self) -> Services {
        let handler = |generator: &Arc<G>, stats: &Arc<Stats>| {
            let (generator, stats) = (Arc::clone(generator), Arc::clone(stats));
            move |incoming| answer(Arc::clone(&generator), Arc::clone(&stats), incoming)
        };
        let own = || handler(&self.generator, &self.stats);
        self.further.clone().method(SERVICE, METHOD, own()).method(THRIFT_SERVICE, METHOD, own())
    }

    /// Serves on an address until SIGTERM or SIGINT; then lets running generations finish, until a second signal.
    ///
    /// # Errors
    /// When the address is malformed or cannot be bound.
    pub async fn serve(self, address: &str) -> io::Result<()> {
        let address: SocketAddr = address.parse().map_err(|error| {
            let hint = format!("`{address}` is not an address such as 127.0.0.1:50051: {error}");
            io::Error::new(io::ErrorKind::InvalidInput, hint)
        })?;
        let shutdown = Shutdown::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let serving = self.serve_on(Listener::bind(address, false)?, shutdown.clone());
        let signals = async move {
            for step in [Shutdown::drain, Shutdown::abort] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                step(&shutdown);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serving => served,
            () = signals => Ok(()),
        }
    }

    /// Serves on a listener until the shutdown is over.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve_on(self, listener: Listener, shutdown: Shutdown) -> io::Result<()> {
        let (services, stats) = (self.services(), Arc::clone(&self.stats));
        let router = grpc::router(services.clone(), self.limits, shutdown.clone())
            .merge(grpc::companions(DESCRIPTORS, &[SERVICE], &shutdown).await?)
            .merge(Router::new().route("/metrics", get(move || std::future::ready(stats.text()))));
        let besides = ttheader::Limits { message: self.limits.max_message, ..ttheader::Limits::default() };
        let listener = listener.besides(ttheader::beside(services, besides, shutdown.clone()));
        let limits = Arc::new(grpc::listener_limits());
        listener.serve(router, limits, Arc::new(Gate::default()), None, shutdown).await
    }
}
