use std::{pin::pin, task::Context};

use futures_util::FutureExt;

use super::*;
use crate::Cause;

fn frame(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

fn small() -> (Writer<Bytes>, Cursor<Bytes>) {
    log(Watermarks::new(100))
}

#[tokio::test]
async fn writer_waits_at_the_high_mark_until_the_low_mark() {
    let (mut writer, mut cursor) = small();
    for _ in 0..8 {
        writer.append(frame(10)).now_or_never().unwrap().unwrap();
    }
    assert_eq!((writer.pressure(), writer.lag()), (Pressure::Paused, 80));
    let mut append = Box::pin(writer.append(frame(10)));
    assert!(append.as_mut().now_or_never().is_none());
    assert_eq!(cursor.next().await.unwrap().unwrap().len(), 10);
    append.await.unwrap();
}

#[tokio::test]
async fn a_cancelled_append_appends_nothing() {
    let (mut writer, mut cursor) = small();
    writer.append(frame(100)).await.unwrap();
    assert!(writer.append(frame(7)).now_or_never().is_none());
    assert_eq!(cursor.next().await.unwrap().unwrap().len(), 100);
    writer.append(frame(3)).await.unwrap();
    writer.complete();
    assert_eq!(cursor.next().await.unwrap().unwrap().len(), 3);
    assert!(cursor.next().await.is_none());
    assert!(cursor.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_writer_is_an_error_not_an_end() {
    let (mut writer, mut cursor) = small();
    writer.append(frame(1)).await.unwrap();
    drop(writer);
    assert!(cursor.next().await.unwrap().is_ok());
    assert_eq!(cursor.next().await.unwrap().unwrap_err().cause, Cause::Internal);
    assert!(cursor.next().await.is_none());
}

#[tokio::test]
async fn the_cause_of_the_end_reaches_every_cursor() {
    let (writer, mut one) = small();
    let mut two = writer.cursor();
    writer.fail(End::new(Cause::IdleTimeout, "silence"));
    for cursor in [&mut one, &mut two] {
        assert_eq!(cursor.next().await.unwrap().unwrap_err().cause, Cause::IdleTimeout);
    }
}

#[tokio::test]
async fn the_last_reader_leaving_wakes_a_waiting_writer() {
    let (mut writer, cursor) = small();
    let second = cursor.clone();
    writer.append(frame(100)).await.unwrap();
    let waiting = tokio::spawn(async move { writer.append(frame(1)).await });
    tokio::task::yield_now().await;
    drop(cursor);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(second);
    assert_eq!(waiting.await.unwrap(), Err(Closed));
}

#[tokio::test]
async fn the_slowest_of_two_cursors_holds_the_writer() {
    let (mut writer, mut fast) = small();
    let mut slow = writer.cursor();
    writer.append(frame(90)).await.unwrap();
    assert_eq!(fast.next().await.unwrap().unwrap().len(), 90);
    assert!(writer.ready().now_or_never().is_none());
    assert_eq!(slow.next().await.unwrap().unwrap().len(), 90);
    assert!(writer.ready().now_or_never().is_some());
    assert_eq!((writer.lag(), writer.taken()), (0, 90));
}

#[tokio::test]
async fn dropping_the_slow_cursor_frees_the_writer() {
    let (mut writer, mut fast) = small();
    let slow = fast.clone();
    writer.append(frame(90)).await.unwrap();
    fast.next().await.unwrap().unwrap();
    assert_eq!(writer.pressure(), Pressure::Paused);
    drop(slow);
    assert_eq!((writer.pressure(), writer.lag()), (Pressure::Flowing, 0));
}

#[tokio::test]
async fn frames_that_are_ready_together_are_taken_together() {
    let (mut writer, mut cursor) = log(Watermarks::new(1 << 20));
    writer.push((0..100).map(|_| frame(1024)));
    let first = cursor.next().await.unwrap().unwrap();
    assert_eq!(first.len(), 1024);
    assert_eq!(
        writer.taken(),
        Cursor::<Bytes>::BATCH as u64,
        "one batch is taken under one lock, and no more"
    );
}

#[tokio::test]
async fn a_clone_goes_on_from_the_same_place() {
    let (mut writer, mut cursor) = small();
    for len in 1..=4 {
        writer.append(frame(len)).await.unwrap();
    }
    assert_eq!(cursor.next().await.unwrap().unwrap().len(), 1);
    let mut copy = cursor.clone();
    writer.append(frame(5)).await.unwrap();
    writer.complete();
    for reader in [&mut cursor, &mut copy] {
        for len in 2..=5 {
            assert_eq!(reader.next().await.unwrap().unwrap().len(), len);
        }
        assert!(reader.next().await.is_none());
    }
}

#[tokio::test]
async fn a_reader_in_another_task_is_woken() {
    let (mut writer, mut cursor) = small();
    let reader = tokio::spawn(async move {
        let mut total = 0;
        while let Some(frame) = cursor.next().await {
            total += frame.unwrap().len();
        }
        total
    });
    for _ in 0..1000 {
        writer.append(frame(33)).await.unwrap();
    }
    writer.complete();
    assert_eq!(reader.await.unwrap(), 33_000);
}

#[test]
fn ready_shows_a_frame_without_taking_it() {
    let (mut writer, mut cursor) = small();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(pin!(cursor.ready()).as_mut().poll(&mut cx).is_pending());
    writer.push([frame(1)]);
    assert_eq!(cursor.ready().now_or_never(), Some(true));
    assert!(cursor.next().now_or_never().unwrap().unwrap().is_ok());
    writer.complete();
    assert_eq!(cursor.ready().now_or_never(), Some(false));
    assert!(cursor.next().now_or_never().unwrap().is_none());
}

#[tokio::test]
async fn an_account_shared_by_logs_holds_their_bytes_and_comes_back_to_zero() {
    let account = std::sync::Arc::new(AtomicUsize::new(0));
    let (mut one, mut reader) = log_in(Watermarks::new(100), account.clone());
    let (mut two, other) = log_in(Watermarks::new(100), account.clone());
    one.push([frame(10), frame(20)]);
    two.push([frame(5)]);
    assert_eq!(account.load(Relaxed), 35);
    reader.next().await.unwrap().unwrap();
    assert_eq!(account.load(Relaxed), 5, "a batch is out of the log once it is taken");
    one.push([frame(7)]);
    drop((reader, other, one, two));
    assert_eq!(account.load(Relaxed), 0);
}
