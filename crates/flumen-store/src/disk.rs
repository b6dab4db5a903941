//! Streams that survive the process: an append-only log of everything that happens to streams, in files, and the streams
//! themselves in memory, from where they are read.
//!
//! A thread of its own writes; what is asked for while it writes is written together next (group commit). Every record has a
//! checksum; the torn end of the last file is cut off when the store is opened. A file goes when all streams in it have been
//! forgotten.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::SystemTime,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    About, Attendance, Batch, Ending, Holding, Limits, MemoryStore, Page, Refused, Reply, Room, Status,
    Store, StreamId, Tenure, later,
};

mod keeper;
mod record;
mod recover;

use keeper::{Command, Keeper, Told};

/// When a reader may see what was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// When the system has it: it survives the death of the process (`kill -9`), not that of the machine.
    #[default]
    Write,
    /// When the disk has it: it survives both. Costs a flush of the disk for each group.
    Disk,
}

/// How a [`DiskStore`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// When a reader may see what was appended.
    pub sync: Sync,
    /// Bytes after which a new file is begun.
    pub file_size: usize,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { sync: Sync::default(), file_size: 64 << 20 }
    }
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("`{}` is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The system refuses.
    #[error("`{}`: {source}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Streams in a folder of this machine.
#[derive(Debug)]
pub struct DiskStore {
    memory: Arc<MemoryStore>,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    /// Held for as long as the store is open.
    _lock: File,
}

/// So many commands may wait for the thread; a batch is bounded by what one receive brings.
const WAITING: usize = 1024;

impl DiskStore {
    /// Opens a folder, makes it if it is not there, and reads what is in it. Blocks; call it before serving.
    ///
    /// Streams that the last process left open are open still, without a writer: see
    /// [`Producer::take_over`](crate::Producer::take_over).
    ///
    /// # Errors
    /// When another process has the folder, or it cannot be read or written.
    pub fn open(folder: &Path, limits: Limits, options: DiskOptions) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => OpenError::InUse(folder.to_owned()),
            fs::TryLockError::Error(source) => failed(source),
        })?;
        let numbers = recover::files(folder).map_err(failed)?;
        let found = recover::streams(folder, &numbers).map_err(failed)?;
        let shares = recover::shares(&numbers, &found);
        let memory = Arc::new(MemoryStore::new(limits));
        let mut streams = std::collections::HashMap::new();
        let now = SystemTime::now();
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(_, stream)| stream.ended);
        for (id, stream) in found {
            let ago = stream.ended.and_then(|ended| now.duration_since(ended).ok()).unwrap_or_default();
            if memory.put(id, stream.kept, ago).is_ok() {
                streams.insert(id, stream.files);
            }
        }
        let next = numbers.last().map_or(1, |last| last + 1);
        let (number, file, written) = keeper::begin_file(folder, next).map_err(failed)?;
        let keeper = Keeper {
            memory: Arc::clone(&memory),
            options,
            folder: folder.to_owned(),
            number,
            file,
            written,
            streams,
            shares,
        };
        let (commands, received) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("streams".to_owned())
            .spawn(move || keeper.run(received))
            .map_err(failed)?;
        Ok(Self { memory, commands: Some(commands), thread: Some(thread), _lock: lock })
    }

    fn ask<T: Send + 'static>(&self, command: impl FnOnce(Told<T>) -> Command) -> Reply<Result<T, Refused>> {
        let (tell, told) = oneshot::channel();
        let (command, commands) = (command(tell), self.commands.clone());
        later(async move {
            let closed = || Refused::Failed("it is closed".into());
            commands.ok_or_else(closed)?.send(command).await.map_err(|_| closed())?;
            told.await.map_err(|_| closed())?
        })
    }
}

impl Store for DiskStore {
    fn create(&self, id: StreamId, about: About) -> Reply<Result<Tenure, Refused>> {
        self.ask(|told| Command::Create(id, about, told))
    }

    fn append(&self, tenure: Tenure, batch: Batch) -> Reply<Result<Room, Refused>> {
        self.ask(|told| Command::Append(tenure, batch, told))
    }

    fn end(&self, tenure: Tenure, ending: Ending) -> Reply<Result<(), Refused>> {
        self.ask(|told| Command::End(tenure, ending, told))
    }

    fn take_over(&self, id: StreamId) -> Reply<Result<Tenure, Refused>> {
        self.ask(|told| Command::TakeOver(id, told))
    }

    fn read(&self, id: StreamId, after: u64, limit: usize) -> Reply<Result<Page, Refused>> {
        self.memory.read(id, after, limit)
    }

    fn status(&self, id: StreamId) -> Reply<Result<Status, Refused>> {
        self.memory.status(id)
    }

    fn list(&self, owner: Option<&str>) -> Reply<Result<Vec<Status>, Refused>> {
        self.memory.list(owner)
    }

    fn remove(&self, id: StreamId) -> Reply<Result<(), Refused>> {
        self.ask(|told| Command::Remove(id, told))
    }

    fn expire(&self) -> Reply<Result<(), Refused>> {
        self.ask(Command::Expire)
    }

    fn attendance(&self, id: StreamId) -> Option<Arc<Attendance>> {
        self.memory.attendance(id)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn holding(&self) -> Holding {
        self.memory.holding()
    }
}

/// Waits until everything that was asked for is written.
impl Drop for DiskStore {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was said where it happened.
            let _ = thread.join();
        }
    }
}
