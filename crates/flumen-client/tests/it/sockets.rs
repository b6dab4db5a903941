//! What a gateway may say over a `WebSocket`, also under TLS.

use std::sync::Arc;

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    routing::get,
};
use flumen_client::{ErrorKind, Options, Transport};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        self,
        handshake::server::{Request, Response},
    },
};

use crate::{fast, read, read_all};

/// A gateway whose sockets say these things to whoever has said something.
async fn gateway(says: impl Fn(usize) -> Vec<Message> + Send + Sync + 'static) -> String {
    let says = Arc::new(says);
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let socket = move |upgrade: WebSocketUpgrade| async move {
        upgrade.protocols(["flumen.v1"]).on_upgrade(move |mut socket: WebSocket| async move {
            socket.recv().await;
            for message in says(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                let _ = socket.send(message).await;
            }
        })
    };
    let router = Router::new().route("/v1/socket", get(socket));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn open() -> Message {
    Message::text(r#"{"type":"open","ref":1,"stream":"5f0c"}"#)
}

fn event(seq: u32) -> Message {
    Message::text(format!(
        r#"{{"type":"event","ref":1,"id":"5f0c.1-{seq}","seq":{seq},"data":{{"n":{seq}}}}}"#
    ))
}

fn verbatim(text: &str) -> Message {
    Message::binary([&[0, 0, 0, 1], text.as_bytes()].concat())
}

async fn ends(
    says: impl Fn(usize) -> Vec<Message> + Send + Sync + 'static,
) -> (Vec<String>, Option<ErrorKind>) {
    let url = gateway(says).await;
    let client = fast(&url).transports([Transport::WebSocket]).max_event(1000).build().unwrap();
    let (payloads, error) = read(&mut client.post("/v1/x", "{}").stream()).await;
    (payloads, error.map(|error| error.kind()))
}

#[tokio::test]
async fn what_the_gateway_says_is_understood() {
    let first = || vec!["{\"n\":1}".to_owned()];
    let end = || Message::text(r#"{"type":"end","ref":1,"state":"done"}"#);
    assert_eq!(ends(move |_| vec![open(), event(1), end()]).await, (first(), None), "envelopes");
    assert_eq!(
        ends(move |_| vec![open(), verbatim("data: {\"n\":1}\nid: 5f0c.1-1\n\n"), end()]).await,
        (first(), None)
    );
    let other = || Message::text(r#"{"type":"end","ref":7,"state":"done"}"#);
    assert_eq!(
        ends(move |_| vec![other(), open(), event(1), end()]).await,
        (first(), None),
        "of another stream"
    );

    let refused = Message::text(r#"{"type":"error","ref":1,"status":410,"error":{"code":"cursor_too_old"}}"#);
    assert_eq!(ends(move |_| vec![refused.clone()]).await.1, Some(ErrorKind::Gone));
    let close = Message::Close(Some(CloseFrame { code: 1002, reason: "credit".into() }));
    assert_eq!(ends(move |_| vec![open(), close.clone()]).await.1, Some(ErrorKind::Protocol));
    assert_eq!(ends(|_| vec![open(), verbatim("data: half")]).await.1, Some(ErrorKind::Protocol));
    assert_eq!(ends(|_| vec![open(), Message::binary(vec![1])]).await.1, Some(ErrorKind::Protocol));
    assert_eq!(ends(|_| vec![open(), Message::text("nonsense")]).await.1, Some(ErrorKind::Protocol));
    let long = format!("data: {}\nid: 5f0c.1-1\n\n", "x".repeat(1000));
    assert_eq!(ends(move |_| vec![open(), verbatim(&long)]).await.1, Some(ErrorKind::TooLong));
    assert_eq!(ends(|_| vec![open(), Message::binary(vec![0; 100_000])]).await.1, Some(ErrorKind::TooLong));
    assert_eq!(ends(|_| vec![open(), event(2)]).await.1, Some(ErrorKind::Gap));
}

#[tokio::test]
async fn a_gateway_that_goes_away_is_found_again() {
    let away = Message::Close(Some(CloseFrame { code: 1001, reason: "restart".into() }));
    let (payloads, error) = ends(move |number| match number {
        0 => vec![],
        1 => vec![open()],
        2 => vec![open(), event(1), away.clone()],
        3 => vec![open(), event(1), event(2), Message::text(r#"{"type":"end","ref":1,"state":"open"}"#)],
        _ => vec![open(), Message::text(r#"{"type":"end","ref":1,"state":"done"}"#)],
    })
    .await;
    assert_eq!((payloads.len(), error), (2, None));
}

#[tokio::test]
async fn sockets_work_under_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let root = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            #[expect(clippy::result_large_err, reason = "the shape of the library's callback")]
            let agree = |request: &Request, mut response: Response| {
                assert_eq!(
                    (request.uri().path(), &request.headers()["authorization"]),
                    ("/gw/v1/socket", &"Bearer k".parse().unwrap())
                );
                response.headers_mut().insert("sec-websocket-protocol", "flumen.v1".parse().unwrap());
                Ok(response)
            };
            let mut socket = accept_hdr_async(tls, agree).await.unwrap();
            let first = socket.next().await.unwrap().unwrap().into_text().unwrap();
            assert!(first.contains(r#""path":"/v1/x""#), "{first}");
            for text in [
                r#"{"type":"open","ref":1,"stream":"5f0c"}"#,
                r#"{"type":"event","ref":1,"id":"5f0c.1-1","seq":1,"data":"[DONE]"}"#,
            ] {
                socket.send(tungstenite::Message::text(text)).await.unwrap();
            }
        }
    });
    let options = Options { extra_roots: vec![root], ..Options::default() };
    let client = fast(&format!("{url}/gw/v1"))
        .transports([Transport::WebSocket])
        .header("authorization", "Bearer k")
        .options(options)
        .build()
        .unwrap();
    let mut stream = client.post("/x", "{}").stream();
    assert_eq!(read_all(&mut stream).await, ["[DONE]"]);
    let timings = stream.stats().legs[0].timings.clone().unwrap();
    assert!(timings.tls.is_some() && timings.connect.is_some() && timings.dns.is_some());
}
