//! The writer waits for the fastest reader, and not for ever.

use std::{future::poll_fn, time::Duration};

use flumen_store::{Limits, Producer, Reader, Unwanted};
use flumen_stream::Watermarks;
use futures_util::FutureExt;
use tokio::time::{Instant, advance};

use crate::support::{begin, frames, memory};

fn ready(producer: &mut Producer) -> bool {
    poll_fn(|cx| producer.poll_ready(cx)).now_or_never().is_some()
}

fn unwanted(producer: &mut Producer) -> Option<Unwanted> {
    poll_fn(|cx| producer.poll_unwanted(cx)).now_or_never()
}

async fn take(reader: &mut Reader, count: usize) {
    for _ in 0..count {
        reader.next().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_fastest_reader_sets_the_pace() {
    let store = memory(Limits::default());
    let mut producer = begin(&store).await.paced(Some(Watermarks::at(1000, 500)));
    let (mut fast, slow) = (
        Reader::attach(&store, producer.id(), 0).unwrap(),
        Reader::attach(&store, producer.id(), 0).unwrap(),
    );
    for round in 0..10 {
        assert!(ready(&mut producer), "round {round}");
        producer.append(frames(round * 30 + 1..=round * 30 + 30)).await.unwrap();
        assert!(!ready(&mut producer));
        take(&mut fast, 30).await;
    }
    drop(fast);
    producer.append(frames(301..=330)).await.unwrap();
    assert!(!ready(&mut producer), "the slow one reads alone now");
    drop(slow);
    assert!(ready(&mut producer), "without readers there is nobody to wait for");
}

#[tokio::test(start_paused = true)]
async fn without_readers_it_is_wanted_for_the_grace_only() {
    let store = memory(Limits::default());
    let mut producer = begin(&store).await.grace(Duration::from_secs(30));
    advance(Duration::from_secs(29)).await;
    assert_eq!(unwanted(&mut producer), None);
    let reader = Reader::attach(&store, producer.id(), 0).unwrap();
    advance(Duration::from_mins(5)).await;
    assert_eq!(unwanted(&mut producer), None);
    drop(reader);
    let start = Instant::now();
    assert_eq!(poll_fn(|cx| producer.poll_unwanted(cx)).await, Unwanted::Abandoned);
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn readers_that_are_sent_away_no_longer_count() {
    let store = memory(Limits::default());
    let mut producer =
        begin(&store).await.grace(Duration::from_secs(30)).paced(Some(Watermarks::at(1000, 500)));
    let mut reader = Reader::attach(&store, producer.id(), 0).unwrap();
    producer.append(frames(1..=100)).await.unwrap();
    assert!(!ready(&mut producer));
    producer.dismiss();
    assert!(ready(&mut producer) && reader.is_dismissed() && producer.attendance().readers() == 0);
    assert!(reader.next().await.is_none());
    assert_eq!(poll_fn(|cx| producer.poll_unwanted(cx)).await, Unwanted::Abandoned);
}

#[tokio::test]
async fn stopping_reaches_the_writer_while_it_waits() {
    let store = memory(Limits::default());
    let mut producer = begin(&store).await;
    let attendance = store.attendance(producer.id()).unwrap();
    let writing = tokio::spawn(async move { poll_fn(|cx| producer.poll_unwanted(cx)).await });
    tokio::task::yield_now().await;
    attendance.stop();
    assert_eq!(writing.await.unwrap(), Unwanted::Stopped);
}

#[tokio::test]
async fn a_full_stream_waits_until_half_of_it_was_read() {
    let store = memory(Limits { stream: 8 << 10, budget: 1 << 20, ..Limits::default() });
    let mut producer = begin(&store).await;
    let noise: Vec<bytes::Bytes> = (0..40_u32)
        .map(|n| (0..1000_u32).map(|m| (m * m * (n + 3) + m / 7 * n).to_le_bytes()[1]).collect())
        .collect();
    producer.append(noise).await.unwrap();
    assert!(!ready(&mut producer));
    let mut reader = Reader::attach(&store, producer.id(), 0).unwrap();
    take(&mut reader, 16).await;
    assert!(!ready(&mut producer));
    take(&mut reader, 24).await;
    assert!(ready(&mut producer));
}

#[tokio::test(start_paused = true)]
async fn sending_readers_away_where_there_are_none_does_not_prolong_the_grace() {
    let store = memory(Limits::default());
    let mut producer = begin(&store).await.grace(Duration::from_secs(30));
    let start = Instant::now();
    advance(Duration::from_secs(20)).await;
    producer.dismiss();
    assert_eq!(poll_fn(|cx| producer.poll_unwanted(cx)).await, Unwanted::Abandoned);
    assert_eq!(start.elapsed().as_secs(), 30);
}
