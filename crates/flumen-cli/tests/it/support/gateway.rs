use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use super::soon;

/// The binary under test.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flumen"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A running gateway with a configuration of its own. It ends with the test.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    admin: Option<SocketAddr>,
    /// The key with which the test reads metrics, where keys are asked for.
    pub(crate) key: Option<String>,
    child: Child,
    access: mpsc::Receiver<String>,
    messages: mpsc::Receiver<String>,
}

impl Gateway {
    /// Starts `flumen serve` with this configuration, on a free port and one core.
    pub(crate) async fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config).await
    }

    /// The same on several cores.
    pub(crate) async fn start_on(cores: &str, config: &str) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), config, cores).await
    }

    pub(crate) async fn start_in(folder: tempfile::TempDir, config: &str) -> Self {
        Self::start_with(folder, config, "1").await
    }

    async fn start_with(folder: tempfile::TempDir, config: &str, cores: &str) -> Self {
        let file = folder.path().join("flumen.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
        let mut child =
            command.env("FLUMEN_SERVER__THREADS", cores).env("TEST_KEY", "sk-very-secret").spawn().unwrap();
        let access = lines(child.stdout.take().unwrap());
        let mut messages = lines(child.stderr.take().unwrap());
        let after = |line: &str, words: &str| {
            let (_, url) = line.split_once(words)?;
            url.rsplit("://").next()?.parse::<SocketAddr>().ok()
        };
        let (mut address, mut admin) = (None, None);
        // The last message of the start tells the version.
        loop {
            let line = soon(messages.recv()).await.expect("the gateway starts");
            address = address.or(after(&line, "listening on "));
            admin = admin.or(after(&line, "listening to operators on "));
            if line.contains("flumen ") && line.contains("threads") {
                break;
            }
        }
        Self { address: address.expect("it listens"), folder, key: None, admin, child, access, messages }
    }

    /// A gateway whose every model goes to the server at this address.
    pub(crate) async fn before(upstream: SocketAddr, more: &str) -> Self {
        Self::start(&config(upstream, more)).await
    }

    /// Where its operators are listened to, if they are.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("flumen.toml")
    }

    /// The next line of the access log.
    pub(crate) async fn access(&mut self) -> Value {
        let line = soon(self.access.recv()).await.expect("a line of the access log");
        serde_json::from_str(&line).expect("a JSON line")
    }

    /// The same, of a request to a model.
    pub(crate) async fn asked(&mut self) -> Value {
        loop {
            let line = self.access().await;
            if !line["dialect"].is_null() {
                return line;
            }
        }
    }

    /// Waits for a message of the server that contains this.
    pub(crate) async fn message(&mut self, part: &str) -> String {
        loop {
            let line = soon(self.messages.recv()).await.expect("a message of the server");
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The server's messages that nobody has looked at, up to its end.
    pub(crate) async fn all_messages(&mut self) -> String {
        let mut all = String::new();
        while let Some(line) = soon(self.messages.recv()).await {
            all += &line;
            all.push('\n');
        }
        all
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal by its number.
    pub(crate) async fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().await;
        assert!(killed.unwrap().success());
    }

    /// Waits until it has stopped by itself.
    pub(crate) async fn stopped(&mut self) -> std::process::ExitStatus {
        soon(self.child.wait()).await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        let Some(key) = &self.key else { return super::Client::get(self.address, "/metrics").await.text() };
        let mut client = super::Client::connect(self.address).await;
        client.request("GET", "/metrics", &[("authorization", &format!("Bearer {key}"))], "").await;
        client.answer().await.text()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }
}

/// A configuration whose every model goes to the server at this address.
pub(crate) fn config(upstream: SocketAddr, more: &str) -> String {
    format!(
        "{more}\n[upstreams.actor]\nbase_url = \"http://{upstream}/v1\"\nkey_env = \"TEST_KEY\"\n\
         [models.renamed]\nupstream = \"actor\"\nname = \"real-name\"\n[models.\"*\"]\nupstream = \"actor\"\n"
    )
}

fn lines(from: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(10_000);
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if send.send(line).await.is_err() {
                break;
            }
        }
    });
    receive
}
