//! What every store promises. A new store is one line in `every_store`.

use std::{sync::Arc, time::Duration};

use flumen_store::{Batch, Ending, Limits, Producer, Reader, Refused, Room, State, Store, Tenure};
use flumen_stream::Cause;
use proptest::prelude::*;

use crate::support::{about, begin, disk, frame, frames, id, memory, numbered, rest};

/// Runs a test against each store.
async fn every_store<F: AsyncFn(Arc<dyn Store>)>(limits: Limits, test: F) {
    test(memory(limits)).await;
    let folder = tempfile::tempdir().unwrap();
    test(disk(folder.path(), limits)).await;
}

async fn each<F: AsyncFn(Arc<dyn Store>)>(test: F) {
    every_store(Limits::default(), test).await;
}

fn batch(first: u64, count: u64) -> Batch {
    Batch { first, frames: frames(first..=first + count - 1), read: 0 }
}

const DONE: Ending = Ending::of(Cause::Complete);

#[tokio::test]
async fn every_frame_is_read_once_and_in_order_from_every_place() {
    each(async |store| {
        let mut producer = begin(&store).await;
        let id = producer.id();
        for n in 0..50 {
            producer.append(frames(n * 20 + 1..=n * 20 + 20)).await.unwrap();
        }
        producer.end(DONE).await.unwrap();
        for after in (0..=1000).step_by(7) {
            assert_eq!(rest(&store, id, after).await.unwrap(), numbered(after + 1..=1000), "after {after}");
        }
        assert_eq!(rest(&store, id, 1000).await.unwrap(), []);
        assert_eq!(rest(&store, id, 1001).await, Err(Refused::Beyond { last: 1000 }));
        assert_eq!(rest(&store, id, u64::MAX).await, Err(Refused::Beyond { last: 1000 }));
    })
    .await;
}

#[tokio::test]
async fn readers_wait_for_what_comes_and_see_the_end() {
    each(async |store| {
        let mut producer = begin(&store).await;
        let id = producer.id();
        let reading: Vec<_> = (0..3)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { rest(&store, id, 0).await })
            })
            .collect();
        for n in 1..=300 {
            producer.append(vec![frame(n)]).await.unwrap();
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        producer.end(DONE).await.unwrap();
        for reader in reading {
            assert_eq!(reader.await.unwrap().unwrap(), numbered(1..=300));
        }
    })
    .await;
}

#[tokio::test]
async fn the_end_is_recorded_once_and_nothing_follows_it() {
    each(async |store| {
        for cause in Cause::ALL {
            let tenure = store.create(id(), about("o")).await.unwrap();
            store.append(tenure, batch(1, 2)).await.unwrap();
            let ending = Ending::of(cause);
            store.end(tenure, ending).await.unwrap();
            assert_eq!(store.end(tenure, ending).await, Err(Refused::Ended));
            assert_eq!(store.append(tenure, batch(3, 1)).await, Err(Refused::Ended));
            assert_eq!(store.take_over(tenure.id).await, Err(Refused::Ended));
            let status = store.status(tenure.id).await.unwrap();
            assert_eq!((status.ending, status.first, status.last), (Some(ending), 1, 2));
            let mut reader = Reader::attach(&store, tenure.id, 1).unwrap();
            assert_eq!(reader.next().await.unwrap().unwrap().frame, frame(2));
            assert!(reader.next().await.is_none());
            assert_eq!(reader.ending(), Some(ending));
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_does_not_follow_is_refused_whole() {
    each(async |store| {
        let tenure = store.create(id(), about("o")).await.unwrap();
        assert_eq!(store.append(tenure, batch(2, 1)).await, Err(Refused::OutOfOrder { expected: 1 }));
        assert_eq!(store.append(tenure, batch(1, 3)).await, Ok(Room::Left));
        assert_eq!(store.append(tenure, batch(1, 3)).await, Err(Refused::OutOfOrder { expected: 4 }));
        assert_eq!(store.append(tenure, batch(3, 2)).await, Err(Refused::OutOfOrder { expected: 4 }));
        assert_eq!(store.status(tenure.id).await.unwrap().last, 3);
    })
    .await;
}

#[tokio::test]
async fn of_two_writers_the_later_one_counts() {
    each(async |store| {
        let mut old = begin(&store).await;
        let id = old.id();
        old.append(frames(1..=3)).await.unwrap();
        let mut new = Producer::take_over(&store, id).await.unwrap();
        assert_eq!(old.append(frames(4..=4)).await, Err(Refused::Fenced { epoch: 2 }));
        new.append(frames(4..=5)).await.unwrap();
        assert_eq!(old.end(Ending::of(Cause::Stopped)).await, Err(Refused::Fenced { epoch: 2 }));
        new.end(DONE).await.unwrap();
        let mut reader = Reader::attach(&store, id, 2).unwrap();
        let mut places = Vec::new();
        while let Some(item) = reader.next().await {
            places.push(item.unwrap().at.to_string());
        }
        assert_eq!(places, ["1-3", "2-4", "2-5"]);
        let forged = Tenure { id, epoch: 9, next: 6 };
        assert_eq!(store.append(forged, batch(6, 1)).await, Err(Refused::Fenced { epoch: 2 }));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_unknown_and_names_are_used_once() {
    each(async |store| {
        let (one, other) = (store.create(id(), about("o")).await.unwrap(), id());
        assert_eq!(store.create(one.id, about("x")).await, Err(Refused::Exists));
        assert_eq!(store.read(other, 0, 1).await.unwrap_err(), Refused::Unknown);
        assert_eq!(store.status(other).await, Err(Refused::Unknown));
        assert_eq!(store.take_over(other).await, Err(Refused::Unknown));
        assert_eq!(store.remove(other).await, Err(Refused::Unknown));
        let gone = Tenure { id: other, ..one };
        assert_eq!(store.append(gone, batch(1, 1)).await, Err(Refused::Unknown));
        assert_eq!(store.end(gone, DONE).await, Err(Refused::Unknown));
        assert!(Reader::attach(&store, other, 0).is_err() && store.attendance(other).is_none());
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_removed_ends_its_readers() {
    each(async |store| {
        let mut producer = begin(&store).await;
        let mut reader = Reader::attach(&store, producer.id(), 0).unwrap();
        producer.append(frames(1..=1)).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().frame, frame(1));
        let waiting = tokio::spawn(async move { (reader.next().await, reader.next().await) });
        tokio::task::yield_now().await;
        producer.remove().await;
        assert_eq!(waiting.await.unwrap(), (Some(Err(Refused::Unknown)), None));
    })
    .await;
}

#[tokio::test]
async fn an_owner_sees_its_own_streams_only() {
    each(async |store| {
        let mut ids = Vec::new();
        for owner in ["a", "b", "a", ""] {
            ids.push(store.create(id(), about(owner)).await.unwrap().id);
        }
        let of = async |owner: Option<&str>| {
            let mut list: Vec<_> = store.list(owner).await.unwrap().iter().map(|status| status.id).collect();
            list.sort();
            list
        };
        let sorted = |mut ids: Vec<_>| {
            ids.sort();
            ids
        };
        assert_eq!(of(Some("a")).await, sorted(vec![ids[0], ids[2]]));
        assert_eq!(of(Some("")).await, [ids[3]]);
        assert_eq!(of(Some("c")).await, []);
        assert_eq!(of(None).await, sorted(ids));
    })
    .await;
}

#[tokio::test]
async fn finished_streams_stay_for_their_time_and_open_ones_for_as_long_as_they_are() {
    let limits = Limits { retention: Duration::ZERO, ..Limits::default() };
    every_store(limits, async |store| {
        let (open, done) = (begin(&store).await, begin(&store).await);
        let (open_id, id) = (open.id(), done.id());
        done.end(DONE).await.unwrap();
        assert_eq!(store.status(id).await.unwrap().state(), State::Done);
        store.expire().await.unwrap();
        assert_eq!(store.status(id).await, Err(Refused::Unknown));
        assert_eq!(store.status(open_id).await.unwrap().state(), State::Open);
    })
    .await;
}

#[tokio::test]
async fn the_budget_is_kept_by_forgetting_the_oldest_finished_streams_first() {
    let limits = Limits { budget: 64 << 10, ..Limits::default() };
    every_store(limits, async |store| {
        let noise = |seed: u64| {
            bytes::Bytes::from(
                (0..8192).map(|n| (n * n * 31 + seed * 7 + n / 3).to_le_bytes()[1]).collect::<Vec<_>>(),
            )
        };
        let open = begin(&store).await;
        let mut ended = Vec::new();
        for n in 0..12 {
            let mut producer = begin(&store).await;
            producer.append(vec![noise(n)]).await.unwrap();
            ended.push(producer.id());
            producer.end(DONE).await.unwrap();
        }
        let mut kept = Vec::new();
        for id in &ended {
            kept.push(store.status(*id).await.is_ok());
        }
        let first_kept = kept.iter().position(|kept| *kept).unwrap();
        assert!(first_kept > 3 && kept[first_kept..].iter().all(|kept| *kept), "{kept:?}");
        assert_eq!(store.status(open.id()).await.unwrap().state(), State::Open, "open streams stay");
    })
    .await;
}

#[tokio::test]
async fn new_streams_are_refused_when_open_ones_use_the_budget() {
    let limits = Limits { budget: 16 << 10, ..Limits::default() };
    every_store(limits, async |store| {
        let mut open = Vec::new();
        let refused = loop {
            match store.create(id(), about("o")).await {
                Ok(tenure) => open.push(tenure),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, Refused::Full { .. }), "{refused}");
        assert!((8..=16).contains(&open.len()));
        store.end(open[0], DONE).await.unwrap();
        store.create(id(), about("o")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_outgrows_its_bound_only_by_what_was_read() {
    let limits = Limits { stream: 64 << 10, ..Limits::default() };
    every_store(limits, async |store| {
        let tenure = store.create(id(), about("o")).await.unwrap();
        // Frames that have nothing in common, so that the compact form is no smaller.
        let noise = |seed: u64| -> bytes::Bytes {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            };
            std::iter::repeat_with(next).take(1024).collect()
        };
        let mut room = Room::Left;
        let mut n = 0;
        while room == Room::Left {
            n += 1;
            room = store.append(tenure, Batch { first: n, frames: vec![noise(n)], read: 0 }).await.unwrap();
        }
        assert!((50..=70).contains(&n), "full after {n} KiB");
        assert_eq!(store.status(tenure.id).await.unwrap().first, 1, "nothing that is unread was dropped");
        for _ in 0..100 {
            n += 1;
            let read = n - 1;
            assert_eq!(
                store.append(tenure, Batch { first: n, frames: vec![noise(n)], read }).await,
                Ok(Room::Left)
            );
        }
        let status = store.status(tenure.id).await.unwrap();
        assert!(status.held <= 80 << 10 && status.first > 60, "{status:?}");
        let first = status.first;
        assert_eq!(store.read(tenure.id, first - 2, 1).await.unwrap_err(), Refused::TooOld { first });
        let page = store.read(tenure.id, first - 1, usize::MAX).await.unwrap();
        assert_eq!(page.frames, (first..=n).map(noise).collect::<Vec<_>>());
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the batches, whoever reads from wherever gets what follows.
    #[test]
    fn batches_and_pages_do_not_matter(sizes in prop::collection::vec(1..40_u64, 1..40), after in 0..400_u64, limit in 1..5000_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(each(async |store| {
            let tenure = store.create(id(), about("o")).await.unwrap();
            let mut next = 1;
            for size in &sizes {
                store.append(tenure, batch(next, *size)).await.unwrap();
                next += size;
            }
            store.end(tenure, DONE).await.unwrap();
            let mut at = after.min(next - 1);
            let mut read = Vec::new();
            loop {
                let page = store.read(tenure.id, at, limit).await.unwrap();
                assert_eq!(page.first.seq, at + 1);
                at += page.frames.len() as u64;
                read.extend(page.frames);
                if page.ending.is_some() {
                    break;
                }
            }
            assert_eq!(read, frames(after.min(next - 1) + 1..=next - 1));
        }));
    }
}
