use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// A client that speaks HTTP/1.1 by hand, so that nothing hides what is on the wire.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    received: Vec<u8>,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The body came to its proper end.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The error's code.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A chat request's body, streamed.
pub(crate) fn chat(model: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
}

/// Sends a body to a path and reads the whole answer.
pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let mut client = Client::connect(address).await;
    client.post(path, &body.to_string()).await;
    client.answer().await
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    pub(crate) fn with(socket: TcpStream) -> Self {
        Self { socket, received: Vec::new() }
    }

    pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
        let mut client = Self::connect(address).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await;
        client.answer().await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(head.as_bytes()).await;
    }

    /// Sends any request.
    pub(crate) async fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: test\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if matches!(method, "POST" | "PUT") {
            head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        self.send(format!("{head}\r\n{body}").as_bytes()).await;
    }

    /// Opens a stream and reads its head.
    pub(crate) async fn open(address: SocketAddr, body: &Value) -> (Self, String) {
        let mut client = Self::connect(address).await;
        client.post("/v1/chat/completions", &body.to_string()).await;
        let head = client.head().await;
        (client, head)
    }

    async fn more(&mut self) -> bool {
        soon(self.socket.read_buf(&mut self.received)).await.unwrap_or(0) > 0
    }

    /// The next response head, unless the connection ends before.
    pub(crate) async fn head_if_any(&mut self) -> Option<String> {
        while !self.received.windows(4).any(|part| part == b"\r\n\r\n") {
            if !self.more().await {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// What was received and not looked at.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// The next response head.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|part| part == b"\r\n\r\n") {
                return String::from_utf8(self.received.drain(..at + 4).collect()).unwrap();
            }
            assert!(self.more().await, "the connection ended: {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Reads until these bytes have come, framing and all.
    pub(crate) async fn until(&mut self, part: &str) -> String {
        loop {
            let found = self.received.windows(part.len()).position(|window| window == part.as_bytes());
            if let Some(at) = found {
                return String::from_utf8_lossy(&self.received.drain(..at + part.len()).collect::<Vec<_>>())
                    .into_owned();
            }
            assert!(self.more().await, "ended without {part:?}: {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Waits until the server has closed the connection. Returns what came before.
    pub(crate) async fn closed(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// The next response, read to its end.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new(), complete: false };
        if matches!(status, 204 | 304) {
            answer.complete = true;
        } else if answer.header("transfer-encoding").is_some() {
            self.chunks(&mut answer).await;
        } else {
            let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            while self.received.len() < length && self.more().await {}
            answer.complete = self.received.len() >= length;
            answer.body = self.received.drain(..length.min(self.received.len())).collect();
        }
        answer
    }

    async fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(line) = self.received.windows(2).position(|part| part == b"\r\n") else {
                if self.more().await {
                    continue;
                }
                return;
            };
            let size =
                usize::from_str_radix(std::str::from_utf8(&self.received[..line]).unwrap(), 16).unwrap();
            while self.received.len() < line + 2 + size + 2 {
                if !self.more().await {
                    return;
                }
            }
            self.received.drain(..line + 2);
            answer.body.extend(self.received.drain(..size));
            self.received.drain(..2);
            if size == 0 {
                answer.complete = true;
                return;
            }
        }
    }
}
