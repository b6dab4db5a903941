use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use flumen_stream::Pressure;
use futures_util::poll;
use tokio::{sync::watch, time::Instant};

use super::Stats;
use crate::{
    Encoding, Outbound, Status,
    generation::{Accepted, Delta, Finish, Say, ServerMessage, Times, Usage},
};

/// Where a generation writes its answer. Writing waits while the reader is slow: that is the pause.
#[derive(Debug)]
pub struct Writer {
    outbound: Outbound,
    encoding: Encoding,
    /// Whether the caller has said pause.
    held: watch::Receiver<bool>,
    stats: Arc<Stats>,
    came: Instant,
    times: Times,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Writer {
    pub(super) fn new(
        outbound: Outbound,
        encoding: Encoding,
        held: watch::Receiver<bool>,
        stats: Arc<Stats>,
    ) -> Self {
        let (came, times) = (Instant::now(), Times::default());
        Self { outbound, encoding, held, stats, came, times }
    }

    /// The work begins now: what came before counts as waiting, in the times that `finish` tells.
    pub fn begin(&mut self) {
        self.times.queued = micros(self.came.elapsed());
    }

    /// Says that the request was taken. What a first token says as well, but later.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn accept(&mut self, accepted: Accepted) -> Result<(), Status> {
        self.send(Say::Accepted(accepted)).await
    }

    /// Writes a piece of the answer's text.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn text(&mut self, text: impl Into<String>) -> Result<(), Status> {
        self.delta(Delta { text: text.into(), ..Delta::default() }).await
    }

    /// Writes one frame of the request's dialect, which is passed on as it is.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn frame(&mut self, frame: impl Into<Bytes>) -> Result<(), Status> {
        self.delta(Delta { frame: frame.into(), ..Delta::default() }).await
    }

    /// Writes a piece of the answer.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn delta(&mut self, delta: Delta) -> Result<(), Status> {
        self.send(Say::Delta(delta)).await?;
        if self.times.first_token == 0 {
            self.times.first_token = micros(self.came.elapsed()).max(1);
        }
        self.stats.deltas.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Says what the answer cost.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn usage(&mut self, usage: Usage) -> Result<(), Status> {
        self.send(Say::Usage(usage)).await
    }

    /// Says that the answer is complete. Without it, it is a broken one.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn finish(mut self, reason: &str) -> Result<(), Status> {
        self.times.total = micros(self.came.elapsed());
        let finish = Finish { reason: reason.to_owned(), index: 0, times: Some(self.times) };
        self.send(Say::Finish(finish)).await
    }

    /// Whether the reader keeps up. A model that can do something better than wait asks here.
    pub fn pressure(&self) -> Pressure {
        if *self.held.borrow() { Pressure::Paused } else { self.outbound.pressure() }
    }

    /// How long it has waited for its reader so far.
    pub fn paused(&self) -> Duration {
        Duration::from_micros(self.times.paused)
    }

    /// Waits until the reader has caught up. Cancel-safe.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn ready(&mut self) -> Result<(), Status> {
        if self.pressure() == Pressure::Flowing {
            return Ok(());
        }
        let paused = Paused::begin(Arc::clone(&self.stats));
        let outcome = self.flowing().await;
        self.times.paused += micros(paused.since.elapsed());
        outcome
    }

    async fn flowing(&mut self) -> Result<(), Status> {
        loop {
            if self.held.wait_for(|held| !held).await.is_err() {
                return Err(crate::exchange::over());
            }
            self.outbound.ready().await?;
            if !*self.held.borrow() {
                return Ok(());
            }
        }
    }

    /// Writes a message.
    ///
    /// # Errors
    /// When nobody wants the answer any more.
    pub async fn send(&mut self, message: impl Into<ServerMessage>) -> Result<(), Status> {
        self.ready().await?;
        let message = message.into().encode(self.encoding);
        self.stats.bytes.fetch_add(message.len() as u64, Relaxed);
        let mut sending = pin!(self.outbound.send(message));
        if let Poll::Ready(sent) = poll!(&mut sending) {
            return sent;
        }
        // There was room, but not for all of it.
        let paused = Paused::begin(Arc::clone(&self.stats));
        let sent = sending.await;
        self.times.paused += micros(paused.since.elapsed());
        sent
    }
}

/// A wait for the reader. It counts however it ends.
struct Paused {
    stats: Arc<Stats>,
    since: Instant,
}

impl Paused {
    fn begin(stats: Arc<Stats>) -> Self {
        stats.pauses.fetch_add(1, Relaxed);
        stats.paused.fetch_add(1, Relaxed);
        Self { stats, since: Instant::now() }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.stats.paused.fetch_sub(1, Relaxed);
        self.stats.paused_micros.fetch_add(micros(self.since.elapsed()), Relaxed);
    }
}
