//! The heart: upstream -> log. Everything a token passes between the two sockets on its way in.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use flumen_stream::{Cause, Deadlines, End, Expired, codec::sse::Decoder, deadline::Watchdog};
use flumen_wire::{
    client::Body,
    listen::{Shutdown, Signal},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    burst::{Burst, Gather},
    error::upstream_end,
    observe::{Record, metrics::RouteMetrics},
    provider::openai::{self, Look, Usage},
    sink::{Gone, Sink},
};

/// One stream on its way from the upstream into the log. It runs as a task of its own, on the core of its client.
pub(crate) struct Relay {
    body: Body,
    sink: Sink,
    decoder: Decoder,
    dog: Watchdog,
    aborted: Signal,
    rules: Rules,
    record: Arc<Record>,
    metrics: RouteMetrics,
    seen: Seen,
}

/// What a relay holds its two sides to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The upstream's clocks. They start with the request.
    pub deadlines: Deadlines,
    /// How long the client may take nothing while something waits for it.
    pub client_stall: Duration,
    /// Largest event accepted, in bytes.
    pub max_event: usize,
    /// The upstream was asked for usage on the gateway's own account: the event that tells it stays here.
    pub withhold_usage: bool,
}

/// What went through, published once at the end.
#[derive(Default)]
struct Seen {
    meter: flumen_stream::Meter,
    first_token: Option<Duration>,
    usage: Option<Usage>,
    paused: Duration,
    done: bool,
}

/// Why the relay stopped before the end mark.
enum Stop {
    /// Nobody wants it any more.
    Gone(Gone),
    /// An end that readers are told.
    End(End),
    /// An end that the upstream told readers itself.
    Told(Cause),
}

/// How long a finished answer may take to end its body, so that the connection can be used again.
const TAIL: Duration = Duration::from_millis(100);

impl Relay {
    /// A relay from a response body into a sink.
    pub(crate) fn new(
        body: Body,
        sink: Sink,
        rules: Rules,
        record: Arc<Record>,
        metrics: RouteMetrics,
        shutdown: &Shutdown,
    ) -> Self {
        Self {
            body,
            sink,
            decoder: Decoder::new(rules.max_event),
            dog: Watchdog::start_at(rules.deadlines, record.started()),
            aborted: shutdown.abort_signal(),
            rules,
            record,
            metrics,
            seen: Seen::default(),
        }
    }

    /// Moves events until the end, whatever it is. The upstream is let go of before this returns.
    pub(crate) async fn run(mut self) {
        self.metrics.active.inc();
        let stop = self.pump().await;
        self.metrics.active.dec();
        let Self { mut body, sink, record, seen, .. } = self;
        publish(&record, seen, &body);
        let kept = sink.numbers_events();
        match stop {
            Ok(()) => {
                if kept {
                    record.ended(Cause::Complete, None);
                }
                sink.complete().await;
                // A body that was read to its end gives its connection back.
                while let Ok(Some(Ok(_))) = timeout(TAIL, body.piece()).await {}
            }
            Err(Stop::Gone(gone)) => {
                drop(body);
                let cause = if gone == Gone::Stopped { Cause::Stopped } else { Cause::ClientGone };
                if kept {
                    record.ended(cause, None);
                }
                sink.leave(gone).await;
            }
            Err(Stop::Told(cause)) => {
                record.ended(cause, None);
                sink.told(cause).await;
            }
            Err(Stop::End(end)) => {
                drop(body);
                if kept || end.cause == Cause::ClientStalled {
                    // Whoever does not read will not read this either.
                    record.ended(end.cause, kept.then_some(end.code));
                }
                sink.fail(end).await;
            }
        }
    }

    async fn pump(&mut self) -> Result<(), Stop> {
        let mut batch = Vec::new();
        while !self.seen.done {
            self.room().await?;
            let Some(piece) = self.piece().await? else {
                return Err(Stop::End(truncated()));
            };
            let piece = piece.map_err(|error| Stop::End(upstream_end(&error)))?;
            self.metrics.bytes_in.inc_by(piece.len() as u64);
            self.decoder.push(piece.clone());
            let apart = self.sink.numbers_events();
            let stop = self.take_events(&mut Gather::new(piece, &mut batch).apart(apart));
            self.arrived(&batch)?;
            self.sink.push(&mut batch).await.map_err(Stop::End)?;
            stop?;
        }
        Ok(())
    }

    /// Takes every whole event out of what was received.
    fn take_events(&mut self, gather: &mut Gather<'_>) -> Result<(), Stop> {
        let stop = self.look_at_events(gather);
        gather.finish();
        stop
    }

    fn look_at_events(&mut self, gather: &mut Gather<'_>) -> Result<(), Stop> {
        while let Some(event) = self.decoder.next() {
            let event = event.map_err(|error| {
                Stop::End(
                    End::new(Cause::UpstreamError, format!("upstream: {error}")).with_code("event_too_long"),
                )
            })?;
            if !event.has_data() {
                continue;
            }
            if self.seen.first_token.is_none() && openai::is_token(&event) {
                self.seen.first_token = Some(self.record.started().elapsed());
            }
            match openai::look(&event) {
                Look::Part => {}
                Look::Usage(usage) => {
                    self.seen.usage = Some(usage);
                    if self.rules.withhold_usage {
                        continue;
                    }
                }
                Look::PartAndUsage(usage) => self.seen.usage = Some(usage),
                Look::Error => {
                    gather.error(event);
                    return Err(Stop::Told(Cause::UpstreamError));
                }
                Look::Done => {
                    gather.keep(event);
                    self.seen.done = true;
                    return Ok(());
                }
            }
            gather.keep(event);
        }
        Ok(())
    }

    /// Notes what has arrived together.
    fn arrived(&mut self, batch: &[Burst]) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let now = self.body.timings().latest();
        let events = batch.iter().map(|burst| u64::from(burst.events)).sum();
        let bytes = batch.iter().map(|burst| burst.wire.len() as u64).sum();
        if let Some(gap) = self.seen.meter.record(events, bytes, now) {
            self.metrics.gap.observe(gap.as_secs_f64());
        }
        self.metrics.frames_in.inc_by(events);
        if self.seen.first_token.is_some() && !self.seen.done {
            self.dog.progress(now).map_err(|expired| Stop::End(timed_out(expired)))?;
        }
        Ok(())
    }

    /// The next piece of the upstream's body. Gives up at once when nobody reads any more.
    async fn piece(&mut self) -> Result<Option<Result<bytes::Bytes, flumen_wire::client::Error>>, Stop> {
        poll_fn(|cx| {
            if let Poll::Ready(piece) = self.body.poll_piece(cx) {
                return Poll::Ready(Ok(piece));
            }
            if let Poll::Ready(gone) = self.sink.poll_gone(cx) {
                return Poll::Ready(Err(Stop::Gone(gone)));
            }
            self.poll_interrupted(cx).map(|end| Err(Stop::End(end)))
        })
        .await
    }

    /// Backpressure: waits until the client has taken enough. Meanwhile the upstream is not read and its clocks for
    /// tokens stand still; instead it is the client that must not stall.
    async fn room(&mut self) -> Result<(), Stop> {
        let ready = poll_fn(|cx| Poll::Ready(self.sink.poll_ready(cx))).await;
        if let Poll::Ready(ready) = ready {
            return ready.map_err(Stop::Gone);
        }
        let paused = Instant::now();
        self.dog.suspend();
        let outcome = self.drained().await;
        self.dog.resume(Instant::now());
        self.seen.paused += paused.elapsed();
        self.metrics.paused.inc_by(paused.elapsed().as_secs_f64());
        outcome
    }

    async fn drained(&mut self) -> Result<(), Stop> {
        let mut taken = self.sink.taken();
        let mut stall = Box::pin(sleep(self.rules.client_stall));
        poll_fn(|cx| {
            if let Poll::Ready(ready) = self.sink.poll_ready(cx) {
                return Poll::Ready(ready.map_err(Stop::Gone));
            }
            while stall.as_mut().poll(cx).is_ready() {
                if self.sink.taken() == taken && !self.sink.give_readers_up() {
                    return Poll::Ready(Err(Stop::End(stalled())));
                }
                taken = self.sink.taken();
                stall.as_mut().reset(Instant::now() + self.rules.client_stall);
            }
            self.poll_interrupted(cx).map(|end| Err(Stop::End(end)))
        })
        .await
    }

    fn poll_interrupted(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.aborted.poll(cx).is_ready() {
            return Poll::Ready(End::new(Cause::Shutdown, "the server is shutting down"));
        }
        self.dog.poll_expired(cx).map(timed_out)
    }
}

fn publish(record: &Record, seen: Seen, body: &Body) {
    let mut facts = record.facts();
    facts.meter = seen.meter;
    facts.first_token = seen.first_token;
    facts.usage = seen.usage;
    facts.paused = seen.paused;
    facts.timings = Some(body.timings().clone());
}

fn truncated() -> End {
    End::new(Cause::UpstreamTruncated, "the upstream ended the stream before its end mark")
}

fn stalled() -> End {
    End::new(Cause::ClientStalled, "the client took nothing for too long")
}

/// The end that a missed deadline makes.
pub(crate) fn timed_out(expired: Expired) -> End {
    match expired {
        Expired::First => End::new(Cause::FirstTokenTimeout, "the upstream sent no token in time"),
        Expired::Idle => End::new(Cause::IdleTimeout, "the upstream fell silent"),
        Expired::Total => End::new(Cause::TotalTimeout, "the answer took too long"),
    }
}
