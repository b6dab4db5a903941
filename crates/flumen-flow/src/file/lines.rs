use std::{fmt, path::Path};

use bytes::{Buf, Bytes, BytesMut};
use flumen_stream::Cursor;

use super::Files;
use crate::{Error, Result};

/// A line longer than this is an error: a file without line ends must not fill the memory.
const LONGEST: usize = 1024 * 1024;

/// The lines of a file one after the other, without their ends (LF or CRLF); see [`Files::lines`].
pub struct Lines {
    pieces: Cursor<Bytes>,
    rest: BytesMut,
    /// How much of `rest` is known to hold no line end.
    searched: usize,
    over: bool,
}

impl Files {
    /// The lines of a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn lines(&self, path: impl AsRef<Path>) -> Result<Lines> {
        let file = self.open(path).await?;
        Ok(Lines { pieces: file.stream(0, u64::MAX), rest: BytesMut::new(), searched: 0, over: false })
    }
}

impl Lines {
    /// The next line; `None` after the last, which needs no line end.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// When reading fails, and for a line of more than 1 MiB. Nothing more comes after it.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            if let Some(line) = cut_line(&mut self.rest, &mut self.searched) {
                return Some(Ok(line));
            }
            if self.over {
                self.searched = 0;
                let last = std::mem::take(&mut self.rest).freeze();
                return (!last.is_empty()).then_some(Ok(last));
            }
            if self.rest.len() > LONGEST {
                (self.over, self.searched) = (true, 0);
                self.rest.clear();
                return Some(Err(Error::failed(format!("a line is longer than {LONGEST} bytes"))));
            }
            match self.pieces.next().await {
                Some(Ok(piece)) => self.rest.extend_from_slice(&piece),
                Some(Err(end)) => {
                    (self.over, self.searched) = (true, 0);
                    self.rest.clear();
                    return Some(Err(end.into()));
                }
                None => self.over = true,
            }
        }
    }
}

/// Takes the first line off, if it is whole.
pub(super) fn cut_line(rest: &mut BytesMut, searched: &mut usize) -> Option<Bytes> {
    let Some(at) = rest[*searched..].iter().position(|&byte| byte == b'\n') else {
        *searched = rest.len();
        return None;
    };
    let end = *searched + at;
    *searched = 0;
    let line = rest.split_to(end);
    rest.advance(1);
    let line = line.freeze();
    Some(if line.ends_with(b"\r") { line.slice(..line.len() - 1) } else { line })
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}
