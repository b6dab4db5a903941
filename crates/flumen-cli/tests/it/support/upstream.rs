use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::soon;

/// A model server that follows a script, byte by byte.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Accepts connections, reads a request on each, and hands it to the script.
    pub(crate) async fn start<F, A>(script: F) -> Self
    where
        F: Fn(Conn) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, requests) = (Arc::clone(&accepted), Arc::clone(&asked));
        let script = Arc::new(std::sync::Mutex::new(script));
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
                running.spawn(async move {
                    let mut conn = Conn { socket, head: String::new(), body: Vec::new() };
                    if conn.request().await {
                        requests.fetch_add(1, SeqCst);
                        let act = script.lock().unwrap()(conn);
                        act.await;
                    }
                });
            }
        });
        Self { address, accepted, asked, task }
    }

    /// Answers every request with these events, chunked, and closes.
    pub(crate) async fn events(events: &'static [&'static str]) -> Self {
        Self::start(move |mut conn| async move {
            conn.stream_head().await;
            for event in events {
                conn.chunk(event.as_bytes()).await;
            }
            conn.finish().await;
        })
        .await
    }

    /// Answers every request with these bytes and closes the connection.
    pub(crate) async fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Arc::new(bytes.into());
        Self::start(move |mut conn| {
            let bytes = Arc::clone(&bytes);
            async move {
                conn.write(&bytes).await;
                let _ = conn.socket.shutdown().await;
                conn.closed().await;
            }
        })
        .await
    }

    /// Answers with a page instead of a stream.
    pub(crate) async fn page() -> Self {
        Self::bytes("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi").await
    }

    /// Answers with a stream of one event that is not what anybody expects.
    pub(crate) async fn garbage() -> Self {
        Self::start(|mut conn| async move {
            conn.stream_head().await;
            conn.chunk(b"data: \xff\xfe garbage\n\n").await;
            conn.finish().await;
        })
        .await
    }

    /// Takes requests and says nothing.
    pub(crate) async fn silent() -> Self {
        Self::start(|conn| async move {
            let _conn = conn;
            std::future::pending::<()>().await;
        })
        .await
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Waits for a request, which is not there yet when its connection is.
    pub(crate) async fn is_asked(&self) {
        soon(async {
            while self.asked.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// An event with a piece of text.
pub(crate) fn event(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

/// One connection of the gateway to the server that the test plays, with the request that came on it.
pub(crate) struct Conn {
    pub(crate) socket: TcpStream,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Conn {
    /// Reads the next request. False when the gateway has closed the connection instead.
    pub(crate) async fn request(&mut self) -> bool {
        let mut received = Vec::new();
        let end = loop {
            if let Some(at) = received.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if self.socket.read_buf(&mut received).await.unwrap_or(0) == 0 {
                return false;
            }
        };
        self.head = String::from_utf8(received.drain(..end).collect()).unwrap();
        let length = self.header("content-length").map_or(0, |length| length.parse().unwrap());
        while received.len() < length {
            if self.socket.read_buf(&mut received).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        self.body = received;
        true
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Writes bytes; a gateway that has left is no concern of the script.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    pub(crate) async fn stream_head(&mut self) {
        self.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    }

    pub(crate) async fn chunk(&mut self, bytes: &[u8]) {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk).await;
    }

    pub(crate) async fn finish(&mut self) {
        self.write(b"0\r\n\r\n").await;
    }

    pub(crate) async fn json_answer(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.write((head + body).as_bytes()).await;
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while soon(self.socket.read(&mut rest)).await.unwrap_or(0) > 0 {}
    }
}
