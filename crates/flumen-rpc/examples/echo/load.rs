//! Calls that are always one message ahead of their answers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen_rpc::{Call, Client, Encoding, Exchange, Status, grpc, ttheader};
use flumen_wire::client::{Dialer, Endpoint, Options, Protocol};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::message::Message;

/// What is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) async fn load(
    kind: &str,
    address: &str,
    concurrency: u32,
    seconds: u32,
    size: u32,
) -> io::Result<()> {
    let client = client(kind, address)?;
    let payload = bytes::Bytes::from(vec![b'x'; size as usize]);
    let (counting, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut calls = JoinSet::new();
    for _ in 0..concurrency {
        let call = Calling {
            client: client.clone(),
            message: Message { seq: 1, payload: payload.clone() },
            counting: Arc::clone(&counting),
            over: Arc::clone(&over),
        };
        calls.spawn(call.run());
    }
    sleep(WARM_UP).await;
    let (since, cpu) = (Instant::now(), cpu_seconds());
    counting.store(true, Relaxed);
    sleep(Duration::from_secs(seconds.into())).await;
    let (took, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    over.store(true, Relaxed);
    let (mut all, mut errors) = (Histogram::<u64>::new(3).map_err(io::Error::other)?, 0);
    for outcome in calls.join_all().await {
        match outcome {
            Ok(histogram) => all.add(histogram).map_err(io::Error::other)?,
            Err(error) => {
                errors += 1;
                eprintln!("{error}");
            }
        }
    }
    let count = all.len();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let per_second = count as f64 / took;
    println!(
        "{}",
        serde_json::json!({"messages": count, "seconds": took, "per_second": per_second,
            "p50_us": all.value_at_quantile(0.5), "p99_us": all.value_at_quantile(0.99),
            "errors": errors, "cpu_seconds": cpu})
    );
    Ok(())
}

fn client(kind: &str, address: &str) -> io::Result<Client> {
    let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
    let endpoint: Endpoint =
        format!("http://{address}").parse().map_err(|error| invalid(format!("{error}")))?;
    let dialer =
        Dialer::new(endpoint.protocol(Protocol::Http2), Options::default()).map_err(io::Error::other)?;
    let options = grpc::Options::default();
    Ok(match kind {
        "grpc" => Client::Grpc(grpc::Client::new(vec![dialer], Encoding::Proto, options)),
        "thrift-grpc" => Client::Grpc(grpc::Client::new(vec![dialer], Encoding::Thrift, options)),
        "ttheader" => Client::TtHeader(ttheader::Client::new(dialer, ttheader::Options::default())),
        other => return Err(invalid(format!("there is no kind `{other}`"))),
    })
}

struct Calling {
    client: Client,
    message: Message,
    counting: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Calling {
    async fn run(self) -> Result<Histogram<u64>, Status> {
        let encoding = self.client.encoding();
        let lost = |error: &dyn std::fmt::Display| Status::protocol(error.to_string());
        let mut histogram = Histogram::<u64>::new(3).map_err(|error| lost(&error))?;
        let Exchange { mut outbound, mut inbound } =
            self.client.stream(&Call::new("echo.Echo", "Bidi")).await?;
        while !self.over.load(Relaxed) {
            let sent = Instant::now();
            outbound.send(self.message.encode(encoding)).await?;
            let answer = inbound.next().await.ok_or_else(|| lost(&"the call ended"))??;
            let answer = Message::decode(answer, encoding)?;
            if answer.payload.len() != self.message.payload.len() {
                return Err(lost(&"another message came back"));
            }
            if self.counting.load(Relaxed) {
                let took = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                // Unlike a saturating one, this makes room for what takes longer than anything before.
                histogram.record(took).map_err(|error| lost(&error))?;
            }
        }
        outbound.close().await?;
        Ok(histogram)
    }
}

/// What this process has used so far, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |field: usize| after.split(' ').nth(field).and_then(|ticks| ticks.parse::<f64>().ok());
    // Fields 14 and 15 of the line, in ticks of 10 ms.
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / 100.0
}
