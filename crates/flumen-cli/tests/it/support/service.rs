use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use flumen_rpc::{
    Cancel, Cancellation, Code, Status,
    generation::{Delta, Usage},
    service::{Generate, Request, Server, Stats, Writer},
};
use flumen_wire::listen::{Listener, Shutdown};
use tokio::sync::mpsc;

use super::soon;

/// A model service in this process. Its model's name says what it does: `count:N` counts to N, `endless:SIZE` counts without end in
/// pieces of SIZE bytes, `frames` sends frames of its own dialect, and others go wrong.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<Stats>,
    /// Bytes of text that generations have handed to their writers.
    pub(crate) produced: Arc<AtomicU64>,
    requests: mpsc::Receiver<Request>,
    dropped: mpsc::Receiver<Option<Cancel>>,
    pub(crate) shutdown: Shutdown,
}

struct Model {
    produced: Arc<AtomicU64>,
    requests: mpsc::Sender<Request>,
    dropped: mpsc::Sender<Option<Cancel>>,
}

struct Guard(mpsc::Sender<Option<Cancel>>, Cancellation);

impl Drop for Guard {
    fn drop(&mut self) {
        // Whoever does not listen does not mind.
        let _ = self.0.try_send(self.1.reason().cloned());
    }
}

impl Generate for Model {
    async fn generate(&self, request: Request, mut writer: Writer) -> Result<(), Status> {
        let _ = self.requests.try_send(request.clone());
        let _guard = Guard(self.dropped.clone(), request.cancellation().clone());
        let (name, number) = request.model().split_once(':').unwrap_or((request.model(), ""));
        match name {
            "bad" => Err(Status::new(Code::InvalidArgument, "the prompt is bad")),
            "busy" => Err(Status::new(Code::ResourceExhausted, "too much to do")
                .because("slow_down", Some(std::time::Duration::from_secs(7)))),
            "silent" => std::future::pending().await,
            "frames" => {
                for frame in
                    [r#"{"choices":[{"index":0,"delta":{"content":"a"}}], "own": 1.0}"#, r#"{"choices":[]}"#]
                {
                    writer.frame(frame).await?;
                }
                writer.finish("stop").await
            }
            "breaks" => {
                writer.text("a ").await?;
                Err(Status::new(Code::Internal, "out of memory"))
            }
            "forgets" => writer.text("a ").await,
            "endless" => self.count(u64::MAX, number.parse().unwrap_or(8), &mut writer).await,
            _ => {
                let most = number.parse().unwrap_or(3);
                self.count(most, 0, &mut writer).await?;
                writer.usage(Usage { prompt_tokens: 5, completion_tokens: most }).await?;
                writer.finish("stop").await
            }
        }
    }
}

impl Model {
    async fn count(&self, most: u64, size: usize, writer: &mut Writer) -> Result<(), Status> {
        for number in 0..most {
            let mut text = format!("{number} ");
            text.extend(std::iter::repeat_n('.', size.saturating_sub(text.len())));
            self.produced.fetch_add(text.len() as u64, SeqCst);
            writer.delta(Delta { text, ..Delta::default() }).await?;
        }
        Ok(())
    }
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    fn at(address: SocketAddr) -> Self {
        Self::try_at(address).unwrap()
    }

    /// At an address of its own, if that is free.
    pub(crate) fn try_at(address: SocketAddr) -> std::io::Result<Self> {
        let (tell, requests) = mpsc::channel(10_000);
        let (drop, dropped) = mpsc::channel(10_000);
        let produced = Arc::new(AtomicU64::new(0));
        let listener = Listener::bind(address, false)?;
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let server = Server::new(Model { produced: Arc::clone(&produced), requests: tell, dropped: drop });
        let stats = server.stats();
        tokio::spawn(server.serve_on(listener, shutdown.clone()));
        Ok(Self { address, stats, produced, requests, dropped, shutdown })
    }

    /// The next request that comes.
    pub(crate) async fn asked(&mut self) -> Request {
        soon(self.requests.recv()).await.unwrap()
    }

    /// Why the next generation to end was cancelled, if it was.
    pub(crate) async fn dropped(&mut self) -> Option<Cancel> {
        soon(self.dropped.recv()).await.unwrap()
    }

    /// The configuration of a gateway before it.
    pub(crate) fn config(&self, kind: &str, more: &str) -> String {
        let address = self.address;
        format!(
            "[upstreams.svc]\nkind = \"{kind}\"\nendpoints = \"http://{address}\"\n[models.\"*\"]\nupstream = \"svc\"\n{more}"
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.abort();
    }
}
