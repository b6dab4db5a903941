use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_rpc::ttheader::{Frame, Kind, Limits};

use super::server::{Server, soon};

#[tokio::test]
async fn streams_of_one_connection_run_beside_each_other() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    // Ids may be negative.
    let ids: Vec<i32> = (-50..50).filter(|id| *id != 0).collect();
    for &id in &ids {
        raw.begin(id, "Echo").await;
    }
    for round in 0..20 {
        for &id in &ids {
            raw.data(id, format!("{id} {round}")).await;
        }
    }
    for &id in &ids {
        raw.close(id).await;
    }
    let mut by_stream = BTreeMap::<i32, Vec<Frame>>::new();
    let mut ended = 0;
    while ended < ids.len() {
        let frame = soon(raw.next()).await.unwrap();
        ended += usize::from(frame.kind() == Some(Kind::Trailer));
        by_stream.entry(frame.id).or_default().push(frame);
    }
    for (id, frames) in by_stream {
        assert_eq!(frames.len(), 22);
        assert_eq!((frames[0].kind(), &*frames[0].method()), (Some(Kind::Header), "Echo"));
        for (round, frame) in frames[1..21].iter().enumerate() {
            assert_eq!((frame.kind(), &frame.payload), (Some(Kind::Data), &format!("{id} {round}").into()));
        }
    }
}

#[tokio::test]
async fn a_reset_ends_its_stream_only() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    raw.begin(1, "Wait").await;
    raw.begin(2, "Echo").await;
    assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
    assert_eq!(soon(raw.next()).await.unwrap().payload, "waiting");
    raw.send(&Frame::of_stream(1, Kind::Reset, "Wait", [("ttscp", "a,b")], Bytes::new())).await;
    let cancel = soon(server.dropped.recv()).await.unwrap().unwrap();
    assert_eq!((cancel.wire, &*cancel.reason), (Some(13), "rst"));
    assert_eq!(cancel.path, ["a", "b"]);
    // What is still under way for it is ignored, and so is what is for nobody.
    raw.data(1, "late").await;
    raw.close(1).await;
    raw.data(77, "stray").await;
    raw.data(2, "on").await;
    raw.close(2).await;
    let frames = soon(raw.whole(2)).await;
    assert_eq!(frames[1], (Kind::Data, "on".into()));
}

#[tokio::test]
async fn a_number_can_be_used_again() {
    let mut server = Server::start().await;
    let mut raw = server.raw().await;
    for _ in 0..3 {
        raw.begin(9, "Wait").await;
        assert_eq!(soon(raw.next()).await.unwrap().kind(), Some(Kind::Header));
        assert_eq!(soon(raw.next()).await.unwrap().payload, "waiting");
        raw.send(&Frame::of_stream(9, Kind::Reset, "Wait", [], Bytes::new())).await;
        soon(server.dropped.recv()).await.unwrap().unwrap();
    }
    raw.begin(9, "Echo").await;
    raw.close(9).await;
    assert_eq!(soon(raw.whole(9)).await.len(), 2);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let server = Server::with(Limits { streams: 2, ..Limits::default() }).await;
    let mut raw = server.raw().await;
    raw.begin(1, "Echo").await;
    raw.begin(2, "Echo").await;
    raw.begin(3, "Echo").await;
    let frames = soon(raw.whole(3)).await;
    assert_eq!(frames[1].0, Kind::Trailer);
    assert!(frames[1].1.windows(8).any(|text| text == b"too many"));
    raw.close(1).await;
    soon(raw.whole(1)).await;
    // A handler that has answered may be a moment longer in the books.
    loop {
        raw.begin(4, "Echo").await;
        raw.close(4).await;
        if soon(raw.whole(4)).await[1].1.is_empty() {
            break;
        }
    }
}

#[tokio::test]
async fn a_meta_frame_is_nothing_to_anybody() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    raw.send(&Frame::of_stream(1, Kind::Meta, "Echo", [], Bytes::new())).await;
    raw.begin(1, "Echo").await;
    raw.send(&Frame::of_stream(1, Kind::Meta, "Echo", [], Bytes::new())).await;
    raw.close(1).await;
    assert_eq!(soon(raw.whole(1)).await.len(), 2);
}
