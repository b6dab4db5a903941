use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    About, Attendance, Batch, Ending, Holding, Limits, Page, Refused, Reply, Room, Status, Store, StreamId,
    Tenure,
    id::IdHasher,
    kept::Kept,
    now,
    sync::{Mutex, RwLock, lock},
};

/// Streams in this process's memory: the default.
///
/// A stream is kept in compact form, but for its newest frames: whoever reads at the tail gets the very bytes that were
/// appended. When the budget is used up, finished streams go, the oldest end first; then what was read already of the streams
/// that grow. New streams are refused while there is no room.
#[derive(Debug)]
pub struct MemoryStore {
    limits: Limits,
    streams: RwLock<Streams>,
    /// In the order in which they ended.
    finished: Mutex<VecDeque<(Instant, StreamId)>>,
    used: AtomicUsize,
}

type Streams = HashMap<StreamId, Arc<Entry>, BuildHasherDefault<IdHasher>>;

#[derive(Debug)]
struct Entry {
    attendance: Arc<Attendance>,
    kept: Mutex<Kept>,
}

/// What the bookkeeping of a stream takes besides its frames, about.
const ENTRY: usize = 1024;

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            streams: RwLock::new(Streams::default()),
            finished: Mutex::new(VecDeque::new()),
            used: AtomicUsize::new(0),
        }
    }

    /// Whether it has the stream.
    pub(crate) fn has(&self, id: StreamId) -> bool {
        self.entry(id).is_ok()
    }

    /// Bytes that all streams take.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn entry(&self, id: StreamId) -> Result<Arc<Entry>, Refused> {
        let streams = self.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        streams.get(&id).cloned().ok_or(Refused::Unknown)
    }

    /// Works on a stream and accounts for what that changed.
    fn change<T>(
        &self,
        entry: &Entry,
        work: impl FnOnce(&mut Kept) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut kept = lock(&entry.kept);
        if kept.is_forgotten() {
            return Err(Refused::Unknown);
        }
        let before = kept.held();
        let done = work(&mut kept);
        let after = kept.held();
        if after >= before {
            self.used.fetch_add(after - before, Relaxed);
        } else {
            self.used.fetch_sub(before - after, Relaxed);
        }
        done
    }

    pub(crate) fn create_now(&self, id: StreamId, about: About) -> Result<Tenure, Refused> {
        self.make_room();
        if self.used() + ENTRY > self.limits.budget {
            return Err(Refused::Full { what: "the budget of all streams" });
        }
        self.put(id, Kept::new(about), Duration::ZERO)?;
        Ok(Tenure { id, epoch: 1, next: 1 })
    }

    /// Puts a stream in that comes from elsewhere, and ended so long ago if it has.
    pub(crate) fn put(&self, id: StreamId, kept: Kept, ended_ago: Duration) -> Result<(), Refused> {
        let mut streams = self.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if streams.contains_key(&id) {
            return Err(Refused::Exists);
        }
        self.used.fetch_add(ENTRY + kept.held(), Relaxed);
        let ended = kept.ending().is_some();
        let attendance = Arc::new(Attendance::new(kept.status(id).last));
        streams.insert(id, Arc::new(Entry { attendance, kept: Mutex::new(kept) }));
        drop(streams);
        if ended {
            let now = Instant::now();
            lock(&self.finished).push_back((now.checked_sub(ended_ago).unwrap_or(now), id));
        }
        Ok(())
    }

    /// Whether an append would be taken.
    pub(crate) fn may_append(&self, tenure: Tenure, first: u64) -> Result<(), Refused> {
        let entry = self.entry(tenure.id)?;
        let kept = lock(&entry.kept);
        if kept.is_forgotten() {
            return Err(Refused::Unknown);
        }
        kept.may_append(tenure.epoch, first)
    }

    pub(crate) fn append_now(&self, tenure: Tenure, batch: &Batch) -> Result<Room, Refused> {
        let entry = self.entry(tenure.id)?;
        let over = self.used() > self.limits.budget && !self.make_room();
        let room = self.change(&entry, |kept| {
            kept.append(tenure.epoch, batch)?;
            let bound = if over { 0 } else { self.limits.stream };
            Ok(if kept.shrink(bound, batch.read) { Room::Left } else { Room::Full })
        })?;
        entry.attendance.appended(&batch.frames);
        Ok(room)
    }

    pub(crate) fn end_now(&self, tenure: Tenure, ending: Ending) -> Result<(), Refused> {
        let entry = self.entry(tenure.id)?;
        self.change(&entry, |kept| kept.end(tenure.epoch, ending))?;
        lock(&self.finished).push_back((Instant::now(), tenure.id));
        entry.attendance.closed();
        Ok(())
    }

    pub(crate) fn may_end(&self, tenure: Tenure) -> Result<(), Refused> {
        let entry = self.entry(tenure.id)?;
        let kept = lock(&entry.kept);
        if kept.is_forgotten() { Err(Refused::Unknown) } else { kept.may_end(tenure.epoch) }
    }

    pub(crate) fn take_over_now(&self, id: StreamId) -> Result<Tenure, Refused> {
        let entry = self.entry(id)?;
        self.change(&entry, |kept| kept.take_over(id))
    }

    fn read_now(&self, id: StreamId, after: u64, limit: usize) -> Result<Page, Refused> {
        let entry = self.entry(id)?;
        let kept = lock(&entry.kept);
        if kept.is_forgotten() { Err(Refused::Unknown) } else { kept.read(after, limit) }
    }

    pub(crate) fn status_now(&self, id: StreamId) -> Result<Status, Refused> {
        let entry = self.entry(id)?;
        let kept = lock(&entry.kept);
        if kept.is_forgotten() { Err(Refused::Unknown) } else { Ok(kept.status(id)) }
    }

    pub(crate) fn list_now(&self, owner: Option<&str>) -> Vec<Status> {
        let entries: Vec<_> = {
            let streams = self.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            streams.iter().map(|(id, entry)| (*id, Arc::clone(entry))).collect()
        };
        let mut list: Vec<_> = entries
            .into_iter()
            .filter_map(|(id, entry)| {
                let kept = lock(&entry.kept);
                let theirs = owner.is_none_or(|owner| kept.about().owner == owner);
                (theirs && !kept.is_forgotten()).then(|| kept.status(id))
            })
            .collect();
        list.sort_by_key(|status| std::cmp::Reverse(status.about.created));
        list
    }

    pub(crate) fn remove_now(&self, id: StreamId) -> Result<(), Refused> {
        let mut streams = self.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = streams.remove(&id).ok_or(Refused::Unknown)?;
        drop(streams);
        let freed = lock(&entry.kept).forget();
        self.used.fetch_sub(ENTRY + freed, Relaxed);
        entry.attendance.closed();
        Ok(())
    }

    /// Forgets finished streams until the budget is kept. Whether it is now.
    fn make_room(&self) -> bool {
        while self.used() + ENTRY > self.limits.budget {
            let Some((_, id)) = lock(&self.finished).pop_front() else { return false };
            // Removed by its owner before; the next one then.
            let _ = self.remove_now(id);
        }
        true
    }

    /// Forgets the finished streams whose time is over; which they were.
    pub(crate) fn expire_now(&self) -> Vec<StreamId> {
        let mut gone = Vec::new();
        loop {
            let mut finished = lock(&self.finished);
            match finished.front() {
                Some((ended, _)) if ended.elapsed() >= self.limits.retention => {}
                _ => return gone,
            }
            let Some((_, id)) = finished.pop_front() else { return gone };
            drop(finished);
            if self.remove_now(id).is_ok() {
                gone.push(id);
            }
        }
    }
}

impl Store for MemoryStore {
    fn create(&self, id: StreamId, about: About) -> Reply<Result<Tenure, Refused>> {
        now(self.create_now(id, about))
    }

    fn append(&self, tenure: Tenure, batch: Batch) -> Reply<Result<Room, Refused>> {
        now(self.append_now(tenure, &batch))
    }

    fn end(&self, tenure: Tenure, ending: Ending) -> Reply<Result<(), Refused>> {
        now(self.end_now(tenure, ending))
    }

    fn take_over(&self, id: StreamId) -> Reply<Result<Tenure, Refused>> {
        now(self.take_over_now(id))
    }

    fn read(&self, id: StreamId, after: u64, limit: usize) -> Reply<Result<Page, Refused>> {
        now(self.read_now(id, after, limit))
    }

    fn status(&self, id: StreamId) -> Reply<Result<Status, Refused>> {
        now(self.status_now(id))
    }

    fn list(&self, owner: Option<&str>) -> Reply<Result<Vec<Status>, Refused>> {
        now(Ok(self.list_now(owner)))
    }

    fn remove(&self, id: StreamId) -> Reply<Result<(), Refused>> {
        now(self.remove_now(id))
    }

    fn expire(&self) -> Reply<Result<(), Refused>> {
        self.expire_now();
        now(Ok(()))
    }

    fn attendance(&self, id: StreamId) -> Option<Arc<Attendance>> {
        Some(Arc::clone(&self.entry(id).ok()?.attendance))
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn holding(&self) -> Holding {
        let streams = self.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unread = streams.values().map(|entry| entry.attendance.unread()).sum();
        Holding { streams: streams.len(), bytes: self.used(), unread }
    }
}
