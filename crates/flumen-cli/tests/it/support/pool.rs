use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::{Answer, Client, Gateway, Upstream, event, soon};

/// A configuration whose every model goes to a pool `p` of these servers. Each comes with lines of its own.
pub(crate) fn pooled(upstreams: &[(&str, SocketAddr, &str)], pool: &str, more: &str) -> String {
    let names: Vec<_> = upstreams.iter().map(|(name, ..)| *name).collect();
    let servers: Vec<String> = upstreams
        .iter()
        .map(|(name, address, own)| {
            format!("[upstreams.{name}]\nbase_url = \"http://{address}/v1\"\n{own}\n")
        })
        .collect();
    format!(
        "{more}\n{}[models.\"*\"]\npool = \"p\"\n[pools.p]\nupstreams = {names:?}\n{pool}\n",
        servers.concat()
    )
}

/// A chat request with this prompt.
pub(crate) fn ask(model: &str, prompt: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": prompt}]})
}

/// Asks with further headers and reads the whole answer.
pub(crate) async fn post_with(address: SocketAddr, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut client = Client::connect(address).await;
    client.request("POST", "/v1/chat/completions", headers, &body.to_string()).await;
    client.answer().await
}

/// Waits until the metrics have this line.
pub(crate) async fn until_metric(gateway: &Gateway, line: &str) {
    let line = format!("\n{line}\n");
    soon(async {
        while !format!("\n{}", gateway.metrics().await).contains(&line) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

impl Upstream {
    /// Answers with its name; a request for the model `hold` gets no end before its client leaves.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |mut conn| async move {
            loop {
                conn.stream_head().await;
                conn.chunk(event(name).as_bytes()).await;
                if conn.json()["model"] == "hold" {
                    return conn.closed().await;
                }
                conn.chunk(b"data: [DONE]\n\n").await;
                conn.finish().await;
                if !conn.request().await {
                    return;
                }
            }
        })
        .await
    }
}

/// A server that says which prompt it was asked, and answers when it may: the test decides what happens when.
pub(crate) struct Stepper {
    pub(crate) upstream: Upstream,
    asked: mpsc::Receiver<String>,
    go: Arc<Semaphore>,
}

impl Stepper {
    pub(crate) async fn start() -> Self {
        let (tell, asked) = mpsc::channel(1000);
        let go = Arc::new(Semaphore::new(0));
        let may = Arc::clone(&go);
        let upstream = Upstream::start(move |mut conn| {
            let (tell, may) = (tell.clone(), Arc::clone(&may));
            async move {
                loop {
                    let prompt = conn.json()["messages"][0]["content"].as_str().unwrap().to_owned();
                    let _ = tell.send(prompt.clone()).await;
                    may.acquire().await.unwrap().forget();
                    conn.stream_head().await;
                    conn.chunk((event(&prompt) + "data: [DONE]\n\n").as_bytes()).await;
                    conn.finish().await;
                    if !conn.request().await {
                        return;
                    }
                }
            }
        })
        .await;
        Self { upstream, asked, go }
    }

    /// The prompt that it was asked next.
    pub(crate) async fn asked(&mut self) -> String {
        soon(self.asked.recv()).await.unwrap()
    }

    /// Whether it was asked nothing more so far.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }

    /// Lets one answer go.
    pub(crate) fn go(&self) {
        self.go.add_permits(1);
    }

    /// Lets one answer after the other go, and says what was asked after each.
    pub(crate) async fn steps(&mut self, count: usize) -> Vec<String> {
        let mut order = Vec::new();
        for _ in 0..count {
            self.go();
            order.push(self.asked().await);
        }
        order
    }
}
