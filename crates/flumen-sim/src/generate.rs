//! An answer in time.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::{Stream, StreamExt, stream};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    answer::{Answer, write_event},
    directives::{Directives, Fault},
    reply::{Cut, Reply, error_json},
    stats::Answering,
};

/// Events that are due together are sent together, up to this many bytes.
const BATCH: usize = 8 * 1024;

/// When the events of an answer are due. The schedule is absolute: lateness does not add up.
struct Schedule {
    next: Instant,
    interval: Duration,
    jitter: f64,
    rng: Rng,
}

impl Schedule {
    fn new(directives: &Directives, start: Instant) -> Self {
        let rate = directives.tokens_per_second / f64::from(directives.chunk);
        let interval =
            if rate > 0.0 { Duration::from_secs_f64(1.0 / rate.max(1e-3)) } else { Duration::ZERO };
        let rng = Rng::with_seed(directives.seed.unwrap_or(7));
        Self { next: start + directives.first_token, interval, jitter: directives.jitter, rng }
    }

    fn advance(&mut self) {
        let sway = 1.0 + self.jitter * (self.rng.f64() * 2.0 - 1.0);
        self.next += self.interval.mul_f64(sway);
    }
}

struct Generation {
    answer: Answer,
    schedule: Schedule,
    fault: Option<Fault>,
    chunk: u32,
    events: u64,
    generated: u64,
    answering: Answering,
    over: bool,
}

/// The body of a streamed answer.
pub(crate) fn streamed(
    answer: Answer,
    directives: &Directives,
    start: Instant,
    answering: Answering,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send + 'static {
    let generation = Generation {
        answer,
        schedule: Schedule::new(directives, start),
        fault: directives.fault,
        chunk: directives.chunk,
        events: 0,
        generated: 0,
        answering,
        over: false,
    };
    let pieces = stream::unfold(generation, |mut generation| async move {
        let piece = generation.step().await?;
        Some((piece, generation))
    });
    if directives.split { split(pieces).boxed() } else { pieces.boxed() }
}

impl Generation {
    async fn step(&mut self) -> Option<Result<Bytes, Cut>> {
        if self.over {
            return None;
        }
        if self.schedule.interval.is_zero() && self.events > 0 {
            // An endless answer at full speed must not keep its runtime from everybody else.
            yield_now().await;
        } else {
            sleep_until(self.schedule.next).await;
        }
        let mut out = Vec::with_capacity(512);
        let now = Instant::now();
        while out.len() < BATCH && (self.schedule.next <= now || self.schedule.interval.is_zero()) {
            if let Some(fault) = self.due_fault() {
                if out.is_empty() {
                    return self.fail(fault).await;
                }
                break;
            }
            if self.events == 0 {
                self.answer.write_opening(&mut out);
            }
            let Some((text, tokens)) = self.answer.next_text(self.chunk) else {
                self.answer.write_end(&mut out, self.generated);
                self.finish();
                break;
            };
            self.answer.write_text(&mut out, &text);
            self.answering.token(tokens);
            self.generated += tokens;
            self.events += 1;
            self.schedule.advance();
            if self.answer.tokens == 0 && self.due_fault().is_none() {
                self.answer.write_end(&mut out, self.generated);
                self.finish();
                break;
            }
        }
        Some(Ok(out.into()))
    }

    fn finish(&mut self) {
        self.over = true;
        self.answering.complete();
    }

    fn due_fault(&self) -> Option<Fault> {
        self.fault.filter(|fault| match fault {
            Fault::Stall(at)
            | Fault::Cut(at)
            | Fault::End(at)
            | Fault::Error(at)
            | Fault::Garbage(at)
            | Fault::Unterminated(at) => self.events >= *at,
            Fault::Status(_) => false,
        })
    }

    async fn fail(&mut self, fault: Fault) -> Option<Result<Bytes, Cut>> {
        let mut out = Vec::new();
        match fault {
            Fault::Stall(_) => std::future::pending().await,
            Fault::Cut(_) => {
                self.finish();
                return Some(Err(Cut));
            }
            Fault::End(_) | Fault::Status(_) => {
                self.finish();
                return None;
            }
            Fault::Error(_) => {
                write_event(
                    &mut out,
                    &error_json("sim_fault", "the simulator was told to fail here", "server_error"),
                );
            }
            Fault::Garbage(_) => {
                out.extend((0..512_u32).map(|byte| u8::try_from(byte % 251).unwrap_or(0) | 0x80));
            }
            Fault::Unterminated(_) => {
                self.answer.write_text(&mut out, "half an event");
                out.truncate(out.len() / 2);
            }
        }
        self.finish();
        Some(Ok(out.into()))
    }
}

/// Cuts each piece in two, within a character where there is one that can be cut, and lets the first half arrive alone.
fn split(
    pieces: impl Stream<Item = Result<Bytes, Cut>> + Send,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send {
    pieces.flat_map(|piece| {
        let halves = match piece {
            Ok(mut piece) => {
                let within = piece.iter().position(|byte| *byte >= 0x80).map_or(piece.len() / 2, |at| at + 1);
                let head = piece.split_to(within);
                vec![Ok(head), Ok(piece)]
            }
            error => vec![error],
        };
        stream::iter(halves).then(|half| async {
            sleep(Duration::from_millis(1)).await;
            half
        })
    })
}

/// A whole answer, after the time that it takes to generate.
pub(crate) async fn whole(
    mut answer: Answer,
    directives: &Directives,
    start: Instant,
    mut answering: Answering,
) -> Reply {
    let mut schedule = Schedule::new(directives, start);
    let (mut text, mut generated, mut events) = (String::new(), 0, 0);
    loop {
        match directives.fault {
            Some(Fault::Stall(at)) if events >= at => std::future::pending().await,
            Some(Fault::Cut(at) | Fault::End(at) | Fault::Unterminated(at) | Fault::Garbage(at))
                if events >= at =>
            {
                answering.complete();
                return Reply::cut();
            }
            Some(Fault::Error(at)) if events >= at => {
                answering.complete();
                let status = http::StatusCode::INTERNAL_SERVER_ERROR;
                return Reply::error(status, "sim_fault", "the simulator was told to fail here");
            }
            _ => {}
        }
        if text.len() > MAX_WHOLE {
            break;
        }
        let Some((piece, tokens)) = answer.next_text(directives.chunk) else { break };
        if schedule.next > Instant::now() {
            sleep_until(schedule.next).await;
        } else if events % 256 == 255 {
            yield_now().await;
        }
        text.push_str(&piece);
        answering.token(tokens);
        generated += tokens;
        events += 1;
        schedule.advance();
    }
    answering.complete();
    Reply::json(&answer.whole(&text, generated))
}

/// A whole answer is held in memory; an endless one has to end somewhere.
const MAX_WHOLE: usize = 64 << 20;
