//! An answer as a stream of events.

use std::{future::pending, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use tokio::{
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    error::ApiError,
    fault::Breakage,
    generation::{GARBAGE, Generation, halves},
    reply::{Cut, ReplyBody},
};

/// The most bytes of one chunk, unless a single event is larger.
const CHUNK: usize = 8 << 10;
/// How long a cut waits for what came before it to leave the process.
const GRACE: Duration = Duration::from_millis(1);

/// An answer that is being streamed.
#[derive(Debug)]
pub(crate) struct Events {
    generation: Generation,
    buffer: BytesMut,
    /// The text of the event at hand; kept for its allocation.
    text: String,
    /// Token events so far.
    count: u64,
    /// Bytes of the largest event so far.
    largest: usize,
    /// The second half of a chunk that was split.
    rest: Option<Bytes>,
    over: bool,
}

impl Events {
    pub(crate) fn new(generation: Generation) -> Self {
        Self {
            generation,
            buffer: BytesMut::new(),
            text: String::new(),
            count: 0,
            largest: 0,
            rest: None,
            over: false,
        }
    }

    pub(crate) fn into_body(self) -> ReplyBody {
        ReplyBody::new(stream::unfold(self, |mut events| async move {
            let chunk = events.next().await?;
            Some((chunk, events))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        if let Some(rest) = self.rest.take() {
            // Time for the first half to leave on its own.
            yield_now().await;
            return Some(Ok(rest));
        }
        if self.over {
            return None;
        }
        let due = self.generation.schedule.due(self.count);
        if due > Instant::now() {
            sleep_until(due).await;
        } else {
            // Whoever reads as fast as this generates would keep all other tasks of the thread waiting.
            yield_now().await;
        }
        if let Some(breakage) = self.fault() {
            return self.strike(breakage).await;
        }
        self.fill(Instant::now().max(due));
        Some(Ok(self.chunk()))
    }

    /// Writes the events that are due, as many as one chunk takes.
    fn fill(&mut self, now: Instant) {
        self.buffer.reserve(CHUNK);
        let tokens = self.generation.answer.tokens();
        loop {
            let start = self.buffer.len();
            self.open();
            if !self.generation.answer.is_over() {
                self.put_event();
            }
            self.largest = self.largest.max(self.buffer.len() - start);
            if self.fault().is_some() {
                break;
            }
            if self.generation.answer.is_over() {
                let closing = self.closing();
                self.buffer.extend_from_slice(closing.as_bytes());
                self.finish();
                break;
            }
            if self.generation.split
                || self.buffer.len() + self.largest > CHUNK
                || self.generation.schedule.due(self.count) > now
            {
                break;
            }
        }
        let Generation { ticket, schedule, answer, .. } = &self.generation;
        ticket.generated(answer.tokens() - tokens);
        ticket.progress(self.count, schedule.due(self.count).max(now));
    }

    fn fault(&self) -> Option<Breakage> {
        self.generation.fault.filter(|(_, after)| *after == self.count).map(|(breakage, _)| breakage)
    }

    async fn strike(&mut self, breakage: Breakage) -> Option<Result<Bytes, Cut>> {
        match breakage {
            Breakage::Stall => {
                self.generation.ticket.stall();
                pending::<()>().await;
                return None;
            }
            Breakage::Cut => {
                sleep(GRACE).await;
                self.finish();
                return Some(Err(Cut));
            }
            Breakage::End => {
                self.finish();
                return None;
            }
            Breakage::Error => {
                let error = ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR).body();
                self.buffer.extend_from_slice(format!("data: {error}\n\n").as_bytes());
            }
            Breakage::Garbage => self.buffer.extend_from_slice(GARBAGE),
            Breakage::Unterminated => {
                self.open();
                let start = self.buffer.len();
                if self.generation.answer.is_over() {
                    let closing = self.closing();
                    let event = closing.find("\n\n").unwrap_or(closing.len());
                    self.buffer.extend_from_slice(&closing.as_bytes()[..event]);
                } else {
                    self.put_event();
                }
                self.buffer.truncate(usize::midpoint(start, self.buffer.len()));
            }
        }
        self.finish();
        Some(Ok(self.chunk()))
    }

    fn open(&mut self) {
        if self.count == 0
            && let Some(opening) = self.generation.frames.opening()
        {
            self.buffer.extend_from_slice(opening.as_bytes());
        }
    }

    fn put_event(&mut self) {
        self.generation.answer.next_event(&mut self.text);
        self.generation.frames.put(&mut self.buffer, self.count, &self.text);
        self.count += 1;
    }

    fn closing(&self) -> String {
        let Generation { answer, frames, .. } = &self.generation;
        frames.closing(self.count, answer.finish_reason(frames.shape().finish_reason()), answer.tokens())
    }

    fn finish(&mut self) {
        self.over = true;
        self.generation.ticket.complete();
    }

    fn chunk(&mut self) -> Bytes {
        let filled = std::mem::take(&mut self.buffer);
        // Whoever holds a small chunk must not hold the room that there was for a large one.
        let small = filled.len() * 2 < filled.capacity();
        let chunk = if small { Bytes::copy_from_slice(&filled) } else { filled.freeze() };
        if !self.generation.split {
            return chunk;
        }
        let (first, second) = halves(chunk);
        self.rest = Some(second);
        first
    }
}
