//! Fetches several URLs, eight at a time, and sums them up:
//! `cargo run -p flumen --example parallel_wget -- http://127.0.0.1:8080/ http://127.0.0.1:8080/healthz`.

use flumen::{
    flow::{Context, Error, Result, Task, each, task},
    task::http::Http,
};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<()> {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    let http = Http::default();
    let fetch = task(move |_, url: String| {
        let http = http.clone();
        async move {
            let (started, outcome) = (Instant::now(), async {
                let response = http.get(&url).await?;
                Ok::<_, Error>((response.status, response.bytes(64 << 20).await?.len()))
            });
            let outcome = outcome.await;
            Ok((url, outcome, started.elapsed()))
        }
    });
    let (mut total, mut failed) = (0, 0);
    for (url, outcome, took) in each::<_, Vec<_>>(fetch).width(8).run(&Context::new(), urls).await? {
        match outcome {
            Ok((status, bytes)) => {
                total += bytes;
                println!("{status:<24} {bytes:>10} bytes {took:>10.1?}  {url}");
            }
            Err(error) => {
                failed += 1;
                println!("{:<24} {:>16} {took:>10.1?}  {url}: {error}", "failed", "");
            }
        }
    }
    println!("{total} bytes in all, {failed} failed");
    Ok(())
}
