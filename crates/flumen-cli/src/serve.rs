use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, thread};

use flumen_flow::{Context, Task};
use flumen_gateway::{
    Control, Gateway, Hooks, StartError, Watch,
    config::{Config, ConfigError, LISTEN, Loaded},
    reload, reloading,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::sleep,
};
use tracing::{info, warn};
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt, reload::Handle, util::SubscriberInitExt,
};

use crate::{
    EXIT_CONFIG,
    check::{environment, file},
    fail,
};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    flumen serve\n  \
    flumen serve --config flumen.toml\n  \
    flumen serve --listen 127.0.0.1:9000\n\n\
    Signals: SIGHUP reads the configuration again; SIGTERM and SIGINT let running streams finish\n\
    (a second one ends them).")]
pub(crate) struct Arguments {
    /// The configuration file; without it, flumen.toml here if there is one, else the built-in default
    #[arg(long, short, env = "FLUMEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listens here instead of where the configuration says; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let loaded = match arguments.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    let level = log_to_stderr(&loaded.config);
    let watch = Watch::new(loaded.files.clone());
    let gateway = match Gateway::bind(loaded) {
        Ok(gateway) => gateway,
        Err(error @ StartError::Bind { .. }) => return fail(&error, 1),
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    // Whoever reads that the server listens may send it a signal.
    if let Err(error) = start_steering(arguments, gateway.control(), watch) {
        return fail(&format_args!("signals cannot be received: {error}"), 1);
    }
    greet(&gateway);
    let again = arguments.clone();
    let hooks = Hooks {
        reload: Box::new(move |control| reload(control, || again.load())),
        level: Box::new(move |wanted| {
            level.reload(EnvFilter::new(wanted.as_str())).map_err(|error| error.to_string())
        }),
    };
    match gateway.run(hooks) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

impl Arguments {
    fn load(&self) -> Result<Loaded, ConfigError> {
        // Among the variables, so that what is checked is what is listened on.
        let listen: Vec<_> = self.listen.iter().map(|address| format!("\"{address}\"")).collect();
        let listen = (!listen.is_empty()).then(|| (LISTEN.to_owned(), format!("[{}]", listen.join(", "))));
        Config::load(file(self.config.clone()).as_deref(), environment().chain(listen))
    }
}

/// Starts the server's own messages. What is returned changes how much they say.
fn log_to_stderr(config: &Config) -> Handle<EnvFilter, Registry> {
    let filter =
        EnvFilter::try_from_env("FLUMEN_LOG").unwrap_or_else(|_| EnvFilter::new(config.log.level.as_str()));
    let ansi = std::io::stderr().is_terminal();
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    handle
}

fn greet(gateway: &Gateway) {
    let config = gateway.control().config();
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    for address in gateway.addresses() {
        info!("listening on {scheme}://{address}");
    }
    if let Some(address) = gateway.admin_address() {
        info!("listening to operators on http://{address}");
    }
    let models: Vec<_> = config.models.keys().map(String::as_str).collect();
    info!(
        threads = config.server.threads,
        models = models.join(", "),
        "flumen {}",
        env!("CARGO_PKG_VERSION")
    );
}

/// Signals and changed files, on a thread of its own, for as long as the process lives. Returns when signals are
/// received.
fn start_steering(arguments: &Arguments, control: Control, watch: Watch) -> std::io::Result<()> {
    let arguments = arguments.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        }
    };
    let steering = move || runtime.block_on(steer(arguments, &control, watch, signals));
    thread::Builder::new().name("control".to_owned()).spawn(steering).map(drop)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Waits until the server is asked to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn steer(arguments: Arguments, control: &Control, watch: Watch, mut signals: Signals) {
    let asked = Arc::new(Notify::new());
    let load = move || arguments.load();
    let reloading = reloading(control.clone(), load, Arc::clone(&asked)).start(&Context::new(), watch);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => asked.notify_one(),
        }
    }
    reloading.stop();
    let patience = control.config().timeouts.drain;
    info!("draining: no new connections; running streams have {}", humantime::format_duration(patience));
    control.drain();
    tokio::select! {
        () = sleep(patience) => warn!("the drain is over; ending what still runs"),
        () = signals.stop() => warn!("asked again; ending what still runs"),
    }
    control.abort();
}
