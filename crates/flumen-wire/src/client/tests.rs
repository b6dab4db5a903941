use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::*;

/// A name server that answers the first two questions, for IPv4 and IPv6, for a second, and then says nothing more.
async fn name_server_that_stops() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            if counter.fetch_add(1, Relaxed) >= 2 {
                continue;
            }
            let query = &query[..length];
            // The question: a name, then its type and class.
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_v4 = query[end - 4..end - 2] == [0, 1];
            let mut answer = vec![query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
            answer.extend_from_slice(&query[12..end]);
            if is_v4 {
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    (address, asked)
}

/// A server that keeps connections and answers every request with nothing.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                while socket.read_buf(&mut received).await.is_ok_and(|length| length > 0) {
                    if received.ends_with(b"\r\n\r\n") {
                        received.clear();
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    address
}

/// How long an answer takes, and whether a kept connection was used.
async fn ask(client: &Client) -> (Duration, bool) {
    let started = Instant::now();
    let (method, path) = (Method::GET, "/".to_owned());
    let request = Request { method, path, headers: HeaderMap::new(), body: Bytes::new() };
    let mut body = client.send(&request).await.unwrap().body;
    assert!(poll_fn(|cx| body.poll_piece(cx)).await.is_none());
    (started.elapsed(), body.timings().reused)
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_is_down_holds_up_one_request_for_a_moment() {
    let (names, asked) = name_server_that_stops().await;
    let url = format!("http://models.flumen.test:{}", server().await.port());
    let options = Options { resolver: Resolver::by_ttl(vec![names]), ..Options::default() };
    let client = Client::new(url.parse().unwrap(), options).unwrap();
    assert!(!ask(&client).await.1);
    assert_eq!(asked.load(Relaxed), 2);

    tokio::time::advance(Duration::from_secs(2)).await;
    let ((first, _), (second, reused)) = tokio::join!(ask(&client), ask(&client));
    assert!(first <= Duration::from_millis(510), "{first:?}");
    assert!(second < Duration::from_millis(10) && reused, "{second:?}");
    let before = asked.load(Relaxed);
    assert!(before > 2, "the name was asked for");
    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(2)).await;
        let (took, reused) = ask(&client).await;
        assert!(took < Duration::from_millis(10) && reused, "{took:?}");
    }
    // New connections go where the name was last known to be.
    let ((_, kept), (took, reused)) = tokio::join!(ask(&client), ask(&client));
    assert!(kept && !reused && took < Duration::from_millis(10), "{took:?}");
    assert_eq!(asked.load(Relaxed), before);
    tokio::time::advance(Duration::from_secs(5)).await;
    ask(&client).await;
    assert!(asked.load(Relaxed) > before, "it may be back");
}
