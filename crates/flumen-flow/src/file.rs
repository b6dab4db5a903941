//! File work on an [`Executor`], so that a slow disk holds up neither the network nor the
//! computing threads.
//!
//! [`Files`] says which queue the work goes through; [`Files::default`] is the queue `files` of
//! [`Executor::blocking`]. Reads and writes at offsets use positional system calls, so
//! tasks may share one [`File`].
//!
//! Dropping a future cancels work that still waits; a system call that has begun runs to its end. What a write then
//! has done is not known.
//!
//! ```
//! use flumen_flow::file::Files;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> flumen_flow::Result<()> {
//! # let dir = tempfile::tempdir().unwrap(); let path = dir.path().join("notes.txt");
//! let files = Files::default();
//! files.write(&path, "panta rhei\n").await?;
//! files.append(&path, "everything flows\n").await?;
//! let file = files.open(&path).await?;
//! assert_eq!(&file.read_at(6, 4).await?[..], b"rhei");
//! # Ok(()) }
//! ```

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flumen_stream::Cursor;

use crate::{
    Error, Result,
    executor::{Executor, Queue},
};

mod lines;
mod tail;
mod walk;

pub use lines::Lines;
pub use tail::{Tail, TailFrom};
pub use walk::Walk;

/// Bytes between a file and the reader of its stream.
const BUFFER: usize = 256 * 1024;
/// One read of a stream takes this many.
const PIECE: usize = 64 * 1024;

/// File work through one queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    queue: Queue,
}

impl Default for Files {
    fn default() -> Self {
        Self::on(Executor::blocking().queue("files"))
    }
}

impl Files {
    /// File work through this queue.
    pub fn on(queue: Queue) -> Self {
        Self { queue }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    async fn call<T: Send + 'static>(
        &self,
        path: &Path,
        what: &'static str,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = path.to_owned();
        self.queue.run(move || call(&path).map_err(|error| failed(what, &path, error))).await?
    }

    /// The whole file.
    ///
    /// # Errors
    /// When it cannot be read; [`Error::source_as`] has the [`io::Error`].
    pub async fn read(&self, path: impl AsRef<Path>) -> Result<Bytes> {
        self.call(path.as_ref(), "read", |path| fs::read(path).map(Bytes::from)).await
    }

    /// Makes the file if need be, and replaces what it holds.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write(&self, path: impl AsRef<Path>, content: impl Into<Bytes>) -> Result<()> {
        let content = content.into();
        self.call(path.as_ref(), "write", move |path| fs::write(path, content)).await
    }

    /// Makes the file if need be, and adds to its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn append(&self, path: impl AsRef<Path>, content: impl Into<Bytes>) -> Result<()> {
        let content = content.into();
        let append = move |path: &Path| {
            fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(&content)
        };
        self.call(path.as_ref(), "append to", append).await
    }

    /// Opens a file to read.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, fs::File::options().read(true).to_owned()).await
    }

    /// Opens a file with these options, to write for example.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open_with(&self, path: impl AsRef<Path>, options: fs::OpenOptions) -> Result<File> {
        let path: Arc<Path> = path.as_ref().into();
        let file = self.call(&path, "open", move |path| options.open(path)).await?;
        Ok(File { inner: Arc::new(Inner { file, path }), files: self.clone() })
    }

    /// Wraps a file that was opened elsewhere; the path is for errors.
    pub fn wrap(&self, file: fs::File, path: impl Into<PathBuf>) -> File {
        File { inner: Arc::new(Inner { file, path: path.into().into() }), files: self.clone() }
    }

    /// What is known of a file.
    ///
    /// # Errors
    /// When it is not there, or not to be seen.
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<fs::Metadata> {
        self.call(path.as_ref(), "look at", |path| fs::metadata(path)).await
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        self.call(path.as_ref(), "remove", |path| fs::remove_file(path)).await
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::failed(format!("cannot {what} {}: {error}", path.display())).with_source(error)
}

/// An open file. Cheap to clone; reads and writes at offsets may overlap.
#[derive(Clone)]
pub struct File {
    inner: Arc<Inner>,
    files: Files,
}

struct Inner {
    file: fs::File,
    path: Arc<Path>,
}

impl File {
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let call = move || call(&inner.file).map_err(|error| failed(what, &inner.path, error));
        self.files.queue.run(call).await?
    }

    /// Reads up to `len` bytes at an offset: fewer at the end of the file, none beyond it.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.call("read", move |file| read_at(file, offset, len)).await
    }

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn write_at(&self, offset: u64, content: impl Into<Bytes>) -> Result<()> {
        let content = content.into();
        self.call("write", move |file| file.write_all_at(&content, offset)).await
    }

    /// Waits until what was written is on the disk: content and metadata.
    ///
    /// # Errors
    /// When the system cannot promise it.
    pub async fn sync(&self) -> Result<()> {
        self.call("sync", fs::File::sync_all).await
    }

    /// The same for the content and what is needed to read it again.
    ///
    /// # Errors
    /// When the system cannot promise it.
    pub async fn sync_data(&self) -> Result<()> {
        self.call("sync", fs::File::sync_data).await
    }

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn set_len(&self, len: u64) -> Result<()> {
        self.call("cut", move |file| file.set_len(len)).await
    }

    /// What is known of it.
    ///
    /// # Errors
    /// When the system does not tell.
    pub async fn metadata(&self) -> Result<fs::Metadata> {
        self.call("look at", fs::File::metadata).await
    }

    /// Up to `len` bytes from an offset on as a stream of pieces. At most 256 KiB are read ahead.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn stream(&self, offset: u64, len: u64) -> Cursor<Bytes> {
        let (mut writer, cursor) = flumen_stream::log(flumen_stream::Watermarks::new(BUFFER));
        let file = self.clone();
        // Owned by its log: it ends with the cursor.
        tokio::spawn(async move {
            let (mut at, end) = (offset, offset.saturating_add(len));
            while at < end && writer.ready().await.is_ok() {
                let want = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                match file.read_at(at, want).await {
                    Ok(piece) if piece.is_empty() => break,
                    Ok(piece) => {
                        at += piece.len() as u64;
                        writer.push([piece]);
                    }
                    Err(error) => return writer.fail(crate::streaming::end_of(&error)),
                }
            }
            writer.complete();
        });
        cursor
    }
}

fn read_at(file: &fs::File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.inner.path).finish()
    }
}
