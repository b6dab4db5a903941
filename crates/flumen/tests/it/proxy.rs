//! The proxy: bodies stream both ways, upgrades and tunnels become relays, and what is counted is what went through.

use flumen::{
    Bytes, Router,
    axum::{
        extract::Request,
        http::{HeaderMap, Method, StatusCode, header},
        response::{IntoResponse, Response},
        routing::any,
    },
    futures_util::{StreamExt, stream},
    proxy::Proxy,
    task::http::{self, Http},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Served, eventually, serve};

fn through(proxy: &Proxy) -> Served {
    let proxy = proxy.clone();
    serve(Router::new().fallback(move |request: Request| proxy.clone().handle(request)))
}

/// Upgrades to a protocol that says everything back.
async fn upgrade(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
        let (mut read, mut write) = tokio::io::split(io);
        tokio::io::copy(&mut read, &mut write).await
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

fn server() -> Served {
    let headers = |headers: HeaderMap| async move {
        format!("{:?} {:?} {:?}", headers.get("x-own"), headers.get("x-hop"), headers.get("te"))
    };
    serve(
        Router::new()
            .route("/echo", any(|request: Request| async { request.into_body() }))
            .route("/headers", any(headers))
            .route("/upgrade", any(upgrade)),
    )
}

#[tokio::test]
async fn bodies_stream_both_ways_through_it() {
    let server = server();
    let proxy = Proxy::to(&server.address);
    let front = through(&proxy);
    let (send, receive) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(1);
    let body = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    send.send(Ok("0".into())).await.unwrap();
    let request = http::Request::new(Method::POST, format!("{}/echo", front.url));
    let mut answer = Http::default().send_streaming(request, body).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "0");
    for n in 1..50 {
        send.send(Ok(n.to_string().into())).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), n.to_string());
    }
    drop(send);
    assert!(answer.next().await.is_none());
    let passed = proxy.passed();
    assert_eq!((passed.requests, passed.bytes_up, passed.bytes_down), (1, 90, 90));
}

#[tokio::test]
async fn a_client_that_does_not_read_pauses_the_server_behind() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let piece = Bytes::from(vec![0; 64 * 1024]);
    let endless = move || {
        let piece = piece.clone();
        let pieces = stream::repeat_with(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece.clone())
        });
        std::future::ready(flumen::axum::body::Body::from_stream(pieces))
    };
    let server = serve(Router::new().route("/", any(endless)));
    let front = through(&Proxy::to(&server.address));
    let mut client = TcpStream::connect(&front.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut last = (0, 0);
    let held = eventually("a standstill", || {
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        last = if now == last.0 && now > 0 { (now, last.1 + 1) } else { (now, 0) };
        (last.1 > 20).then_some(now)
    })
    .await;
    assert!(held < 512, "{held} pieces of 64 KiB are on the way");
    drop(client);
}

#[tokio::test]
async fn headers_of_one_hop_stay_there() {
    let server = server();
    let front = through(&Proxy::to(&server.address));
    let mut client = TcpStream::connect(&front.address).await.unwrap();
    let head = "GET /headers HTTP/1.1\r\nhost: x\r\nx-own: 1\r\nx-hop: 2\r\nte: trailers\r\nconnection: close, x-hop\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(r#"Some("1") None None"#), "{answer}");
}

async fn head_of(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn upgrades_and_tunnels_become_relays() {
    let server = server();
    let proxy = Proxy::forward();
    let front = through(&proxy);
    let talk = async |first: String, status: &str, second: Option<&str>| {
        let mut client = TcpStream::connect(&front.address).await.unwrap();
        client.write_all(first.as_bytes()).await.unwrap();
        let head = head_of(&mut client).await;
        assert!(head.starts_with(status), "{head}");
        if let Some(request) = second {
            client.write_all(request.as_bytes()).await.unwrap();
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 101"));
        }
        for message in ["ping", "and again"] {
            client.write_all(message.as_bytes()).await.unwrap();
            let mut back = vec![0; message.len()];
            client.read_exact(&mut back).await.unwrap();
            assert_eq!(back, message.as_bytes());
        }
    };
    let upgrade = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n")
    };
    talk(upgrade(&format!("{}/upgrade", server.url)), "HTTP/1.1 101", None).await;
    eventually("the count", || (proxy.passed().bytes_up == 13).then_some(())).await;
    let connect = format!("CONNECT {0} HTTP/1.1\r\nhost: {0}\r\n\r\n", server.address);
    talk(connect, "HTTP/1.1 200", Some(&upgrade("/upgrade"))).await;
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_a_502_with_a_reason() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let front = through(&Proxy::to(&closed));
    let answer = Http::default().get(&front.url).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.text().await.unwrap().starts_with(&format!("no connection to {closed}")));
    let front = through(&Proxy::forward());
    let answer = Http::default().get(&front.url).await.unwrap();
    assert!(answer.text().await.unwrap().contains("does not say where it is to go"));
}
