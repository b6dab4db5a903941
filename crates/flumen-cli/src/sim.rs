use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use flumen_sim::{Settings, Simulator};
use flumen_wire::listen::{Gate, Limits, Listener, Shutdown};
use tokio::signal::unix::{SignalKind, signal};

use crate::fail;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    flumen sim\n  \
    flumen sim --listen 127.0.0.1:9000 --tokens-per-second 0\n  \
    curl -N http://127.0.0.1:8081/v1/chat/completions -H 'content-type: application/json' \\\n    \
    -d '{\"model\":\"sim:tps=20,fault=stall@30\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'\n\n\
    The model name carries settings for one request after a colon, or the header flumen-sim:\n  \
    tps, interval, ttft, tokens, chunk, seed, jitter, size, lang, header, echo, split, stamp, fault\n  \
    (stall@N, cut@N, end@N, error@N, garbage@N, unterminated@N, status:CODE)\n\n\
    What it does: a page at /sim, JSON at /sim/stats and /sim/aborts")]
pub(crate) struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Tokens per second of one answer; 0 means as fast as possible
    #[arg(long, default_value_t = 50.0, value_name = "RATE")]
    tokens_per_second: f64,
    /// Share of the interval by which gaps vary, 0 to 1
    #[arg(long, default_value_t = 0.2, value_name = "SHARE")]
    jitter: f64,
    /// Time to the first token
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    first_token: Duration,
    /// Tokens of an answer; plausible lengths if not given
    #[arg(long, value_name = "COUNT")]
    tokens: Option<u32>,
    /// Tokens per event
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    chunk: u32,
    /// Seed of all texts
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let settings = Settings {
        tokens_per_second: arguments.tokens_per_second.max(0.0),
        jitter: arguments.jitter.clamp(0.0, 1.0),
        first_token: arguments.first_token,
        tokens: arguments.tokens,
        chunk: arguments.chunk.max(1),
        seed: arguments.seed,
        ..Settings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(arguments.listen, settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("cannot serve on {}: {error}", arguments.listen), 1),
    }
}

async fn serve(address: SocketAddr, settings: Settings) -> std::io::Result<()> {
    let listener = Listener::bind(address, false)?;
    eprintln!("simulator listening on http://{}/v1", listener.local_addr()?);
    let shutdown = Shutdown::new();
    let router = Simulator::new(settings).router();
    // A test tool on purpose allows more than a server would.
    let limits = Limits { connections: 100_000, connections_per_address: 100_000, ..Limits::default() };
    let serving = listener.serve(router, Arc::new(limits), Arc::new(Gate::default()), None, shutdown.clone());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        served = serving => served,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
