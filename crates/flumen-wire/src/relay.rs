//! Two connections made one: what comes from either side goes to the other.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the first to the second.
    pub forth: u64,
    /// From the second to the first.
    pub back: u64,
}

/// One of the two sides of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// A side of a relay broke.
#[derive(Debug, thiserror::Error)]
#[error("the {} side of the relay broke after {} bytes forth and {} back: {source}", match side { Side::First => "first", Side::Second => "second" }, moved.forth, moved.back)]
pub struct RelayError {
    /// Which side.
    pub side: Side,
    /// What went through before.
    pub moved: Moved,
    /// What the system said.
    pub source: io::Error,
}

/// Held of each direction; what more there is stays with the sender.
const BUFFER: usize = 16 * 1024;

/// Relays both ways until both sides have ended. The end of one direction is passed on, the other goes on. Whoever
/// reads slowly pauses the other side: each direction holds at most 16 KiB.
///
/// Cancel-safe in that dropping the future closes both.
///
/// # Errors
/// [`RelayError`] when a side breaks; both are closed then.
///
/// ```
/// use flumen_wire::relay::relay;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let ((mut client, one), (other, mut server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
/// let relaying = tokio::spawn(relay(one, other));
/// client.write_all(b"ping").await.unwrap();
/// let mut ping = [0; 4];
/// server.read_exact(&mut ping).await.unwrap();
/// drop((client, server));
/// assert_eq!(relaying.await.unwrap().unwrap().forth, 4);
/// # }
/// ```
pub async fn relay<A, B>(first: A, second: B) -> Result<Moved, RelayError>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (forth, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let moved = || Moved { forth: forth.load(Relaxed), back: back.load(Relaxed) };
    let ((first_in, first_out), (second_in, second_out)) = (split(first), split(second));
    let to_second = pin!(pump(first_in, second_out, (Side::First, Side::Second), &forth));
    let to_first = pin!(pump(second_in, first_out, (Side::Second, Side::First), &back));
    let ended = match select(to_second, to_first).await {
        Either::Left((Ok(()), other)) => other.await,
        Either::Right((Ok(()), other)) => other.await,
        Either::Left((broken, _)) | Either::Right((broken, _)) => broken,
    };
    ended.map(|()| moved()).map_err(|(side, source)| RelayError { side, moved: moved(), source })
}

/// Moves one direction to its end, and passes the end on.
async fn pump<R, W>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    sides: (Side, Side),
    moved: &AtomicU64,
) -> Result<(), (Side, io::Error)>
where
    R: AsyncRead,
    W: AsyncWrite,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(|error| (sides.0, error))?;
        if read == 0 {
            // A side that is gone already has nothing to be told.
            let _ = to.shutdown().await;
            return Ok(());
        }
        let sent = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        sent.await.map_err(|error| (sides.1, error))?;
        moved.fetch_add(read as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn each_direction_ends_for_itself() {
        let ((mut client, one), (other, mut server)) = (duplex(64), duplex(64));
        let relaying = tokio::spawn(relay(one, other));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"question", "the end went through");
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"the answer");
        assert_eq!(relaying.await.unwrap().unwrap(), Moved { forth: 8, back: 10 });
    }

    #[tokio::test]
    async fn a_reader_that_stops_pauses_the_sender() {
        let ((mut client, one), (other, _server)) = (duplex(64), duplex(64));
        let relaying = tokio::spawn(relay(one, other));
        let mut sent = 0;
        let flood = async {
            loop {
                sent += client.write(&[0; 64]).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            () = flood => {}
            () = async { for _ in 0..5_000 { tokio::task::yield_now().await } } => {}
        }
        assert!(sent <= BUFFER + 256, "{sent} bytes were taken");
        relaying.abort();
    }

    #[tokio::test]
    async fn a_side_that_breaks_is_named_with_what_went_through() {
        let (mut client, one) = duplex(64);
        let broken = silent_and_closed();
        let relaying = tokio::spawn(relay(one, broken));
        client.write_all(b"12345").await.unwrap();
        let error = relaying.await.unwrap().unwrap_err();
        assert_eq!((error.side, error.moved.forth), (Side::Second, 0));
        assert!(error.to_string().starts_with("the second side of the relay broke"), "{error}");
    }

    /// Takes nothing and never says anything.
    fn silent_and_closed() -> impl AsyncRead + AsyncWrite + Send {
        let (reader, keep) = duplex(1);
        std::mem::forget(keep);
        let (writer, gone) = duplex(1);
        drop(gone);
        tokio::io::join(reader, writer)
    }
}
