//! From the files that an earlier process has left to streams.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{Batch, StreamId, kept::Kept};

use super::record::{MAGIC, Record};

/// A stream that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kept: Kept,
    pub(super) ended: Option<SystemTime>,
    /// The files that know it.
    pub(super) files: Vec<u64>,
}

/// The name of a file.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.log"))
}

/// The numbers of the files, in order.
pub(super) fn files(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|name| name.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads all files. What a record does not fit is left out; where a file cannot be read further, the rest of it is, and the
/// torn end of the last one is cut off.
pub(super) fn streams(folder: &Path, numbers: &[u64]) -> io::Result<HashMap<StreamId, Found>> {
    let mut found = HashMap::new();
    for number in numbers {
        let path = path(folder, *number);
        let bytes = fs::read(&path)?;
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
            tracing::warn!(file = %path.display(), "not a file of streams, or not a whole one; it is left alone");
            continue;
        };
        while let Some((id, record)) = Record::read(&mut rest) {
            apply(&mut found, *number, id, record);
        }
        if rest.is_empty() {
            continue;
        }
        let whole = (bytes.len() - rest.len()) as u64;
        tracing::warn!(file = %path.display(), at = whole, lost = rest.len(), "the end of the file is not readable");
        if numbers.last() == Some(number) {
            fs::OpenOptions::new().write(true).open(&path)?.set_len(whole)?;
        }
    }
    Ok(found)
}

fn apply(found: &mut HashMap<StreamId, Found>, file: u64, id: StreamId, record: Record) {
    let epoch_of = |record: &Record| match record {
        Record::Appended { epoch, .. } | Record::Ended { epoch, .. } => *epoch,
        _ => 0,
    };
    match record {
        Record::Created(about) => {
            found.insert(id, Found { kept: Kept::new(about), ended: None, files: vec![file] });
            return;
        }
        Record::Removed => {
            found.remove(&id);
            return;
        }
        _ => {}
    }
    let Some(stream) = found.get_mut(&id) else { return };
    if stream.files.last() != Some(&file) {
        stream.files.push(file);
    }
    let epoch = epoch_of(&record);
    match record {
        Record::Appended { first, frames, .. } => {
            if first > stream.kept.next() {
                // Frames in between were lost with a part of a file. What is left must not look as if it followed.
                stream.kept.skip_to(first);
            }
            // Refused only where the file contradicts itself.
            let _ = stream.kept.append(epoch, &Batch { first, frames, read: 0 });
        }
        Record::Ended { ending, at, .. } => {
            if stream.kept.end(epoch, ending).is_ok() {
                stream.ended = Some(at);
            }
        }
        Record::TakenOver { epoch } => stream.kept.begin_epoch(epoch),
        Record::Created(_) | Record::Removed => {}
    }
}

/// How many streams each file knows.
pub(super) fn shares(numbers: &[u64], found: &HashMap<StreamId, Found>) -> BTreeMap<u64, usize> {
    let mut shares: BTreeMap<_, _> = numbers.iter().map(|number| (*number, 0)).collect();
    for file in found.values().flat_map(|stream| &stream.files) {
        *shares.entry(*file).or_default() += 1;
    }
    shares
}
