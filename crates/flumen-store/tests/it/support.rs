use std::{
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use flumen_store::{
    About, DiskOptions, DiskStore, Limits, MemoryStore, Producer, Reader, Refused, Store, StreamId,
};

pub(crate) fn about(owner: &str) -> About {
    let (owner, dialect, model) = (owner.to_owned(), "openai-chat".to_owned(), "m".to_owned());
    About { owner, dialect, model, created: UNIX_EPOCH + Duration::from_secs(1) }
}

pub(crate) fn id() -> StreamId {
    StreamId::random().unwrap()
}

pub(crate) fn frame(n: u64) -> Bytes {
    Bytes::from(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"token {n}\"}}}}]}}\n\n"))
}

pub(crate) fn frames(numbers: std::ops::RangeInclusive<u64>) -> Vec<Bytes> {
    numbers.map(frame).collect()
}

pub(crate) fn memory(limits: Limits) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(limits))
}

pub(crate) fn disk(folder: &Path, limits: Limits) -> Arc<dyn Store> {
    // Small files, so that every test meets more than one.
    let options = DiskOptions { file_size: 4096, ..DiskOptions::default() };
    Arc::new(DiskStore::open(folder, limits, options).unwrap())
}

pub(crate) async fn begin(store: &Arc<dyn Store>) -> Producer {
    Producer::create(store, id(), about("o")).await.unwrap()
}

/// All that follows, and how it ends.
pub(crate) async fn rest(
    store: &Arc<dyn Store>,
    id: StreamId,
    after: u64,
) -> Result<Vec<(u64, Bytes)>, Refused> {
    let mut reader = Reader::attach(store, id, after)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next().await {
        let item = item?;
        items.push((item.at.seq, item.frame));
    }
    Ok(items)
}

pub(crate) fn numbered(numbers: std::ops::RangeInclusive<u64>) -> Vec<(u64, Bytes)> {
    numbers.map(|n| (n, frame(n))).collect()
}
