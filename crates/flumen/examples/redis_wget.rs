//! Fetches a URL into Redis and reads it back from there:
//! `cargo run -p flumen --example redis_wget -- redis://127.0.0.1 http://127.0.0.1:8080/`.

use flumen::{
    flow::{Backoff, Context, Result, Task, task},
    task::{
        http::{Http, Options},
        redis::{Redis, cmd},
    },
};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let redis = Redis::open(&arguments.next().unwrap_or("redis://127.0.0.1".into()))?;
    let url = arguments.next().unwrap_or("http://127.0.0.1:8080/".into());
    let http = Http::new(Options { retry: Backoff::attempts(3), ..Options::default() });

    let fetch = task(move |_, url: String| {
        let http = http.clone();
        async move { Ok((url.clone(), http.get(&url).await?.ok()?.bytes(1 << 20).await?)) }
    });
    let cache = redis.clone();
    let store = task(move |_, (url, body): (String, flumen::Bytes)| {
        let redis = cache.clone();
        async move {
            redis.command::<()>(cmd("SET").arg(&url).arg(&body[..]).arg("EX").arg(60)).await?;
            Ok(url)
        }
    });
    let load = task(move |_, url: String| {
        let redis = redis.clone();
        async move { redis.command::<Vec<u8>>(cmd("GET").arg(&url)).await }
    });
    let flow = fetch.named("fetch").chain(store.named("store")).chain(load.named("load"));
    let body = flow.run(&Context::new(), url).await?;
    println!("{} bytes went through Redis", body.len());
    Ok(())
}
