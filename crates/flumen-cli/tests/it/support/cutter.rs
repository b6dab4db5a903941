use std::{
    net::SocketAddr,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A bad line to a server: each connection is cut after so many bytes of answers.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cutter {
    pub(crate) async fn before(server: SocketAddr, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                running.spawn(async move {
                    if pass(client, server, bytes).await {
                        count.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        Self { address, cuts, task }
    }

    /// Connections that were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(SeqCst)
    }
}

/// Whether it was cut before its end.
async fn pass(client: TcpStream, server: SocketAddr, mut left: usize) -> bool {
    let Ok(server) = TcpStream::connect(server).await else { return false };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asking = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let answering = async {
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = from_server.read(&mut piece).await {
            let passed = count.min(left);
            if to_client.write_all(&piece[..passed]).await.is_err() {
                return false;
            }
            left -= passed;
            if left == 0 {
                return true;
            }
        }
        false
    };
    tokio::select! {
        _ = asking => false,
        cut = answering => cut,
    }
}
