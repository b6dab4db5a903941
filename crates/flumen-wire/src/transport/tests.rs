use std::time::Duration;

use axum::response::IntoResponse;
use flumen_stream::{Cause, End, Event, Watermarks, log};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;

use super::*;

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn no_proxy_may_buffer_or_change_a_stream() {
    let response = Sse::new(stream::iter(["a"])).into_response();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    assert_eq!(text(response).await, "data: a\n\n");
}

#[tokio::test]
async fn frames_ready_together_leave_together_and_a_lone_frame_at_once() {
    let (mut writer, cursor) = log(Watermarks::new(1 << 20));
    let mut body = Batched::new(cursor.map(|item: Result<Event, End>| item.unwrap().into_wire()));
    let mut body = std::pin::Pin::new(&mut body);
    writer.push([Event::data("1"), Event::data("2")]);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\ndata: 2\n\n");
    let lone = Event::data("3");
    writer.push([lone.clone()]);
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame.as_ptr(), lone.wire().as_ptr(), "a frame of its own is not copied");
    writer.complete();
    assert!(body.frame().await.is_none());
    assert!(body.frame().await.is_none(), "an ended body stays ended");
}

#[tokio::test]
async fn an_error_is_said_and_ends_the_stream() {
    let items = stream::iter([Ok("a"), Err("it \n broke"), Ok("never")]);
    assert_eq!(
        text(Sse::new(items).into_response()).await,
        "data: a\n\nevent: error\ndata: it \ndata:  broke\n\n"
    );
}

#[tokio::test(start_paused = true)]
async fn heartbeat_is_a_comment_without_a_blank_line() {
    let quiet = stream::once(async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        "a"
    });
    assert_eq!(text(Sse::new(quiet).into_response()).await, ": ping\n: ping\ndata: a\n\n");
}

#[tokio::test]
async fn ndjson_is_one_value_a_line() {
    let response = Ndjson::new(stream::iter([serde_json::json!({"a": "x\ny"}), 1.into()])).into_response();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    assert_eq!(text(response).await, "{\"a\":\"x\\ny\"}\n1\n");
}

#[tokio::test]
async fn ndjson_of_a_log_names_the_cause_of_its_end() {
    let (mut writer, cursor) = log(Watermarks::new(1024));
    writer.push([Event::ping(), Event::data("{\n\"a\":1}")]);
    writer.fail(End::new(Cause::IdleTimeout, "silence"));
    assert_eq!(
        text(Ndjson::events(cursor)).await,
        "{ \"a\":1}\n{\"error\":{\"code\":\"idle_timeout\",\"message\":\"silence\"}}\n"
    );
}

#[tokio::test]
async fn an_error_cuts_chunked_bytes_short() {
    let items = stream::iter([Ok("a"), Err(std::io::Error::other("x")), Ok("never")]);
    let mut body = Chunked::new(items).into_response().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());
}
