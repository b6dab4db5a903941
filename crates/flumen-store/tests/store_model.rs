//! The store, its writers and its readers under the model checker: many interleavings of small programs.
//! Run with `cargo test -p flumen-store --features shuttle --test store_model`.
#![cfg(feature = "shuttle")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use flumen_store::{About, Ending, Limits, MemoryStore, Producer, Reader, Refused, State, Store, StreamId};
use flumen_stream::{Cause, Watermarks};
use shuttle::{check_dfs, check_pct, check_random, future::block_on, future::spawn};

const RANDOM_RUNS: usize = 10_000;
const EXHAUSTIVE_RUNS: usize = 50_000;

const ID: StreamId = StreamId::from_u128(7);

fn all_ways(program: fn()) {
    check_dfs(program, Some(EXHAUSTIVE_RUNS));
    check_random(program, RANDOM_RUNS);
    check_pct(program, RANDOM_RUNS, 3);
}

fn store(retention: Duration) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Limits { retention, ..Limits::default() }))
}

async fn begin(store: &Arc<dyn Store>) -> Producer {
    let text = || String::new();
    let about = About { owner: text(), dialect: text(), model: text(), created: UNIX_EPOCH };
    Producer::create(store, ID, about).await.unwrap()
}

fn frame(writer: u8, n: u8) -> Bytes {
    Bytes::copy_from_slice(&[writer, n])
}

/// Reads to the end, through a cut after every `cut` frames; checks that numbers neither jump nor repeat.
async fn read(store: Arc<dyn Store>, cut: usize) -> Result<(Vec<Bytes>, Option<Ending>), Refused> {
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let mut reader = Reader::attach(&store, ID, after)?;
        for _ in 0..cut {
            match reader.next().await {
                Some(Ok(item)) => {
                    assert_eq!(item.at.seq, after + 1, "no gap, no duplicate");
                    after += 1;
                    seen.push(item.frame);
                }
                Some(Err(refused)) => return Err(refused),
                None => return Ok((seen, reader.ending())),
            }
        }
    }
}

#[test]
fn readers_that_come_and_go_see_everything_once_and_the_end() {
    all_ways(|| {
        let store = store(Duration::from_mins(1));
        block_on(async {
            let mut producer = begin(&store).await;
            let readers = [spawn(read(Arc::clone(&store), 1)), spawn(read(Arc::clone(&store), 9))];
            let writing = spawn(async move {
                for n in 0..3 {
                    producer.append(vec![frame(1, n)]).await.unwrap();
                }
                producer.end(Ending::of(Cause::Complete)).await.unwrap();
            });
            for reader in readers {
                let (seen, ending) = reader.await.unwrap().unwrap();
                assert_eq!(seen, (0..3).map(|n| frame(1, n)).collect::<Vec<_>>());
                assert_eq!(ending.unwrap().state, State::Done);
            }
            writing.await.unwrap();
        });
    });
}

#[test]
fn of_two_writers_one_ends_the_stream_and_nothing_is_mixed() {
    all_ways(|| {
        let store = store(Duration::from_mins(1));
        block_on(async {
            let mut old = begin(&store).await;
            let reading = spawn(read(Arc::clone(&store), 2));
            let first = spawn(async move {
                for n in 0..3 {
                    if old.append(vec![frame(1, n)]).await.is_err() {
                        return (n, false);
                    }
                }
                (3, old.end(Ending::of(Cause::Complete)).await.is_ok())
            });
            let taking = Arc::clone(&store);
            let second = spawn(async move {
                let Ok(mut new) = Producer::take_over(&taking, ID).await else { return false };
                new.append(vec![frame(2, 0)]).await.unwrap();
                new.end(Ending::LOST).await.unwrap();
                true
            });
            let (written, first_ended) = first.await.unwrap();
            let second_ended = second.await.unwrap();
            assert!(first_ended != second_ended, "one end");
            let (seen, ending) = reading.await.unwrap().unwrap();
            let mut expected: Vec<_> = (0..written).map(|n| frame(1, n)).collect();
            if second_ended {
                expected.push(frame(2, 0));
            }
            assert_eq!(seen, expected);
            assert_eq!(ending.unwrap().state, if first_ended { State::Done } else { State::Lost });
        });
    });
}

#[test]
fn expiry_ends_readers_and_strands_nobody() {
    all_ways(|| {
        let store = store(Duration::ZERO);
        block_on(async {
            let mut producer = begin(&store).await;
            let reading = spawn(read(Arc::clone(&store), 1));
            let expiring = Arc::clone(&store);
            let expiry = spawn(async move { expiring.expire().await.unwrap() });
            producer.append(vec![frame(1, 0)]).await.unwrap();
            producer.append(vec![frame(1, 1)]).await.unwrap();
            producer.end(Ending::of(Cause::Complete)).await.unwrap();
            store.expire().await.unwrap();
            expiry.await.unwrap();
            match reading.await.unwrap() {
                Ok((seen, _)) => assert_eq!(seen, [frame(1, 0), frame(1, 1)]),
                Err(refused) => assert_eq!(refused, Refused::Unknown),
            }
        });
    });
}

#[test]
fn a_paced_writer_and_a_reader_that_is_cut_never_wait_for_each_other() {
    all_ways(|| {
        let store = store(Duration::from_mins(1));
        block_on(async {
            let mut producer = begin(&store).await.paced(Some(Watermarks::at(4, 0)));
            let reading = spawn(read(Arc::clone(&store), 2));
            for n in 0..5 {
                std::future::poll_fn(|cx| producer.poll_ready(cx)).await;
                producer.append(vec![frame(1, n)]).await.unwrap();
            }
            producer.end(Ending::of(Cause::Complete)).await.unwrap();
            assert_eq!(reading.await.unwrap().unwrap().0.len(), 5);
        });
    });
}
