//! HTTP tasks: redirects, retries, bodies that stream both ways, errors that say where.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use flumen::{
    Bytes, Router, Sse,
    axum::{
        body::Body,
        extract::Request as Incoming,
        http::{HeaderMap, HeaderValue, Method, StatusCode, header},
        response::Redirect,
        routing::any,
    },
    flow::{Backoff, Context, ErrorKind, Task},
    futures_util::{StreamExt, stream},
    get, post,
    task::{
        dns,
        http::{Http, Options, Request},
        tcp,
    },
    wire::{boundary::Lines, client::Protocol},
};

use crate::support::serve;

#[tokio::test]
async fn redirects_are_followed_and_secrets_stay_with_their_host() {
    let seen = |headers: HeaderMap| async move {
        format!("{:?} {:?}", headers.get(header::AUTHORIZATION), headers.get("x-plain"))
    };
    let other = serve(Router::new().route("/seen", any(seen)));
    let away = format!("{}/seen", other.url);
    let server = serve(
        Router::new()
            .route("/away", get(move || async move { Redirect::temporary(&away) }))
            .route("/near", get(|| async { Redirect::permanent("seen?x=1") }))
            .route("/loop", get(|| async { Redirect::to("/loop") }))
            .route("/post", post(|| async { Redirect::to("/method") }))
            .route("/keep", post(|| async { Redirect::temporary("/method") }))
            .route("/method", any(|method: Method, body: String| async move { format!("{method} {body}") }))
            .route("/seen", any(seen)),
    );
    let http = Http::default();
    let ask = async |method: Method, path: &str| {
        let request = Request::new(method, format!("{}{path}", server.url))
            .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer s"))
            .header("x-plain".parse().unwrap(), HeaderValue::from_static("p"))
            .body("content");
        http.send(request).await
    };
    assert_eq!(
        ask(Method::GET, "/near").await.unwrap().text().await.unwrap(),
        r#"Some("Bearer s") Some("p")"#
    );
    assert_eq!(ask(Method::GET, "/away").await.unwrap().text().await.unwrap(), r#"None Some("p")"#);
    assert_eq!(ask(Method::POST, "/post").await.unwrap().text().await.unwrap(), "GET ");
    assert_eq!(ask(Method::POST, "/keep").await.unwrap().text().await.unwrap(), "POST content");
    let error = ask(Method::GET, "/loop").await.unwrap_err();
    assert!(error.to_string().starts_with("more than 10 redirects"), "{error}");
}

#[tokio::test]
async fn passing_failures_are_tried_again_if_that_is_safe() {
    let (tries, posts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, post_count) = (Arc::clone(&tries), Arc::clone(&posts));
    let server = serve(
        Router::new()
            .route(
                "/flaky",
                get(move || async move {
                    let third = count.fetch_add(1, Relaxed) % 3 == 2;
                    if third { Ok("well") } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
                }),
            )
            .route(
                "/cut",
                any(move || async move {
                    post_count.fetch_add(1, Relaxed);
                    Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]))
                }),
            )
            .route("/no", get(|| async { StatusCode::NOT_FOUND })),
    );
    let backoff = Backoff::attempts(3).pauses(Duration::from_millis(1), Duration::from_millis(2));
    let http = Http::new(Options { retry: backoff, ..Options::default() });
    assert_eq!(
        http.get(&format!("{}/flaky", server.url)).await.unwrap().ok().unwrap().text().await.unwrap(),
        "well"
    );
    assert_eq!(tries.load(Relaxed), 3);
    let refused = http.get(&format!("{}/no", server.url)).await.unwrap().ok().unwrap_err();
    assert!(
        !refused.is_retryable() && refused.to_string().ends_with("/no answered 404 Not Found"),
        "{refused}"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = http.get(&format!("http://{closed}/path?secret=1")).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.to_string(), format!("http://{closed}/path: no connection to the server"));
    for url in ["nonsense", "ftp://host/", "http://"] {
        assert!(http.get(url).await.unwrap_err().to_string().contains("is not a URL"), "{url}");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let server = serve(Router::new().route("/echo", post(|request: Incoming| async { request.into_body() })));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let http = Http::new(Options { protocol, ..Options::default() });
        let (send, receive) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(1);
        let body = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
        let request = Request::new(Method::POST, format!("{}/echo", server.url));
        send.send(Ok("first".into())).await.unwrap();
        let mut answer = http.send_streaming(request, body).await.unwrap();
        // The answer to each piece comes while the request is still being sent.
        assert_eq!(answer.next().await.unwrap().unwrap(), "first", "{protocol:?}");
        for n in 0..100 {
            let piece = Bytes::from(format!("piece {n}"));
            send.send(Ok(piece.clone())).await.unwrap();
            assert_eq!(answer.next().await.unwrap().unwrap(), piece);
        }
        drop(send);
        assert!(answer.next().await.is_none());
    }
}

#[tokio::test]
async fn a_request_body_that_breaks_off_is_never_taken_for_whole() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&whole);
    let server = serve(Router::new().route(
        "/",
        post(move |body: Bytes| async move {
            count.fetch_add(body.len().max(1), Relaxed);
        }),
    ));
    let http = Http::default();
    let broken = stream::iter([Ok(Bytes::from("half")), Err(std::io::Error::other("the disk broke"))]);
    let error = http.send_streaming(Request::new(Method::POST, &server.url), broken).await.unwrap_err();
    assert!(error.to_string().ends_with("the request's body broke off"), "{error}");
    assert_eq!(whole.load(Relaxed), 0);
}

#[tokio::test]
async fn events_and_json_are_read_from_answers() {
    let server = serve(
        Router::new()
            .route("/events", get(|| async { Sse::new(stream::iter(["a", "b"])) }))
            .route("/json", get(|| async { r#"{"n": [1, 2]}"# })),
    );
    let http = Http::default();
    let events = http.get(&format!("{}/events", server.url)).await.unwrap().events();
    let payloads: Vec<Vec<u8>> = events.map(|event| event.unwrap().payload().to_vec()).collect().await;
    assert_eq!(payloads, [b"a", b"b"]);
    let task = http.clone().then(|_, answer| async move { answer.ok()?.json::<serde_json::Value>().await });
    let request = Request::new(Method::GET, format!("{}/json", server.url));
    let value = task.run(&Context::new(), request.clone()).await.unwrap();
    assert_eq!(value["n"][1], 2);
    assert!(
        http.send(request)
            .await
            .unwrap()
            .bytes(3)
            .await
            .unwrap_err()
            .to_string()
            .contains("more than 3 bytes")
    );
}

#[tokio::test]
async fn names_are_resolved_and_own_protocols_spoken() {
    assert!(dns::resolve("localhost").await.unwrap().iter().all(std::net::IpAddr::is_loopback));
    assert!(dns::resolve("no.such.name.invalid").await.unwrap_err().is_retryable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let answer = tcp::connect(&address).await.unwrap().call(Lines::new(), "hello").await.unwrap();
    assert_eq!(answer, "hello");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = tcp::connect(&closed).await.unwrap_err();
    assert!(error.is_retryable() && error.kind() == ErrorKind::Failed);
}
