use std::time::Duration;

use bytes::Bytes;
use flumen_wire::client::{Body, ErrorKind as WireKind};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::*;
use crate::{Call, Client, Reconnect};

type Pieces = BoxStream<'static, (u64, Result<&'static str, &'static str>)>;

/// A stream whose connection is open and brings these pieces, each after so many seconds.
fn open(call: Call, pieces: Pieces) -> EventStream {
    let mut events = call.stream();
    let body = Body::local(pieces.then(|(seconds, piece)| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let broken = |message| flumen_wire::client::Error::new(WireKind::Truncated, message);
        piece.map(|text| Bytes::from_static(text.as_bytes())).map_err(broken)
    }));
    events.tally.connect(events.ladder.current(), false);
    events.answered = true;
    events.state = State::Open(Link::local(body));
    events
}

fn pieces<const N: usize>(pieces: [(u64, &'static str); N]) -> Pieces {
    stream::iter(pieces.map(|(seconds, text)| (seconds, Ok(text)))).boxed()
}

fn call() -> Call {
    Client::new("http://127.0.0.1:9").unwrap().post("/v1/x", "{}").idle(Some(Duration::from_mins(1)))
}

#[test]
fn a_stream_can_be_sent_to_another_thread() {
    fn is_send<T: Send + Unpin>() {}
    is_send::<EventStream>();
    is_send::<JsonStream<u32>>();
}

#[tokio::test(start_paused = true)]
async fn comments_are_signs_of_life() {
    let mut events = open(
        call(),
        pieces([(50, ": ping\n"), (50, ": ping\n"), (50, "data: a\n"), (50, "\n"), (61, "data: b\n\n")]),
    );
    assert_eq!(&*events.next().await.unwrap().unwrap().event.payload(), b"a");
    let started = Instant::now();
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), started.elapsed()), (ErrorKind::Idle, Duration::from_mins(1)));
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_reads_is_no_silence() {
    let mut events = open(call(), pieces([(1, "data: a\n\n"), (50, "data: b\n\ndata: [DONE]\n\n")]));
    events.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_mins(10)).await;
    // The piece is made when it is asked for.
    assert_eq!(&*events.next().await.unwrap().unwrap().event.payload(), b"b");
    assert_eq!(events.stats().largest_gap, Duration::from_secs(650));
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_timeout_one_waits() {
    let mut events = open(call().idle(None), pieces([(1_000_000, "data: a\n\n")]));
    assert!(events.next().await.unwrap().is_ok());
    assert_eq!(events.stats().events, 1);
}

#[tokio::test(start_paused = true)]
async fn the_wait_before_the_next_connection_is_the_servers() {
    let asked = Client::new("http://127.0.0.1:9").unwrap().get("/").reconnect(Reconnect::default());
    let cut = stream::iter([(0, Ok("retry: 7000\ndata: a\n\n")), (0, Err("cut"))]).boxed();
    let mut events = open(asked, cut);
    events.next().await.unwrap().unwrap();
    let started = Instant::now();
    poll_fn(|cx| {
        let polled = events.poll_event(cx);
        if matches!(events.state, State::Waiting(_)) && started.elapsed() < Duration::from_secs(7) {
            assert!(polled.is_pending());
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
    assert_eq!(started.elapsed().as_secs(), 7);
    assert_eq!((events.stats().connections, events.stats().resumes), (2, 1));
}
