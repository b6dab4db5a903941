//! A server written by hand: what it sends is what is on the wire, to the byte.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(crate) struct Reply {
    bytes: Vec<u8>,
    hold: bool,
}

impl Reply {
    /// An answer of so many bytes; then the connection is closed.
    pub(crate) fn new(status: &str, headers: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        Self { bytes: (head + body).into_bytes(), hold: false }
    }

    pub(crate) fn events(body: &str) -> Self {
        Self::new("200 OK", "content-type: text/event-stream\r\n", body)
    }

    /// The events of a resumable stream, in chunks.
    pub(crate) fn resumable(content_type: &str, body: &str) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nflumen-stream-id: 5f0c\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        for chunk in body.as_bytes().chunks(25) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Self { bytes, hold: false }
    }

    pub(crate) fn nothing() -> Self {
        Self { bytes: Vec::new(), hold: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Breaks off after so many bytes of all.
    pub(crate) fn cut(mut self, at: usize) -> Self {
        self.bytes.truncate(at);
        self
    }

    /// Breaks off so many bytes before the end.
    pub(crate) fn short_of(self, bytes: usize) -> Self {
        let at = self.len() - bytes;
        self.cut(at)
    }

    /// Says nothing more, but keeps the connection until the client closes it.
    pub(crate) fn hold(mut self) -> Self {
        self.hold = true;
        self
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    closed: mpsc::Receiver<()>,
}

impl Server {
    /// Answers each request by what `script` says of it and its number, on a connection of its own.
    pub(crate) async fn start(script: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (tell, closed) = mpsc::channel(100);
        let (script, log) = (Arc::new(script), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (script, log, tell) = (Arc::clone(&script), Arc::clone(&log), tell.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut socket).await else { return };
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len()
                    };
                    let reply = script(number, &request);
                    if socket.write_all(&reply.bytes).await.is_err() {
                        return;
                    }
                    if reply.hold {
                        while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                        let _ = tell.send(()).await;
                    }
                });
            }
        });
        Self { url, asked, closed }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What each request said it saw last.
    pub(crate) fn last_ids(&self) -> Vec<Option<String>> {
        self.asked().iter().map(|asked| asked.header("last-event-id").map(str::to_owned)).collect()
    }

    /// Waits until the client closes a connection that is held.
    pub(crate) async fn closed(&mut self) {
        self.closed.recv().await.unwrap();
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let headers: HashMap<_, _> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head + 4..].to_vec()).unwrap();
    Some(Asked { method, path, headers, body })
}
