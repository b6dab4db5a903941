//! Tasks that stream into each other: stages that overlap, and branches whose frames are merged.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::{Pin, pin},
    task::{Context as Cx, Poll, ready},
};

use flumen_stream::{Cursor, Frame, Watermarks};
use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream::select_all,
};

use crate::{
    Context, Error, ErrorKind, Out, Result, Sketch, Task,
    parallel::{Group, Lanes, Parallel, in_branch},
};

/// The frames of the task before, as a stream; see [`Task::pipe`]. It ends with an `Err` when that task failed.
pub struct Frames<F: Frame> {
    cursor: Cursor<F>,
}

impl<F: Frame> Frames<F> {
    /// The next frame.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// Once, when the task before has failed.
    pub async fn next(&mut self) -> Option<Result<F>> {
        Some(self.cursor.next().await?.map_err(Error::from))
    }
}

impl<F: Frame> Stream for Frames<F> {
    type Item = Result<F>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Result<F>>> {
        let frame = ready!(Pin::new(&mut self.cursor).poll_next(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }
}

impl<F: Frame> fmt::Debug for Frames<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}

/// What is held between two stages, or of one branch of a merge.
const BUFFER: usize = 64 * 1024;

/// Two stages at the same time; see [`Task::pipe`].
///
/// Its output is that of the second stage. When the second stage ends, the first is dropped; when the first fails, the
/// second reads what is left, sees the failure, and the pipe fails with it.
pub struct Pipe<A, B, F> {
    first: A,
    second: B,
    buffer: usize,
    frames: PhantomData<fn(F)>,
}

impl<A, B, F> Pipe<A, B, F> {
    pub(crate) fn new(first: A, second: B) -> Self {
        Self { first, second, buffer: BUFFER, frames: PhantomData }
    }

    /// Holds up to this many bytes between the stages; 64 KiB unless said otherwise.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }
}

impl<A, B, F> Task for Pipe<A, B, F>
where
    A: Task,
    B: Task<Input = Frames<F>>,
    F: Frame + Send + 'static,
{
    type Input = A::Input;
    type Output = B::Output;

    async fn run(&self, cx: &Context, input: A::Input) -> Result<B::Output> {
        let (writer, cursor) = flumen_stream::log(Watermarks::new(self.buffer));
        let out = Out::new(writer);
        let first_cx = cx.with_out(out.clone());
        let first = pin!(async {
            let outcome = self.first.run(&first_cx, input).await.map(drop);
            out.close(outcome.as_ref().err()).await;
            outcome
        });
        let second = pin!(self.second.run(cx, Frames { cursor }));
        match select(first, second).await {
            Either::Left((Ok(()), second)) => second.await,
            // The second stage does not want the rest: what it comes to is what counts.
            Either::Left((Err(error), second)) if error.kind() == ErrorKind::Cancelled => second.await,
            Either::Left((Err(error), second)) => {
                // The second stage may have something to finish; the failure that counts is the first.
                let _ = second.await;
                Err(error)
            }
            Either::Right((outcome, _)) => outcome,
        }
    }

    fn sketch(&self) -> Sketch {
        Sketch::pipe(self.first.sketch(), self.second.sketch())
    }
}

impl<A, B, F> fmt::Debug for Pipe<A, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

/// A frame with the number of the parallel branch that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged<F> {
    /// The branch, from 0.
    pub branch: usize,
    /// The frame.
    pub frame: F,
}

impl<F: Frame> Frame for Tagged<F> {
    fn size(&self) -> usize {
        self.frame.size()
    }
}

impl<G: Group> Parallel<G> {
    /// Merges the frames of the branches in the branches' order: first all of the first branch, and so on. Branches whose
    /// turn has not come run on until they have filled 64 KiB of frames each, then they wait.
    pub fn ordered<F: Frame + Send + 'static>(self) -> Ordered<G, F> {
        Ordered { parallel: self, buffer: BUFFER, frames: PhantomData }
    }

    /// Merges the frames of the branches as they come, each with the number of its branch ([`Tagged`]).
    pub fn tagged<F: Frame + Send + 'static>(self) -> AsReady<G, F> {
        AsReady { parallel: self, frames: PhantomData }
    }
}

/// Runs each branch with an output of its own, and closes that when the branch has ended.
struct Separate<F: Frame> {
    lanes: Vec<(Context, Out<F>)>,
}

impl<F: Frame + Send + 'static> Separate<F> {
    fn new(cx: &Context, branches: usize, buffer: usize) -> (Self, Vec<Cursor<F>>) {
        let (lanes, cursors) = (0..branches)
            .map(|_| {
                let (writer, cursor) = flumen_stream::log(Watermarks::new(buffer));
                let out = Out::new(writer);
                ((cx.with_out(out.clone()), out), cursor)
            })
            .unzip();
        (Self { lanes }, cursors)
    }
}

impl<F: Frame + Send + 'static> Lanes for Separate<F> {
    async fn run<T: Task>(&self, number: usize, task: &T, input: T::Input) -> Result<T::Output> {
        let (cx, out) = &self.lanes[number];
        let outcome = task.run(cx, input).await;
        out.close(outcome.as_ref().err()).await;
        outcome.map_err(|error| in_branch(error, number))
    }
}

/// A parallel whose frames come branch by branch; see [`Parallel::ordered`].
pub struct Ordered<G, F> {
    parallel: Parallel<G>,
    buffer: usize,
    frames: PhantomData<fn(F)>,
}

impl<G, F> Ordered<G, F> {
    /// Holds up to this many bytes of each branch whose turn has not come.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }
}

impl<G: Group, F: Frame + Send + 'static> Task for Ordered<G, F> {
    type Input = G::Input;
    type Output = G::Outputs;

    async fn run(&self, cx: &Context, input: G::Input) -> Result<G::Outputs> {
        let (lanes, cursors) = Separate::<F>::new(cx, self.parallel.group.branches(), self.buffer);
        let out = cx.out::<F>();
        let forward = pin!(async {
            for mut cursor in cursors {
                // A branch that failed fails the whole; its error is the one to tell.
                while let Some(Ok(frame)) = cursor.next().await {
                    out.send(frame).await?;
                }
            }
            Ok(())
        });
        let work = pin!(self.parallel.group.all(&lanes, self.parallel.width, input));
        both(work, forward).await
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel("all, frames in order", self.parallel.group.sketches())
    }
}

/// A parallel whose frames come as they are ready, with their branch; see [`Parallel::tagged`].
pub struct AsReady<G, F> {
    parallel: Parallel<G>,
    frames: PhantomData<fn(F)>,
}

impl<G: Group, F: Frame + Send + 'static> Task for AsReady<G, F> {
    type Input = G::Input;
    type Output = G::Outputs;

    async fn run(&self, cx: &Context, input: G::Input) -> Result<G::Outputs> {
        let (lanes, cursors) = Separate::<F>::new(cx, self.parallel.group.branches(), BUFFER);
        let out = cx.out::<Tagged<F>>();
        let tagged = cursors.into_iter().enumerate().map(|(branch, cursor)| {
            cursor
                .filter_map(move |frame| std::future::ready(frame.ok().map(|frame| Tagged { branch, frame })))
        });
        let mut frames = select_all(tagged);
        let forward = pin!(async {
            while let Some(frame) = frames.next().await {
                out.send(frame).await?;
            }
            Ok(())
        });
        let work = pin!(self.parallel.group.all(&lanes, self.parallel.width, input));
        both(work, forward).await
    }

    fn sketch(&self) -> Sketch {
        Sketch::parallel("all, frames as ready", self.parallel.group.sketches())
    }
}

/// Both to their ends, or the first failure.
async fn both<O>(
    work: Pin<&mut impl Future<Output = Result<O>>>,
    forward: Pin<&mut impl Future<Output = Result<()>>>,
) -> Result<O> {
    match select(work, forward).await {
        Either::Left((Ok(output), forward)) => forward.await.map(|()| output),
        Either::Right((Ok(()), work)) => work.await,
        // A failure does not wait for a reader; the stream ends with it.
        Either::Left((Err(error), _)) | Either::Right((Err(error), _)) => Err(error),
    }
}

impl<G, F> fmt::Debug for Ordered<G, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

impl<G, F> fmt::Debug for AsReady<G, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsReady").finish_non_exhaustive()
    }
}
