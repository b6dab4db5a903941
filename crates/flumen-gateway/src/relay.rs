//! The heart: upstream -> log. Everything a token passes between the two sockets on its way in.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use flumen_stream::{Cause, Deadlines, End, Expired, codec::sse::Decoder, deadline::Watchdog};
use flumen_wire::{
    client::{self, Body},
    listen::Signal,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    burst::{Burst, Gather},
    continuation::{Said, Seam},
    dispatch::stopping,
    error::upstream_end,
    journey::Journey,
    live::StopSignal,
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
    stopped: StopSignal,
    journey: Journey,
    record: Arc<Record>,
    metrics: RouteMetrics,
    seen: Seen,
    said: Said,
    /// Where the answer went on at another upstream.
    seam: Option<Seam>,
}

/// What went through, published once at the end.
#[derive(Default)]
struct Seen {
    meter: flumen_stream::Meter,
    first_token: Option<Duration>,
    usage: Option<Usage>,
    paused: Duration,
    done: bool,
    /// Events that are in no account yet, and when the accounts were settled.
    uncharged: u64,
    charged: Option<Instant>,
}

/// Why the relay stopped before the end mark.
enum Stop {
    /// Nobody wants it any more.
    Gone(Gone),
    /// An end that readers are told.
    End(End),
    /// An end that the upstream tells readers itself, in this event.
    Told(Burst),
}

/// How long a finished answer may take to end its body, so that the connection can be used again.
const TAIL: Duration = Duration::from_millis(100);

/// How often, while events come, they are charged to whoever asked, told to the queue and shown to operators, or after how many: those
/// accounts lie in memory of their own, which is cold when a token comes once in a while.
const CHARGE_EVERY: (Duration, u64) = (Duration::from_millis(250), 64);

impl Relay {
    /// A relay from a response body into a sink.
    pub(crate) fn new(body: Body, sink: Sink, metrics: RouteMetrics, journey: Journey) -> Self {
        let record = Arc::clone(journey.record());
        Self {
            body,
            sink,
            decoder: Decoder::new(journey.rules().max_event),
            dog: Watchdog::start_at(journey.deadlines(), journey.began()),
            aborted: journey.shutdown().abort_signal(),
            stopped: journey.live().stop_signal(),
            record,
            metrics,
            seen: Seen::default(),
            said: Said::new(journey.continues()),
            seam: None,
            journey,
        }
    }

    /// Moves events until the end, whatever it is. The upstream is let go of before this returns.
    pub(crate) async fn run(mut self) {
        self.metrics.active.inc();
        let stop = self.pump_on().await;
        self.metrics.active.dec();
        let Self { mut body, mut sink, record, seen, journey, .. } = self;
        let usage = seen.usage;
        publish(&record, seen, &body);
        let kept = sink.numbers_events();
        journey.finish(cause_of(&stop), usage);
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
                let cause = if gone == Gone::Stopped { Cause::Stopped } else { Cause::ClientGone };
                body.leave(cause.as_str());
                if kept || gone == Gone::Stopped {
                    record.ended(cause, None);
                }
                sink.leave(gone).await;
            }
            Err(Stop::Told(word)) => {
                record.ended(Cause::UpstreamError, None);
                // A store that fails has ended the stream with a word of its own.
                let _ = sink.push(&mut vec![word]).await;
                sink.told(Cause::UpstreamError).await;
            }
            Err(Stop::End(end)) => {
                body.leave(end.cause.as_str());
                if kept || end.cause == Cause::ClientStalled {
                    // Whoever does not read will not read this either.
                    record.ended(end.cause, kept.then_some(end.code));
                }
                sink.fail(end).await;
            }
        }
    }

    /// Moves events from one upstream, and from another when that one fails and the answer can go on.
    async fn pump_on(&mut self) -> Result<(), Stop> {
        loop {
            let stop = self.pump().await;
            self.charge();
            let end = match &stop {
                Err(Stop::End(end)) => end.clone(),
                Err(Stop::Told(_)) => End::new(Cause::UpstreamError, "the upstream reported an error")
                    .with_code("upstream_told"),
                _ => return stop,
            };
            // Seldom needed, and large: an open stream does not carry it around.
            let Some((response, seam)) = Box::pin(self.again(&end)).await? else { return stop };
            self.metrics.active.dec();
            self.metrics = self.journey.metrics();
            self.metrics.active.inc();
            if seam.is_some() {
                self.metrics.seams.inc();
                self.record.facts().seams += 1;
            }
            self.decoder = Decoder::new(self.journey.rules().max_event);
            self.dog = self.dog_anew();
            (self.body, self.seam) = (response.body, seam);
        }
    }

    async fn again(&mut self, end: &End) -> Result<Option<(client::Response, Option<Seam>)>, Stop> {
        let Self { journey, sink, said, aborted, .. } = self;
        let live = journey.live();
        tokio::select! {
            biased;
            gone = poll_fn(|cx| sink.poll_gone(cx)) => Err(Stop::Gone(gone)),
            () = live.stopped() => Err(Stop::Gone(Gone::Stopped)),
            () = poll_fn(|cx| aborted.poll(cx)) => Err(Stop::End(stopping())),
            again = journey.again(end, said) => Ok(again),
        }
    }

    /// The clocks of an upstream that goes on: those of the whole answer do not start anew.
    fn dog_anew(&self) -> Watchdog {
        let (now, deadlines) = (Instant::now(), self.journey.deadlines());
        if self.said.is_nothing() {
            return Watchdog::start_at(deadlines, self.journey.began());
        }
        let spent = now - self.journey.began();
        let total = deadlines.total.map(|total| total.saturating_sub(spent));
        Watchdog::start_at(Deadlines { total, ..deadlines }, now)
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
            let spoken = self.seen.first_token.is_some();
            let stop = self.take_events(&mut Gather::new(piece, &mut batch).apart(apart));
            self.arrived(&batch)?;
            if !spoken && self.seen.first_token.is_some() {
                self.journey.first_token();
            }
            self.journey.check().map_err(Stop::End)?;
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
            let mut event = event.map_err(|error| {
                Stop::End(
                    End::new(Cause::UpstreamError, format!("upstream: {error}")).with_code("event_too_long"),
                )
            })?;
            if !event.has_data() {
                continue;
            }
            if let Some(seam) = &self.seam {
                let Some(mended) = seam.mend(event) else { continue };
                event = mended;
            }
            let look = openai::look(&event);
            if self.seen.first_token.is_none() && look != Look::Error && openai::is_token(&event) {
                self.seen.first_token = Some(self.record.started().elapsed());
            }
            match look {
                Look::Part => {}
                Look::Usage(usage) => {
                    self.seen.usage = Some(usage);
                    if self.journey.rules().withhold_usage {
                        continue;
                    }
                }
                Look::PartAndUsage(usage) => self.seen.usage = Some(usage),
                Look::Error => return Err(Stop::Told(Burst { error: true, ..event.into() })),
                Look::Done => {
                    gather.keep(event);
                    self.seen.done = true;
                    return Ok(());
                }
            }
            self.said.hear(&event);
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
        self.said.passed(events);
        self.seen.uncharged += events;
        let (span, most) = CHARGE_EVERY;
        if self.seen.uncharged >= most || self.seen.charged.is_none_or(|charged| now - charged >= span) {
            self.seen.charged = Some(now);
            self.charge();
        }
        if self.seen.first_token.is_some() && !self.seen.done {
            self.dog.progress(now).map_err(|expired| Stop::End(timed_out(expired)))?;
        }
        Ok(())
    }

    fn charge(&mut self) {
        // What an event carries is not known before the end: one token is what most servers send.
        self.journey.charge(std::mem::take(&mut self.seen.uncharged));
    }

    /// The next piece of the upstream's body. Gives up at once when nobody reads any more.
    async fn piece(&mut self) -> Result<Option<Result<bytes::Bytes, client::Error>>, Stop> {
        poll_fn(|cx| {
            if let Poll::Ready(piece) = self.body.poll_piece(cx) {
                return Poll::Ready(Ok(piece));
            }
            if let Poll::Ready(gone) = self.sink.poll_gone(cx) {
                return Poll::Ready(Err(Stop::Gone(gone)));
            }
            self.poll_interrupted(cx).map(Err)
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
        self.charge();
        self.body.pause(true);
        let outcome = self.drained().await;
        if outcome.is_ok() {
            self.body.pause(false);
        }
        self.dog.resume(Instant::now());
        self.seen.paused += paused.elapsed();
        self.metrics.paused.inc_by(paused.elapsed().as_secs_f64());
        outcome
    }

    async fn drained(&mut self) -> Result<(), Stop> {
        let mut taken = self.sink.taken();
        let mut stall = Box::pin(sleep(self.journey.rules().client_stall));
        poll_fn(|cx| {
            if let Poll::Ready(ready) = self.sink.poll_ready(cx) {
                return Poll::Ready(ready.map_err(Stop::Gone));
            }
            while stall.as_mut().poll(cx).is_ready() {
                if self.sink.taken() == taken && !self.sink.give_readers_up() {
                    return Poll::Ready(Err(Stop::End(stalled())));
                }
                taken = self.sink.taken();
                stall.as_mut().reset(Instant::now() + self.journey.rules().client_stall);
            }
            self.poll_interrupted(cx).map(Err)
        })
        .await
    }

    fn poll_interrupted(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if self.aborted.poll(cx).is_ready() {
            return Poll::Ready(Stop::End(stopping()));
        }
        if self.stopped.poll(cx).is_ready() {
            return Poll::Ready(Stop::Gone(Gone::Stopped));
        }
        self.dog.poll_expired(cx).map(|expired| Stop::End(timed_out(expired)))
    }
}

fn cause_of(stop: &Result<(), Stop>) -> Cause {
    match stop {
        Ok(()) => Cause::Complete,
        Err(Stop::Gone(Gone::Stopped)) => Cause::Stopped,
        Err(Stop::Gone(Gone::Left)) => Cause::ClientGone,
        Err(Stop::Told(_)) => Cause::UpstreamError,
        Err(Stop::End(end)) => end.cause,
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
