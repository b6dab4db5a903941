//! A graph: the time and two pages, fetched at the same time, joined when all are there. Brings its own server:
//! `cargo run -p flumen --example graph`.

use std::time::{Duration, SystemTime};

use flumen::{
    Router,
    axum::extract::Path,
    flow::{Context, GraphBuilder, Result, Task},
    get, serve,
    task::http::Http,
    wire::listen::Listener,
};

#[tokio::main]
async fn main() -> Result<()> {
    let listener = Listener::bind("127.0.0.1:0".parse()?, false)?;
    let base = format!("http://{}", listener.local_addr()?);
    let page = |Path(name): Path<String>| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        format!("the {name} bank")
    };
    tokio::spawn(serve::serve_on(listener, Router::new().route("/{name}", get(page))));

    let http = Http::default();
    let fetch = move |name: &'static str| {
        let (http, base) = (http.clone(), base.clone());
        move |_: Context, _: SystemTime| {
            let (http, url) = (http.clone(), format!("{base}/{name}"));
            async move { http.get(&url).await?.ok()?.text().await }
        }
    };
    let mut graph = GraphBuilder::<()>::new();
    let time = graph.node("time", (), |_, ()| async { Ok(SystemTime::now()) });
    let left = graph.node("left", time, fetch("left"));
    let right = graph.node("right", time, fetch("right"));
    let join = graph.node("join", (time, left, right), |_, (time, left, right)| async move {
        Ok(format!("{left}, {right}, {} ms after they were asked for", time.elapsed()?.as_millis()))
    });
    let graph = graph.build(join)?;
    println!("{}", graph.sketch().mermaid());
    let run = graph.start(&Context::new(), ());
    let handle = run.handle();
    println!("{}\n\n{}", run.await?, handle.tree());
    Ok(())
}
