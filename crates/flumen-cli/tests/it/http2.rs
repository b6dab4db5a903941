//! HTTP/2 on both sides.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Client, Gateway, Upstream, chat, event, soon};

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    send
}

fn request(address: SocketAddr, model: &str) -> Request<Full<Bytes>> {
    Request::post(format!("http://{address}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(chat(model).to_string())))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(soon(response.into_body().collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn clients_speak_it_by_prior_knowledge_many_streams_on_one_connection() {
    let gateway = Gateway::start("").await;
    let mut send = connect(gateway.address).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(
            send.send_request(request(gateway.address, "sim:tokens=20,tps=500,ttft=1ms")).await.unwrap(),
        );
    }
    for answer in answers {
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
        assert!(text(answer).await.ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_cancels_its_upstream_and_no_other() {
    let (gone, mut left) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::start(move |mut conn| {
        let gone = gone.clone();
        async move {
            conn.stream_head().await;
            conn.chunk(event("a").as_bytes()).await;
            conn.closed().await;
            gone.send(()).await.unwrap();
        }
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let mut send = connect(gateway.address).await;
    let dropped = send.send_request(request(gateway.address, "m")).await.unwrap();
    let mut kept = send.send_request(request(gateway.address, "m")).await.unwrap();
    drop(dropped);
    soon(left.recv()).await.unwrap();
    assert_eq!(gateway.access().await["cause"], "client_gone");
    assert!(soon(kept.body_mut().frame()).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_resets_without_end_is_closed() {
    let gateway = Gateway::start("[server]\nhttp2_max_resets = 10\n").await;
    let mut send = connect(gateway.address).await;
    let mut requests = 0;
    while requests < 200 {
        if soon(send.ready()).await.is_err() {
            break;
        }
        let answer = send.send_request(request(gateway.address, "sim:tokens=endless,ttft=1ms"));
        if let Ok(answer) = soon(answer).await {
            drop(answer);
        }
        requests += 1;
    }
    assert!((11..200).contains(&requests), "closed after {requests} requests");
    assert_eq!(Client::get(gateway.address, "/healthz").await.status, 200);
}

/// A server of HTTP/2 that streams small events without end to `endless`, and three to anybody else.
async fn http2_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let endless = body.windows(7).any(|part| part == b"endless");
                let events = futures_util::stream::unfold(0_u32, move |count| async move {
                    tokio::task::yield_now().await;
                    let event = match count {
                        3 if !endless => Some("data: [DONE]\n\n".to_owned()),
                        4.. if !endless => None,
                        _ => Some(event("a")),
                    };
                    event.map(|event| {
                        (Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(event))), count + 1)
                    })
                });
                let body = http_body_util::StreamBody::new(events);
                Ok::<_, std::io::Error>(
                    Response::builder().header("content-type", "text/event-stream").body(body).unwrap(),
                )
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// RUSTSEC-2026-0258: unread small frames count against the whole connection.
#[tokio::test]
async fn a_paused_stream_of_an_http2_upstream_neither_starves_nor_kills_its_siblings() {
    let upstream = http2_upstream().await;
    let config = format!(
        "[upstreams.a]\nbase_url = \"http://{upstream}\"\nprotocol = \"http2\"\n[models.\"*\"]\nupstream = \"a\"\n"
    );
    let mut gateway = Gateway::start(&config).await;
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(Client::open(gateway.address, &chat("endless")).await);
    }
    for _ in 0..50 {
        let answer = crate::support::post(gateway.address, "/v1/chat/completions", &chat("m")).await;
        assert_eq!((answer.status, answer.text()), (200, event("a").repeat(3) + "data: [DONE]\n\n"));
        assert_eq!(gateway.access().await["cause"], "complete");
    }
    for (client, _) in &mut stuck {
        for _ in 0..1000 {
            client.until("\"a\"").await;
        }
    }
}
