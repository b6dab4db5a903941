use std::{any::type_name, fmt, sync::Arc};

use flumen_stream::{Frame, Pressure, Writer};
use tokio::sync::Mutex;

use crate::{Error, ErrorKind, Result, streaming::end_of};

/// Where a task emits frames while it runs; see [`Context::out`](crate::Context::out). Cheap to clone.
///
/// Tasks that share it, parallel branches for example, take turns frame by frame.
pub struct Out<F: Frame> {
    /// `None`: nobody asked for frames of this type.
    writer: Option<Arc<Mutex<Option<Writer<F>>>>>,
}

impl<F: Frame> Out<F> {
    pub(crate) fn new(writer: Writer<F>) -> Self {
        Self { writer: Some(Arc::new(Mutex::new(Some(writer)))) }
    }

    pub(crate) fn nowhere() -> Self {
        Self { writer: None }
    }

    /// Emits a frame; waits while the reader is behind by more than the stream's high mark.
    ///
    /// Cancel-safe: when the future is dropped before it is done, the frame was not emitted.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when the run has no reader of such frames, [`ErrorKind::Cancelled`] when the reader
    /// has left.
    pub async fn send(&self, frame: F) -> Result<()> {
        let Some(writer) = &self.writer else {
            let message = format!(
                "the run has no reader of `{}`: start it with `Task::stream`, or `pipe` it into a task that takes them",
                type_name::<F>()
            );
            return Err(Error::new(ErrorKind::Missing, message));
        };
        let gone = || Error::new(ErrorKind::Cancelled, "nobody reads the stream any more");
        let mut writer = writer.lock().await;
        writer.as_mut().ok_or_else(gone)?.append(frame).await.map_err(|_| gone())
    }

    /// Whether the reader keeps up: what a producer may tell its own source. `None` while another task emits.
    pub fn pressure(&self) -> Option<Pressure> {
        let writer = self.writer.as_ref()?.try_lock().ok()?;
        writer.as_ref().map(Writer::pressure)
    }

    /// Ends the stream.
    pub(crate) async fn close(&self, error: Option<&Error>) {
        let Some(writer) = &self.writer else { return };
        let writer = writer.lock().await.take();
        match (writer, error) {
            (Some(writer), None) => writer.complete(),
            (Some(writer), Some(error)) => writer.fail(end_of(error)),
            (None, _) => {}
        }
    }
}

impl<F: Frame> Clone for Out<F> {
    fn clone(&self) -> Self {
        Self { writer: self.writer.clone() }
    }
}

impl<F: Frame> fmt::Debug for Out<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("reader", &self.writer.is_some()).finish()
    }
}
