//! Upstreams that are known by a name, whose addresses change.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use crate::support::{Gateway, chat, post, soon};

/// A name server that gives the addresses one after the other, each for a second, and stays with the last.
async fn name_server(addresses: [Ipv4Addr; 2]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut query, mut given) = ([0; 512], 0);
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let query = &query[..length];
            // The question: a name, then its type and class.
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_v4 = query[end - 4..end - 2] == [0, 1];
            let mut answer = vec![query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
            answer.extend_from_slice(&query[12..end]);
            if is_v4 {
                let found = addresses[given.min(addresses.len() - 1)];
                given += 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                answer.extend_from_slice(&found.octets());
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

/// A server that keeps connections, reads one request after the other and says its own name.
fn serve(listener: TcpListener, name: &'static str) {
    let body = json!({"choices": [], "model": name}).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = head + &body;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut received = Vec::new();
                while socket.read_buf(&mut received).await.is_ok_and(|length| length > 0) {
                    // A request that came whole: its JSON has ended.
                    if received.ends_with(b"}]}")
                        || received.ends_with(b"}") && received.windows(4).any(|end| end == b"\r\n\r\n")
                    {
                        received.clear();
                        if socket.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

#[tokio::test]
async fn connections_follow_a_name_to_its_new_address() {
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = old.local_addr().unwrap().port();
    let new = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await.unwrap();
    serve(old, "old");
    serve(new, "new");
    let names = name_server([Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)]).await;
    let gateway = Gateway::start(&format!(
        "[dns]\nservers = [\"{names}\"]\n[upstreams.a]\nbase_url = \"http://models.flumen.test:{port}/v1\"\n\
         [models.\"*\"]\nupstream = \"a\"\n"
    ))
    .await;
    let ask = || async {
        let mut body = chat("m");
        body["stream"] = false.into();
        let answer = post(gateway.address, "/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["model"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask().await, "old");
    // The kept connection is used until the address's time is over, and not after that.
    soon(async { while ask().await == "old" {} }).await;
    for _ in 0..10 {
        assert_eq!(ask().await, "new");
    }
}
