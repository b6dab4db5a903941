//! Files over HTTP: downloads with ranges that go on where they broke off, uploads that do the same ([tus 1.0]), and tails of
//! growing files as events. All of it below one directory: paths and links that lead out of it are not found.
//!
//! ```no_run
//! use flumen::{files, serve};
//!
//! # async fn run() -> std::io::Result<()> {
//! let root = files::Root::open("public")?;
//! serve("127.0.0.1:3000", files::downloads(root)).await
//! # }
//! ```
//!
//! [tus 1.0]: https://tus.io/protocols/resumable-upload

use std::{
    fmt, fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use cap_std::{ambient_authority, fs::Dir};
use flumen_flow::file::{File, Files};
use http::StatusCode;

mod download;
mod tail;
mod upload;

pub use download::downloads;
pub use tail::tails;
pub use upload::{UploadLimits, uploads};

/// A directory that nothing leads out of. Cheap to clone.
#[derive(Clone)]
pub struct Root {
    dir: Arc<Dir>,
    files: Files,
}

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path leads out of the root, or is no path.
    #[error("`{0}` leads out of the directory that is served")]
    Outside(String),
    /// There is no such file, or it is no plain file.
    #[error("there is no file `{0}`")]
    NotFound(String),
    /// The system refuses.
    #[error("`{path}` cannot be used: {source}")]
    Io {
        /// The path below the root.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The work was not done.
    #[error("{0}")]
    Work(flumen_flow::Error),
}

impl From<flumen_flow::Error> for FileError {
    fn from(error: flumen_flow::Error) -> Self {
        Self::Work(error)
    }
}

impl Root {
    /// Opens a directory. Its files are worked on in the queue of [`Files::default`].
    ///
    /// # Errors
    /// When it is not there or no directory.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { dir: Arc::new(dir), files: Files::default() })
    }

    /// Works on its files through this queue.
    pub fn on(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// Opens a plain file below the root to read.
    ///
    /// # Errors
    /// See [`FileError`].
    pub async fn file(&self, path: &str) -> Result<(File, fs::Metadata), FileError> {
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true);
        self.file_with(path, options).await
    }

    async fn file_with(
        &self,
        path: &str,
        options: cap_std::fs::OpenOptions,
    ) -> Result<(File, fs::Metadata), FileError> {
        let inside = inside(path)?;
        let opened = self.call(path, move |dir| {
            let file = dir.open_with(&inside, &options)?.into_std();
            let metadata = file.metadata()?;
            if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::NotFound.into()) }
        });
        let (file, metadata) = opened.await?;
        Ok((self.files.wrap(file, path), metadata))
    }

    /// Does file work below the root, where it holds up nobody.
    async fn call<T: Send + 'static>(
        &self,
        path: &str,
        call: impl FnOnce(&Dir) -> io::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        let dir = Arc::clone(&self.dir);
        let done = self.files.queue().run(move || call(&dir)).await?;
        done.map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                    FileError::NotFound(path)
                }
                // What the sandbox says when a link leads out.
                io::ErrorKind::PermissionDenied if source.raw_os_error().is_none() => {
                    FileError::Outside(path)
                }
                _ => FileError::Io { path, source },
            }
        })
    }
}

/// A relative path without tricks.
fn inside(path: &str) -> Result<PathBuf, FileError> {
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !path.contains(['\0', '\\']) {
        return Ok(relative.to_owned());
    }
    Err(FileError::Outside(path.to_owned()))
}

impl IntoResponse for FileError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            // The same answer: whether something is outside is nobody's business.
            Self::Outside(_) | Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                (StatusCode::FORBIDDEN, "forbidden")
            }
            Self::Work(error) if error.kind() == flumen_flow::ErrorKind::Refused => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
            }
            Self::Io { .. } | Self::Work(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        tracing::debug!(error = %self, "a file is not served");
        (status, Json(serde_json::json!({"error": {"code": code, "message": status.canonical_reason()}})))
            .into_response()
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_lead_inside() {
        assert_eq!(inside("/a/b.txt").unwrap(), Path::new("a/b.txt"));
        for path in ["../a", "a/../../b", "/..", "a\0b", "..\\b"] {
            assert!(inside(path).is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn links_that_lead_out_are_refused() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "x").unwrap();
        fs::write(dir.path().join("plain"), "y").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("plain", dir.path().join("within")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(matches!(root.file("link").await.unwrap_err(), FileError::Outside(_)));
        assert!(root.file("within").await.is_ok());
        assert!(matches!(root.file("nothing").await.unwrap_err(), FileError::NotFound(_)));
        assert!(matches!(root.file("").await.unwrap_err(), FileError::NotFound(_)));
    }
}
