//! A model service for measurements: it writes tokens of a size at a pace, over every protocol. The model's name says how:
//! `count=100,size=64,interval_us=0`; `count=endless` does not end.
//! `cargo run --release -p flumen-rpc --example generate -- 127.0.0.1:50051`

use std::{env, io, time::Duration};

use flumen_rpc::{
    Code, Status,
    generation::Usage,
    service::{Generate, Request, Server, Writer},
};
use flumen_wire::listen::{Listener, Shutdown};
use tokio::time::{Instant, sleep_until};

struct Tokens;

/// What a model's name says.
struct Plan {
    count: u64,
    size: usize,
    interval: Duration,
}

impl Plan {
    fn of(model: &str) -> Option<Self> {
        let mut plan = Self { count: 100, size: 64, interval: Duration::ZERO };
        for part in model.split(',') {
            match part.split_once('=')? {
                ("count", "endless") => plan.count = u64::MAX,
                ("count", count) => plan.count = count.parse().ok()?,
                ("size", size) => plan.size = size.parse().ok()?,
                ("interval_us", interval) => plan.interval = Duration::from_micros(interval.parse().ok()?),
                _ => return None,
            }
        }
        Some(plan)
    }
}

impl Generate for Tokens {
    async fn generate(&self, request: Request, mut writer: Writer) -> Result<(), Status> {
        let unknown =
            || Status::new(Code::NotFound, "the model's name must be like count=100,size=64,interval_us=0");
        let plan = Plan::of(request.model()).ok_or_else(unknown)?;
        let (token, mut due) = ("x".repeat(plan.size), Instant::now());
        for _ in 0..plan.count {
            writer.text(&*token).await?;
            if !plan.interval.is_zero() {
                due = (due + plan.interval).max(Instant::now());
                sleep_until(due).await;
            }
        }
        writer.usage(Usage { prompt_tokens: 1, completion_tokens: plan.count }).await?;
        writer.finish("stop").await
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address =
        address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{error}")))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = Listener::bind(address, false)?;
        println!("{{\"listening\":\"{}\"}}", listener.local_addr()?);
        Server::new(Tokens).serve_on(listener, Shutdown::new()).await
    })
}
