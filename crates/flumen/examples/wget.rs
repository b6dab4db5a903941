//! Fetches a URL and shows what every phase took: `cargo run -p flumen --example wget -- http://127.0.0.1:8080/`.

use std::io::Write;

use flumen::{flow::Result, futures_util::StreamExt, task::http::Http};

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8080/".into());
    let mut response = Http::default().get(&url).await?;
    eprintln!("{} {}", response.status, response.url);
    for (name, value) in &response.headers {
        eprintln!("{name}: {}", value.to_str().unwrap_or("…"));
    }
    let mut out = std::io::stdout();
    while let Some(piece) = response.next().await {
        out.write_all(&piece?)?;
    }
    let timings = response.timings();
    let [connect, header] = [timings.connect, timings.header].map(Option::unwrap_or_default);
    eprintln!("\nconnected in {connect:.1?}, answered after {header:.1?}");
    Ok(())
}
