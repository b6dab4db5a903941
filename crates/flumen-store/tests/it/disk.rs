//! Streams outlive the process that wrote them.

use std::{fs, sync::Arc, time::Duration};

use flumen_store::{DiskOptions, DiskStore, Ending, Limits, OpenError, Producer, State, Store};
use flumen_stream::Cause;

use crate::support::{begin, disk, frames, numbered, rest};

#[tokio::test]
async fn finished_streams_are_there_again_and_open_ones_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = disk(folder.path(), Limits::default());
    let (mut done, mut open) = (begin(&store).await, begin(&store).await);
    for n in 0..30 {
        done.append(frames(n * 10 + 1..=n * 10 + 10)).await.unwrap();
        open.append(frames(n * 10 + 1..=n * 10 + 10)).await.unwrap();
    }
    let (done_id, open_id) = (done.id(), open.id());
    done.end(Ending::of(Cause::Complete)).await.unwrap();
    let before = store.status(done_id).await.unwrap();
    drop((open, store));

    let store = disk(folder.path(), Limits::default());
    assert_eq!(store.status(done_id).await.unwrap(), before);
    assert_eq!(rest(&store, done_id, 17).await.unwrap(), numbered(18..=300));
    let orphans: Vec<_> =
        store.list(None).await.unwrap().into_iter().filter(|status| status.state() == State::Open).collect();
    assert_eq!((orphans.len(), orphans[0].id, orphans[0].last), (1, open_id, 300));
    let mut heir = Producer::take_over(&store, open_id).await.unwrap();
    heir.append(frames(301..=301)).await.unwrap();
    heir.end(Ending::LOST).await.unwrap();
    assert_eq!(rest(&store, open_id, 0).await.unwrap(), numbered(1..=301));
    drop(store);
    let store = disk(folder.path(), Limits::default());
    let status = store.status(open_id).await.unwrap();
    assert_eq!((status.state(), status.epoch, status.last), (State::Lost, 2, 301));
}

#[tokio::test]
async fn a_file_that_was_cut_anywhere_gives_back_what_was_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(DiskStore::open(folder.path(), Limits::default(), DiskOptions::default()).unwrap());
    let mut producer = begin(&store).await;
    for n in 1..=20 {
        producer.append(frames(n..=n)).await.unwrap();
    }
    let id = producer.id();
    drop((producer, store));
    let file = folder.path().join("000000000001.log");
    let whole = fs::read(&file).unwrap();
    let mut seen = Vec::new();
    for cut in (0..=whole.len()).rev().step_by(13) {
        let torn = tempfile::tempdir().unwrap();
        fs::write(torn.path().join("000000000001.log"), &whole[..cut]).unwrap();
        let store = disk(torn.path(), Limits::default());
        let Ok(status) = store.status(id).await else { continue };
        let page = store.read(id, 0, usize::MAX).await.unwrap();
        assert_eq!(page.frames, frames(1..=status.last));
        seen.push(status.last);
        // And it can be written again.
        Producer::take_over(&store, id).await.unwrap().end(Ending::LOST).await.unwrap();
    }
    seen.dedup();
    assert_eq!(seen, (0..=20).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flipped_bit_is_never_read_as_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(DiskStore::open(folder.path(), Limits::default(), DiskOptions::default()).unwrap());
    let mut producer = begin(&store).await;
    for n in 1..=5 {
        producer.append(frames(n..=n)).await.unwrap();
    }
    let id = producer.id();
    drop((producer, store));
    let whole = fs::read(folder.path().join("000000000001.log")).unwrap();
    for at in (8..whole.len()).step_by(5) {
        let torn = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(torn.path().join("000000000001.log"), bytes).unwrap();
        let store = disk(torn.path(), Limits::default());
        if let Ok(status) = store.status(id).await {
            assert_eq!(store.read(id, 0, usize::MAX).await.unwrap().frames, frames(1..=status.last));
        }
    }
}

#[tokio::test]
async fn files_go_when_their_streams_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = disk(folder.path(), Limits { retention: Duration::ZERO, ..Limits::default() });
    let files = || fs::read_dir(folder.path()).unwrap().count();
    for _ in 0..20 {
        let mut producer = begin(&store).await;
        for n in 1..=20 {
            producer.append(frames(n..=n)).await.unwrap();
        }
        producer.end(Ending::of(Cause::Complete)).await.unwrap();
    }
    assert!(files() > 5);
    store.expire().await.unwrap();
    assert_eq!(files(), 2, "the file that is being written, and the lock");
}

#[tokio::test]
async fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let open = || DiskStore::open(folder.path(), Limits::default(), DiskOptions::default());
    let first = open().unwrap();
    assert!(matches!(open(), Err(OpenError::InUse(_))));
    drop(first);
    open().unwrap();
}
