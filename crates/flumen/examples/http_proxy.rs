//! A proxy that streams both ways: `cargo run -p flumen --example http_proxy -- 127.0.0.1:3128`, then
//! `curl -x http://127.0.0.1:3128 http://127.0.0.1:8080/`. With a second argument `host:port` everything goes there.

use flumen::{Router, proxy::Proxy, serve};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3128".into());
    let proxy = arguments.next().map_or_else(Proxy::forward, Proxy::to);
    let passing = proxy.clone();
    serve(&address, Router::new().fallback(move |request| passing.clone().handle(request))).await?;
    println!("{}", proxy.passed());
    Ok(())
}
