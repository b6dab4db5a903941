use std::{fmt, os::unix::fs::MetadataExt, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::{File, Files, PIECE, lines::cut_line};
use crate::Result;

/// How often a file that stands still is asked for more.
const ASK: Duration = Duration::from_millis(100);
/// A line that is longer is handed out in parts.
const LONGEST: usize = 64 * 1024;

/// Where [`Files::tail`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// At the first line.
    Start,
    /// After what is there now.
    End,
}

type Open = Box<dyn Fn() -> BoxFuture<'static, Result<File>> + Send + Sync>;

/// The lines of a file that grows, without end; see [`Files::tail`].
pub struct Tail {
    /// Opens what now has the file's name.
    open: Open,
    file: File,
    at: u64,
    rest: BytesMut,
    searched: usize,
}

impl Files {
    /// Follows a file like `tail -F`: its lines as they are completed. A file that shrinks is read from its start again; one
    /// that was replaced (log rotation) is read to its end, then the new one from its start.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn tail(&self, path: impl AsRef<Path>, from: TailFrom) -> Result<Tail> {
        let (files, path) = (self.clone(), path.as_ref().to_owned());
        Tail::follow(from, move || {
            let (files, path) = (files.clone(), path.clone());
            Box::pin(async move { files.open(path).await })
        })
        .await
    }
}

impl Tail {
    /// Follows what the function opens; it is called again and again to see whether the file was replaced.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn follow(
        from: TailFrom,
        open: impl Fn() -> BoxFuture<'static, Result<File>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let file = open().await?;
        let at = match from {
            TailFrom::Start => 0,
            TailFrom::End => file.metadata().await?.len(),
        };
        Ok(Self { open: Box::new(open), file, at, rest: BytesMut::new(), searched: 0 })
    }

    /// Waits for the next whole line, without its end.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn next(&mut self) -> Result<Bytes> {
        loop {
            if let Some(line) = cut_line(&mut self.rest, &mut self.searched) {
                return Ok(line);
            }
            if self.rest.len() >= LONGEST {
                self.searched = 0;
                return Ok(self.rest.split().freeze());
            }
            let piece = self.file.read_at(self.at, PIECE).await?;
            if !piece.is_empty() {
                self.at += piece.len() as u64;
                self.rest.extend_from_slice(&piece);
            } else if !self.begin_again().await? {
                sleep(ASK).await;
            }
        }
    }

    /// At the end of the file: whether there is another one to read, or the same from its start.
    async fn begin_again(&mut self) -> Result<bool> {
        let own = self.file.metadata().await?;
        if own.len() < self.at {
            (self.at, self.searched) = (0, 0);
            self.rest.clear();
            return Ok(true);
        }
        // Between two files of a rotation there may be none: then there is nothing new.
        let Ok(file) = (self.open)().await else { return Ok(false) };
        let there = file.metadata().await?;
        if (there.dev(), there.ino()) == (own.dev(), own.ino()) {
            return Ok(false);
        }
        self.file = file;
        self.at = 0;
        Ok(true)
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("file", &self.file).field("at", &self.at).finish_non_exhaustive()
    }
}
