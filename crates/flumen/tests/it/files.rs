//! Files over HTTP: downloads and uploads that go on where they broke off, tails, and nothing outside of the root.

use std::{io::Write, path::Path};

use flumen::{
    Bytes, Router,
    axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    files::{Root, UploadLimits, downloads, tails, uploads},
    futures_util::{StreamExt, stream},
    task::http::{Http, Request, Response},
};

use crate::support::{Served, serve};

fn start(dir: &Path) -> Served {
    let root = Root::open(dir).unwrap();
    let limits = UploadLimits { size: 1_000_000, ..UploadLimits::default() };
    let router: Router =
        downloads(root.clone()).merge(uploads("/uploads", root.clone(), limits)).merge(tails(root));
    serve(router)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
        (name.parse().unwrap(), value.parse().unwrap())
    };
    pairs.iter().map(pair).collect()
}

async fn ask(method: Method, url: String, pairs: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
    let request = Request { headers: headers(pairs), ..Request::new(method, url).body(body) };
    Http::default().send(request).await.unwrap()
}

#[tokio::test]
async fn downloads_go_on_where_they_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(dir.path().join("big.bin"), &content).unwrap();
    let server = start(dir.path());
    let get = async |pairs: &[(&str, &str)]| {
        let answer = ask(Method::GET, format!("{}/big.bin", server.url), pairs, "").await;
        (answer.status.as_u16(), answer.headers.clone(), answer.bytes(1 << 20).await.unwrap())
    };
    let (status, seen, whole) = get(&[]).await;
    assert_eq!((status, &whole[..]), (200, &content[..]));
    assert_eq!(
        (&seen["accept-ranges"], &seen["content-type"]),
        (&"bytes".parse().unwrap(), &"application/octet-stream".parse().unwrap())
    );
    let tag = seen["etag"].to_str().unwrap().to_owned();
    let (status, seen, rest) = get(&[("range", "bytes=100000-"), ("if-range", &tag)]).await;
    assert_eq!((status, &rest[..]), (206, &content[100_000..]));
    assert_eq!(seen["content-range"], "bytes 100000-299999/300000");
    let (status, seen, _) = get(&[("range", "bytes=300000-")]).await;
    assert_eq!((status, seen["content-range"].to_str().unwrap()), (416, "bytes */300000"));
    assert_eq!(get(&[("if-none-match", &tag)]).await.0, 304);
    // The file changes: what was half downloaded of the old one must not be completed with the new one.
    std::fs::write(dir.path().join("big.bin"), "new").unwrap();
    let (status, _, body) = get(&[("range", "bytes=1-"), ("if-range", &tag)]).await;
    assert_eq!((status, &body[..]), (200, &b"new"[..]));
    let head = ask(Method::HEAD, format!("{}/big.bin", server.url), &[], "").await;
    assert_eq!(head.headers["content-length"], "3");
    assert!(head.bytes(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_outside_of_the_root_is_found() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let server = start(dir.path());
    let secret = format!("/..%2f{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    for path in [
        "/nothing",
        "/sub",
        "/out/secret",
        "/%2e%2e/secret",
        "/a%00b",
        &secret,
        "/tail?file=../secret",
        "/tail?file=out/secret",
    ] {
        let answer = ask(Method::GET, format!("{}{path}", server.url), &[], "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        let text = answer.text().await.unwrap();
        assert_eq!(text, r#"{"error":{"code":"not_found","message":"Not Found"}}"#, "{path}");
    }
}

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const OCTETS: (&str, &str) = ("content-type", "application/offset+octet-stream");

#[tokio::test]
async fn uploads_go_on_where_they_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 241) as u8).collect();
    let made =
        ask(Method::POST, format!("{}/uploads", server.url), &[TUS, ("upload-length", "700000")], "").await;
    assert_eq!(made.status, StatusCode::CREATED);
    let at = made.headers["location"].to_str().unwrap();
    let url = format!("{}{at}", server.url);
    let offset = async || {
        let state = ask(Method::HEAD, url.clone(), &[TUS], "").await;
        assert_eq!(
            (&state.headers["upload-length"], state.status),
            (&"700000".parse().unwrap(), StatusCode::OK)
        );
        state.headers["upload-offset"].to_str().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(offset().await, 0);
    // The connection breaks after 400,000 bytes.
    let pieces = vec![Ok(Bytes::from(content[..400_000].to_vec())), Err(std::io::Error::other("cut"))];
    let request = Request {
        headers: headers(&[TUS, OCTETS, ("upload-offset", "0")]),
        ..Request::new(Method::PATCH, &url)
    };
    assert!(Http::default().send_streaming(request, stream::iter(pieces)).await.is_err());
    let mut kept = offset().await;
    while kept < 400_000 {
        tokio::task::yield_now().await;
        kept = offset().await;
    }
    let wrong = ask(Method::PATCH, url.clone(), &[TUS, OCTETS, ("upload-offset", "7")], "x").await;
    assert_eq!(wrong.status, StatusCode::CONFLICT);
    let rest = content[kept..].to_vec();
    let done =
        ask(Method::PATCH, url.clone(), &[TUS, OCTETS, ("upload-offset", &kept.to_string())], rest).await;
    assert_eq!(
        (done.status, &done.headers["upload-offset"]),
        (StatusCode::NO_CONTENT, &"700000".parse().unwrap())
    );
    let id = at.rsplit('/').next().unwrap();
    assert_eq!(std::fs::read(dir.path().join(id)).unwrap(), content);
    assert_eq!(ask(Method::DELETE, url.clone(), &[TUS], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(ask(Method::HEAD, url, &[TUS], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn faulty_uploads_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let base = format!("{}/uploads", server.url);
    let status = async |method: Method, url: &str, pairs: &[(&str, &str)], body: &'static str| {
        ask(method, url.to_owned(), pairs, body).await.status.as_u16()
    };
    assert_eq!(status(Method::POST, &base, &[("upload-length", "1")], "").await, 412);
    assert_eq!(status(Method::POST, &base, &[TUS], "").await, 400);
    assert_eq!(status(Method::POST, &base, &[TUS, ("upload-length", "1000001")], "").await, 413);
    assert_eq!(status(Method::HEAD, &format!("{base}/..%2fx"), &[TUS], "").await, 404);
    let made = ask(Method::POST, base.clone(), &[TUS, ("upload-length", "3")], "").await;
    let url = format!("{}{}", server.url, made.headers["location"].to_str().unwrap());
    assert_eq!(status(Method::PATCH, &url, &[TUS, ("upload-offset", "0")], "abc").await, 415);
    assert_eq!(status(Method::PATCH, &url, &[TUS, OCTETS, ("upload-offset", "0")], "abcd").await, 413);
    assert_eq!(status(Method::PATCH, &url, &[TUS, OCTETS, ("upload-offset", "0")], "abc").await, 204);
    let options = ask(Method::OPTIONS, base, &[], "").await;
    assert_eq!(options.headers["tus-extension"], "creation,termination");
}

#[tokio::test]
async fn a_tail_is_a_stream_of_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let server = start(dir.path());
    let answer = ask(Method::GET, format!("{}/tail?file=app.log&from=start", server.url), &[], "").await;
    let mut events = answer.ok().unwrap().events();
    let mut next = async || events.next().await.unwrap().unwrap().payload().into_owned();
    assert_eq!((next().await, next().await), (b"one".to_vec(), b"two".to_vec()));
    std::fs::File::options().append(true).open(&path).unwrap().write_all(b"three\n").unwrap();
    assert_eq!(next().await, b"three");
}

#[tokio::test]
async fn two_senders_of_one_upload_do_not_write_over_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let made = ask(Method::POST, format!("{}/uploads", server.url), &[TUS, ("upload-length", "6")], "").await;
    let at = made.headers["location"].to_str().unwrap();
    let (url, from_start) = (format!("{}{at}", server.url), [TUS, OCTETS, ("upload-offset", "0")]);
    let (send, receive) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(1);
    let slow = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    let request = Request { headers: headers(&from_start), ..Request::new(Method::PATCH, &url) };
    let first = tokio::spawn(async move { Http::default().send_streaming(request, slow).await.unwrap() });
    send.send(Ok("abc".into())).await.unwrap();
    // The first is known to be there once the upload is taken.
    let mut second = ask(Method::DELETE, format!("{url}x"), &[TUS], "").await.status;
    assert_eq!(second, StatusCode::NOT_FOUND);
    while second != StatusCode::LOCKED {
        tokio::task::yield_now().await;
        second = ask(Method::PATCH, url.clone(), &from_start, "").await.status;
    }
    assert_eq!(ask(Method::PATCH, url.clone(), &from_start, "XYZXYZ").await.status, StatusCode::LOCKED);
    assert_eq!(ask(Method::DELETE, url.clone(), &[TUS], "").await.status, StatusCode::LOCKED);
    send.send(Ok("def".into())).await.unwrap();
    drop(send);
    assert_eq!(first.await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(std::fs::read(dir.path().join(at.rsplit('/').next().unwrap())).unwrap(), b"abcdef");
}
