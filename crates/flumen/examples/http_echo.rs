//! Answers with what it is sent, while it is sent: `cargo run -p flumen --example http_echo`, then
//! `curl -T- -N http://127.0.0.1:3000` and type.

use flumen::{Router, axum::body::Body, serve};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".into());
    serve(&address, Router::new().fallback(|body: Body| async { body })).await
}
