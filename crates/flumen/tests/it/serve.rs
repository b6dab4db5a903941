//! A flow per request: emitted frames are the response, failures are statuses or last words, and who leaves cancels.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use flumen::{
    Bytes, Event, Router,
    axum::{
        Json,
        extract::Path,
        http::{HeaderValue, Method, StatusCode},
    },
    flow::{Context, Error, Task, task},
    futures_util::StreamExt,
    get, post,
    serve::{RequestInfo, chunked, json, ndjson, sse},
    task::http::{Http, Request},
};

use crate::support::{eventually, serve};

/// Emits the numbers up to the input; fails at 7.
fn count() -> impl Task<Input = Path<u32>, Output = ()> {
    task(|cx: Context, Path(to): Path<u32>| async move {
        for n in 0..to {
            if n == 7 {
                return Err(Error::failed("seven"));
            }
            cx.out().send(Event::data(format!("{{\"n\":{n}}}"))).await?;
        }
        Ok(())
    })
    .named("count")
}

#[tokio::test]
async fn emitted_frames_are_the_response() {
    let bytes = task(|cx: Context, text: String| async move {
        for word in text.split(' ') {
            cx.out().send(Bytes::from(word.to_owned())).await?;
        }
        Ok(())
    });
    let sum = task(|_, Json(numbers): Json<Vec<u32>>| async move { Ok(numbers.iter().sum::<u32>()) });
    let server = serve(
        Router::new()
            .route("/sse/{n}", get(sse(count())))
            .route("/ndjson/{n}", get(ndjson(count())))
            .route("/chunked", post(chunked("text/plain", bytes)))
            .route("/json", post(json(sum))),
    );
    let http = Http::default();
    let get = async |path: &str| {
        let answer = http.get(&format!("{}{path}", server.url)).await.unwrap();
        (answer.headers["content-type"].to_str().unwrap().to_owned(), answer.text().await.unwrap())
    };
    assert_eq!(
        get("/sse/2").await,
        ("text/event-stream".into(), "data: {\"n\":0}\n\ndata: {\"n\":1}\n\n".into())
    );
    assert_eq!(get("/ndjson/2").await, ("application/x-ndjson".into(), "{\"n\":0}\n{\"n\":1}\n".into()));
    let (_, failed) = get("/sse/9").await;
    assert!(failed.ends_with("data: {\"n\":6}\n\nevent: error\ndata: count: seven\n\n"), "{failed}");
    let (_, failed) = get("/ndjson/9").await;
    assert!(
        failed.ends_with("{\"n\":6}\n{\"error\":{\"code\":\"failed\",\"message\":\"count: seven\"}}\n"),
        "{failed}"
    );
    let post = |path: &str, body: &'static str| {
        let request = Request::new(Method::POST, format!("{}{path}", server.url)).body(body);
        http.send(
            request.header("content-type".parse().unwrap(), HeaderValue::from_static("application/json")),
        )
    };
    assert_eq!(post("/chunked", "one two").await.unwrap().text().await.unwrap(), "onetwo");
    assert_eq!(post("/json", "[1,2]").await.unwrap().json::<u32>().await.unwrap(), 3);
    assert_eq!(post("/json", "[1,").await.unwrap().status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_failure_before_the_first_frame_is_a_status_and_tells_no_secrets() {
    let broken = task(|_, (): ()| async { Err::<(), _>(Error::failed("password is 1234")) });
    let slow = task(|_, (): ()| std::future::pending::<flumen::flow::Result<()>>());
    let server = serve(
        Router::new()
            .route("/broken", get(sse(broken)))
            .route("/slow", get(json(slow)))
            .route("/at_once", get(json(task(|_, (): ()| async { Ok(1) })))),
    );
    let http = Http::default();
    let answer = http.get(&format!("{}/broken", server.url)).await.unwrap();
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!answer.text().await.unwrap().contains("1234"));
    let with_limit = |limit| {
        let request = Request::new(Method::GET, format!("{}/slow", server.url));
        http.send(request.header("x-request-timeout".parse().unwrap(), HeaderValue::from_static(limit)))
    };
    assert_eq!(with_limit("0.01").await.unwrap().status, StatusCode::GATEWAY_TIMEOUT);
    for limit in ["soon", "-1", "NaN", "1e300"] {
        assert_eq!(with_limit(limit).await.unwrap().status, StatusCode::BAD_REQUEST, "{limit}");
    }
    let endless = Request::new(Method::GET, format!("{}/at_once", server.url));
    let endless = endless.header("x-request-timeout".parse().unwrap(), HeaderValue::from_static("1e19"));
    assert_eq!(http.send(endless).await.unwrap().status, StatusCode::OK, "beyond what the clock can say");
}

#[tokio::test]
async fn the_context_knows_the_request() {
    let tell = task(|cx: Context, (): ()| async move {
        let request = cx.need::<RequestInfo>()?;
        let peer = request.peer.is_some_and(|peer| peer.ip().is_loopback());
        Ok(format!("{} {} {:?} {peer}", request.method, request.uri, cx.traceparent()))
    });
    let server = serve(Router::new().route("/tell", get(json(tell))));
    let request = Request::new(Method::GET, format!("{}/tell?x=1", server.url))
        .header("traceparent".parse().unwrap(), HeaderValue::from_static("00-1-2-01"));
    let told: String = Http::default().send(request).await.unwrap().json().await.unwrap();
    assert_eq!(told, "GET /tell?x=1 Some(\"00-1-2-01\") true");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_run() {
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alive);
    let endless = task(move |cx: Context, (): ()| {
        count.fetch_add(1, Relaxed);
        let alive = Alive(Arc::clone(&count));
        async move {
            let _alive = alive;
            loop {
                cx.out().send(Event::data("x".repeat(1000))).await?;
            }
            #[expect(unreachable_code, reason = "says what the task would come to")]
            Ok(())
        }
    });
    let server = serve(Router::new().route("/", get(sse(endless))));
    let mut answer = Http::default().get(&server.url).await.unwrap();
    answer.next().await.unwrap().unwrap();
    assert_eq!(alive.load(Relaxed), 1);
    drop(answer);
    eventually("the end of the run", || (alive.load(Relaxed) == 0).then_some(())).await;
}
