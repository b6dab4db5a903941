//! The log under the model checker: every interleaving of small programs, and many random ones of larger programs.
//! Run with `cargo test -p flumen-stream --features shuttle --test log_model`.
#![cfg(feature = "shuttle")]

use bytes::Bytes;
use flumen_stream::{Cause, Closed, Cursor, End, Watermarks, Writer, log};
use shuttle::{check_dfs, check_pct, check_random, future::block_on, future::spawn};

const RANDOM_RUNS: usize = 20_000;
const EXHAUSTIVE_RUNS: usize = 200_000;

fn frame(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n])
}

/// A log that pauses after two frames of one byte and goes on when it is empty.
fn tiny() -> (Writer<Bytes>, Cursor<Bytes>) {
    log(Watermarks::at(2, 0))
}

async fn write(mut writer: Writer<Bytes>, frames: u8) {
    for n in 0..frames {
        if writer.append(frame(n)).await == Err(Closed) {
            return;
        }
    }
    writer.complete();
}

async fn read_all(mut cursor: Cursor<Bytes>, frames: u8) {
    for n in 0..frames {
        assert_eq!(cursor.next().await.unwrap().unwrap()[0], n, "in order, without gap or duplicate");
    }
    assert!(cursor.next().await.is_none());
}

fn all_ways(program: fn()) {
    check_dfs(program, Some(EXHAUSTIVE_RUNS));
    check_random(program, RANDOM_RUNS);
    check_pct(program, RANDOM_RUNS, 3);
}

#[test]
fn every_frame_arrives_once_and_no_wake_is_lost() {
    all_ways(|| {
        let (writer, cursor) = tiny();
        let writing = spawn(write(writer, 4));
        block_on(read_all(cursor, 4));
        block_on(writing).unwrap();
    });
}

#[test]
fn two_cursors_see_the_same() {
    all_ways(|| {
        let (writer, one) = tiny();
        let two = one.clone();
        let writing = spawn(write(writer, 3));
        let reading = spawn(read_all(two, 3));
        block_on(read_all(one, 3));
        block_on(reading).unwrap();
        block_on(writing).unwrap();
    });
}

#[test]
fn a_reader_that_leaves_never_strands_the_writer() {
    all_ways(|| {
        let (writer, mut cursor) = tiny();
        let writing = spawn(write(writer, 5));
        block_on(async {
            cursor.next().await.unwrap().unwrap();
            drop(cursor);
            writing.await.unwrap();
        });
    });
}

fn ends_with(end: fn(Writer<Bytes>), cause: Cause) {
    let (mut writer, mut cursor) = tiny();
    let writing = spawn(async move {
        writer.append(frame(0)).await.unwrap();
        end(writer);
    });
    block_on(async {
        assert!(cursor.next().await.unwrap().is_ok());
        assert_eq!(cursor.next().await.unwrap().unwrap_err().cause, cause);
        assert!(cursor.next().await.is_none());
        writing.await.unwrap();
    });
}

#[test]
fn a_writer_that_fails_or_is_lost_never_strands_the_reader() {
    all_ways(|| ends_with(|writer| writer.fail(End::new(Cause::Stopped, "stop")), Cause::Stopped));
    all_ways(|| ends_with(drop, Cause::Internal));
}

#[test]
fn closed_is_seen_while_waiting_and_while_paused() {
    all_ways(|| {
        let (mut writer, cursor) = tiny();
        let second = cursor.clone();
        writer.push([frame(0), frame(1)]);
        let leaving = spawn(async move { drop(cursor) });
        let leaving_too = spawn(async move { drop(second) });
        block_on(async {
            writer.closed().await;
            assert_eq!(writer.ready().await, Err(Closed));
            leaving.await.unwrap();
            leaving_too.await.unwrap();
        });
    });
}
