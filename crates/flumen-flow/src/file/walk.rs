use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{Files, failed};
use crate::Result;

/// The files below a directory, directory by directory; see [`Files::walk`].
pub struct Walk {
    files: Files,
    /// Directories still to be read.
    todo: Vec<PathBuf>,
    /// Files that were found and not yet handed out.
    found: Vec<PathBuf>,
}

impl Files {
    /// Walks through a directory and those below it. Symbolic links are not followed, so the walk ends.
    pub fn walk(&self, root: impl AsRef<Path>) -> Walk {
        Walk { files: self.clone(), todo: vec![root.as_ref().to_owned()], found: Vec::new() }
    }
}

impl Walk {
    /// The next file. Files of one directory come sorted by name.
    ///
    /// Cancel-safe, but for the directory that is being read, which is skipped.
    ///
    /// # Errors
    /// For each directory that cannot be read; the walk goes on after it.
    pub async fn next(&mut self) -> Option<Result<PathBuf>> {
        loop {
            if let Some(file) = self.found.pop() {
                return Some(Ok(file));
            }
            let directory = self.todo.pop()?;
            match self.files.queue.run(move || list(&directory)).await.and_then(|listed| listed) {
                Ok((files, directories)) => {
                    self.found = files;
                    self.todo.extend(directories);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Files and directories in a directory, each in reverse order of their names.
fn list(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let wrong = |error| failed("list", directory, error);
    let mut entries =
        fs::read_dir(directory).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => directories.push(entry.path()),
            Ok(_) => files.push(entry.path()),
            // Gone since it was listed.
            Err(_) => {}
        }
    }
    Ok((files, directories))
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("todo", &self.todo.len()).finish_non_exhaustive()
    }
}
