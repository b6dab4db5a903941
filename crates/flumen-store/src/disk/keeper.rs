//! The thread that writes: what was asked for together is written together, then told.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    DiskOptions, Sync,
    record::{MAGIC, Record},
    recover,
};
use crate::{About, Batch, Ending, MemoryStore, Refused, Room, StreamId, Tenure};

pub(super) type Told<T> = oneshot::Sender<Result<T, Refused>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Create(StreamId, About, Told<Tenure>),
    Append(Tenure, Batch, Told<Room>),
    End(Tenure, Ending, Told<()>),
    TakeOver(StreamId, Told<Tenure>),
    Remove(StreamId, Told<()>),
    Expire(Told<()>),
}

/// What is written together is no longer than about this many bytes.
const GROUP: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) memory: Arc<MemoryStore>,
    pub(super) options: DiskOptions,
    pub(super) folder: PathBuf,
    pub(super) number: u64,
    pub(super) file: File,
    pub(super) written: u64,
    /// The files that know a stream.
    pub(super) streams: HashMap<StreamId, Vec<u64>>,
    /// How many streams a file knows.
    pub(super) shares: BTreeMap<u64, usize>,
}

/// What is to be written, and whom to tell.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    streams: HashSet<StreamId>,
    commands: Vec<Command>,
}

impl Keeper {
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            let mut group = Group::default();
            self.take(command, &mut group);
            while group.bytes.len() < GROUP
                && let Ok(command) = commands.try_recv()
            {
                self.take(command, &mut group);
            }
            self.write(&mut group);
        }
    }

    /// Checks a command and adds it to the group, or answers at once.
    fn take(&mut self, command: Command, group: &mut Group) {
        let id = match &command {
            Command::Create(id, ..) | Command::TakeOver(id, _) | Command::Remove(id, _) => *id,
            Command::Append(tenure, ..) | Command::End(tenure, ..) => tenure.id,
            Command::Expire(_) => {
                self.write(group);
                return self.expire(command);
            }
        };
        // What a stream may do depends on what is still to be written of it.
        if group.streams.contains(&id) {
            self.write(group);
        }
        let record = match &command {
            Command::Create(_, about, _) => Ok(Record::Created(about.clone())),
            Command::Append(tenure, batch, _) => self.memory.may_append(*tenure, batch.first).map(|()| {
                Record::Appended { epoch: tenure.epoch, first: batch.first, frames: batch.frames.clone() }
            }),
            Command::End(tenure, ending, _) => self.memory.may_end(*tenure).map(|()| Record::Ended {
                epoch: tenure.epoch,
                ending: *ending,
                at: SystemTime::now(),
            }),
            Command::TakeOver(id, _) => self.memory.status_now(*id).and_then(|status| match status.ending {
                Some(_) => Err(Refused::Ended),
                None => Ok(Record::TakenOver { epoch: status.epoch + 1 }),
            }),
            Command::Remove(..) | Command::Expire(_) => Ok(Record::Removed),
        };
        match record {
            Ok(record) => {
                record.write(id, &mut group.bytes);
                group.streams.insert(id);
                group.commands.push(command);
            }
            Err(refused) => refuse(command, refused),
        }
    }

    /// Writes the group; then the memory follows, and everybody is told.
    fn write(&mut self, group: &mut Group) {
        let Group { bytes, streams, commands } = std::mem::take(group);
        if commands.is_empty() {
            return;
        }
        if let Err(error) = self.put(&bytes) {
            tracing::error!(folder = %self.folder.display(), %error, "streams cannot be written");
            let failed = Refused::Failed(error.to_string().into());
            return commands.into_iter().for_each(|command| refuse(command, failed.clone()));
        }
        for id in streams {
            let files = self.streams.entry(id).or_default();
            if files.last() != Some(&self.number) {
                files.push(self.number);
                *self.shares.entry(self.number).or_default() += 1;
            }
        }
        for command in commands {
            self.apply(command);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written > self.options.file_size as u64 {
            self.next_file()?;
        }
        let done = self.file.write_all(bytes).and_then(|()| match self.options.sync {
            Sync::Write => Ok(()),
            Sync::Disk => self.file.sync_data(),
        });
        match done {
            Ok(()) => self.written += bytes.len() as u64,
            // A part may stand there; nothing may stand after it, or it would be lost with it.
            Err(_) => self.file.set_len(self.written).or_else(|_| self.next_file())?,
        }
        done
    }

    fn next_file(&mut self) -> io::Result<()> {
        (self.number, self.file, self.written) = begin_file(&self.folder, self.number + 1)?;
        self.shares.entry(self.number).or_default();
        self.drop_files();
        Ok(())
    }

    fn apply(&mut self, command: Command) {
        // Whoever asked may be gone; what was done stays done.
        match command {
            Command::Create(id, about, told) => drop(told.send(self.memory.create_now(id, about))),
            Command::Append(tenure, batch, told) => drop(told.send(self.memory.append_now(tenure, &batch))),
            Command::End(tenure, ending, told) => drop(told.send(self.memory.end_now(tenure, ending))),
            Command::TakeOver(id, told) => drop(told.send(self.memory.take_over_now(id))),
            Command::Remove(id, told) => {
                let done = self.memory.remove_now(id);
                self.release();
                drop(told.send(done));
            }
            Command::Expire(told) => drop(told.send(Ok(()))),
        }
    }

    fn expire(&mut self, command: Command) {
        self.memory.expire_now();
        self.release();
        self.apply(command);
    }

    /// Lets go of the files of streams that the memory has forgotten.
    fn release(&mut self) {
        let (memory, shares) = (&self.memory, &mut self.shares);
        self.streams.retain(|id, files| {
            let kept = memory.has(*id);
            if !kept {
                for file in files {
                    shares.entry(*file).and_modify(|share| *share -= 1);
                }
            }
            kept
        });
        self.drop_files();
    }

    fn drop_files(&mut self) {
        let (current, folder) = (self.number, &self.folder);
        self.shares.retain(|number, share| {
            if *share > 0 || *number == current {
                return true;
            }
            if let Err(error) = fs::remove_file(recover::path(folder, *number)) {
                tracing::warn!(number, %error, "a file of forgotten streams cannot be removed");
            }
            false
        });
    }
}

/// Begins a file; its number, itself, and what stands in it.
pub(super) fn begin_file(folder: &std::path::Path, number: u64) -> io::Result<(u64, File, u64)> {
    let path = recover::path(folder, number);
    let mut file = fs::OpenOptions::new().append(true).create_new(true).open(path)?;
    file.write_all(MAGIC)?;
    file.sync_data()?;
    // The name must be as safe as what stands under it.
    File::open(folder)?.sync_all()?;
    Ok((number, file, MAGIC.len() as u64))
}

fn refuse(command: Command, refused: Refused) {
    match command {
        Command::Create(_, _, told) | Command::TakeOver(_, told) => drop(told.send(Err(refused))),
        Command::Append(_, _, told) => drop(told.send(Err(refused))),
        Command::End(_, _, told) | Command::Remove(_, told) | Command::Expire(told) => {
            drop(told.send(Err(refused)));
        }
    }
}
