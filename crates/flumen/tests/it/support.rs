//! Servers and programs that tests start; each ends with its handle.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use flumen::{
    Router,
    wire::listen::{Gate, Limits, Listener, Shutdown},
};
use tokio::{task::JoinHandle, time::Instant};

/// A router on a port of its own.
pub(crate) struct Served {
    pub(crate) address: String,
    pub(crate) url: String,
    shutdown: Shutdown,
    _task: JoinHandle<()>,
}

pub(crate) fn serve(router: Router) -> Served {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap().to_string(), Shutdown::new());
    let limits = Arc::new(Limits::default());
    let serving = listener.serve(router, limits, Arc::new(Gate::default()), None, shutdown.clone());
    let task = tokio::spawn(async move { serving.await.unwrap() });
    Served { url: format!("http://{address}"), address, shutdown, _task: task }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.abort();
    }
}

/// Nothing in these tests takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A program that is ended with its handle.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(piped.spawn().unwrap())
    }

    /// Waits for its end and gives what it wrote to its output.
    pub(crate) fn output(mut self) -> String {
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}\n{out}{err}");
        out
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again until the answer is there.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{what} never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
