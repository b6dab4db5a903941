use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// One receive takes at most this many bytes: those of many streams come together.
const RECEIVE: usize = 64 * 1024;

thread_local! {
    /// Where every receive of this core lands, so that a connection that waits holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE].into_boxed_slice());
}

/// Receives once and shows what came; an empty slice is the end of input. `f` runs no code of the caller's that may come back here.
pub(super) fn poll_receive<I: AsyncRead + Unpin, R>(
    io: &mut I,
    cx: &mut Context<'_>,
    f: impl FnOnce(&[u8]) -> R,
) -> Poll<io::Result<R>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(f(buf.filled())))
    })
}
