use std::{
    fmt,
    pin::Pin,
    task::{Context as Cx, Poll, ready},
};

use flumen_stream::{Cause, Cursor, End, Frame, Watermarks};
use futures_util::Stream;

use crate::{Context, Error, ErrorKind, Out, Result, Run, RunHandle, Task, run::drive};

/// The frames of a run as they are emitted, then its failure, if it failed. Dropping it cancels the run.
///
/// A reader that does not poll pauses the tasks that emit.
pub struct Streaming<F: Frame, O> {
    frames: Cursor<F>,
    run: Run<O>,
    output: Option<Result<O>>,
    over: bool,
}

impl<F: Frame + Send + 'static, O: Send + 'static> Streaming<F, O> {
    pub(crate) fn start<T>(task: T, cx: &Context, input: T::Input, marks: Watermarks) -> Self
    where
        T: Task<Output = O> + 'static,
        T::Input: 'static,
    {
        let (writer, frames) = flumen_stream::log(marks);
        let out = Out::new(writer);
        let cx = cx.for_run().with_out(out.clone());
        let handle = cx.handle();
        let work = async move {
            let outcome = drive(task, cx, input).await;
            out.close(outcome.as_ref().err()).await;
            outcome
        };
        Self { frames, run: Run::of(tokio::spawn(work), handle), output: None, over: false }
    }

    /// Steers and shows the run.
    pub fn handle(&self) -> RunHandle {
        self.run.handle()
    }

    /// Waits for the run's end and gives its output. Frames that were not read are dropped.
    ///
    /// # Errors
    /// Those of the run.
    pub async fn output(mut self) -> Result<O> {
        if let Some(output) = self.output.take() {
            return output;
        }
        while let Some(Ok(_)) = self.frames.next().await {}
        (&mut self.run).await
    }
}

impl<F: Frame + Send + 'static, O: Send + Unpin + 'static> Stream for Streaming<F, O> {
    type Item = Result<F>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<F>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(Ok(frame)) = ready!(Pin::new(&mut this.frames).poll_next(cx)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let outcome = ready!(Pin::new(&mut this.run).poll(cx));
        this.over = true;
        match outcome {
            Ok(output) => {
                this.output = Some(Ok(output));
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl<F: Frame, O> fmt::Debug for Streaming<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}

/// How a failed producer ends its stream.
pub(crate) fn end_of(error: &Error) -> End {
    let cause = match error.kind() {
        ErrorKind::Cancelled => Cause::Stopped,
        ErrorKind::TimedOut => Cause::TotalTimeout,
        _ => Cause::Internal,
    };
    End::new(cause, error.to_string())
}
