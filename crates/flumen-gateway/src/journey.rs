//! The way of one admitted request over upstreams: tries, hedges, and what each upstream is given credit or blame for.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use flumen_stream::{Cause, Deadlines, End};
use flumen_wire::{client::Response, listen::Shutdown};
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};

use crate::{
    continuation::{Said, Seam},
    core::Routing,
    dispatch::{Dispatch, Rules, late, revoked, stopping},
    error::Failure,
    live::{Entry, Phase, stopped},
    observe::{Record, Tried, metrics::RouteMetrics},
    pool::{Attempt, Picked, Place, Pool},
    provider::{Call, openai::Usage},
};

mod ask;

use ask::{Answer, Trouble, ask};

/// An admitted request: its place, the upstream that it is at, and those that it has been at.
pub(crate) struct Journey {
    dispatch: Box<Dispatch>,
    place: Place,
    /// When it was admitted: the clocks of the answer start here.
    began: Instant,
    attempt: Option<Attempt>,
    been: Vec<String>,
    tries: u32,
    heard: bool,
}

/// The deadline that travels is that much behind the gateway's own clock, which has the better words for it.
const LEEWAY: Duration = Duration::from_secs(1);
const A_DAY: Duration = Duration::from_hours(24);

type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Journey {
    /// A request that has just been admitted.
    pub(crate) fn new(dispatch: Box<Dispatch>, place: Place) -> Self {
        let began = Instant::now();
        Self { dispatch, place, began, attempt: None, been: Vec::new(), tries: 0, heard: false }
    }

    /// What the two sides are held to.
    pub(crate) fn rules(&self) -> Rules {
        self.dispatch.rules
    }

    /// The record of the request.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.dispatch.record
    }

    /// The end of the server.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.dispatch.shutdown
    }

    /// Whether answers go on elsewhere when their upstream fails, so that what was said is to be remembered.
    pub(crate) fn continues(&self) -> bool {
        self.pool().config().continues
    }

    /// When the clocks of the answer started.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The metrics of the model at the upstream that answers.
    pub(crate) fn metrics(&self) -> RouteMetrics {
        let upstream = self.attempt.as_ref().map_or("", Attempt::upstream);
        self.record().metrics().route(&self.dispatch.model, upstream)
    }

    /// The clocks of the upstream that answers.
    pub(crate) fn deadlines(&self) -> Deadlines {
        self.dispatch.routing.deadlines(self.attempt.as_ref().map(Attempt::upstream))
    }

    /// When the head of the answer, and of a stream also its first token, is due. All tries share it.
    pub(crate) fn answer_by(&self) -> Instant {
        self.due(self.attempt.as_ref().map(Attempt::upstream))
    }

    /// The same for one upstream, or in general.
    fn due(&self, upstream: Option<&str>) -> Instant {
        let deadlines = self.dispatch.routing.deadlines(upstream);
        let patience = if self.dispatch.call.stream { deadlines.first } else { deadlines.total };
        self.began + patience.unwrap_or(A_DAY).min(deadlines.total.unwrap_or(A_DAY))
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.dispatch.pool
    }

    /// Asks one upstream after the other until one answers, within the bounds of the pool.
    ///
    /// # Errors
    /// When none answered; an answer with an error status is an answer.
    pub(crate) async fn answer(&mut self) -> Result<Response, Failure> {
        let shutdown = self.dispatch.shutdown.clone();
        let live = Arc::clone(self.dispatch.live.entry());
        tokio::select! {
            biased;
            answer = self.seek() => answer,
            () = live.stopped() => Err(stopped()),
            () = shutdown.aborted() => Err(stopping().into()),
        }
    }

    /// Where operators see it, and stop it.
    pub(crate) fn live(&self) -> Arc<Entry> {
        Arc::clone(self.dispatch.live.entry())
    }

    async fn seek(&mut self) -> Result<Response, Failure> {
        let mut last = None;
        loop {
            let until = self.answer_by();
            let place = self.pool().place(self.dispatch.key, &self.been, |_| true, until).await;
            let Some(attempt) = place else { break };
            let until = self.due(Some(attempt.upstream()));
            let asking = self.asking(attempt, self.dispatch.call.clone(), until);
            let answer = match self.pool().config().hedge {
                Some(delay) if self.tries == 1 => self.hedged(asking, delay).await,
                _ => asking.await,
            };
            let trouble = match self.judge(answer) {
                Ok(response) => return Ok(response),
                Err(trouble) => trouble,
            };
            let again = trouble.may_go_elsewhere() && Instant::now() < until && self.may_try();
            last = Some(trouble);
            if !again {
                break;
            }
        }
        match last {
            Some(trouble) => trouble.into_answer(&late(self.dispatch.call.stream, &self.deadlines())),
            None => Err(nobody()),
        }
    }

    /// Whether one more upstream may be tried; if so, the pool's budget pays for it.
    fn may_try(&self) -> bool {
        self.tries < self.pool().config().attempts.get() && self.pool().may_retry()
    }

    fn asking(&mut self, attempt: Attempt, call: Call, until: Instant) -> Asking {
        self.dispatch.held.begin();
        self.tries += 1;
        self.been.push(attempt.upstream().to_owned());
        let upstream = self.dispatch.routing.upstream(attempt.upstream()).cloned();
        let total = self.dispatch.routing.deadlines(Some(attempt.upstream())).total;
        // The clock of whoever asks may run out sooner.
        let deadline = total.map(|total| self.began + total).into_iter().chain(call.deadline).min();
        let deadline = deadline.and_then(|deadline| deadline.checked_add(LEEWAY));
        let call = Call { deadline, due: Some(until), ..call };
        let to_token = self.pool().config().hedge.is_some();
        Box::pin(ask(upstream, attempt, call, to_token, until))
    }

    /// Asks a second upstream when the first takes its time; the first token wins, the other is let go.
    async fn hedged(&mut self, mut first: Asking, delay: Duration) -> Answer {
        let began = Instant::now();
        tokio::select! {
            biased;
            answer = &mut first => return answer,
            () = sleep(delay) => {}
        }
        let Picked::Attempt(attempt) = self.pool().pick(self.dispatch.key, &self.been, |_| true) else {
            return first.await;
        };
        if !self.may_try() {
            drop(attempt);
            return first.await;
        }
        let names = [self.been[self.been.len() - 1].clone(), attempt.upstream().to_owned()];
        let until = self.due(Some(attempt.upstream()));
        let hedged = Instant::now();
        let second = self.asking(attempt, self.dispatch.call.clone(), until);
        self.record().metrics().hedged(self.pool().name());
        let [first_name, second_name] = names;
        let (answer, other, loser, took) = match select(first, second).await {
            Either::Left((answer, other)) => (answer, other, second_name, hedged),
            Either::Right((answer, other)) => (answer, other, first_name, began),
        };
        if answer.settles() {
            self.note(Tried { upstream: loser, outcome: "cancelled", took: took.elapsed() });
            return answer;
        }
        // That this one will not answer is no token: the other may do better.
        if self.judge(answer).is_ok()
            && let Some(attempt) = self.attempt.take()
        {
            self.note_refusal(&attempt);
        }
        other.await
    }

    /// Gives an upstream credit or blame for what came of asking it.
    fn judge(&mut self, answer: Answer) -> Result<Response, Trouble> {
        let Answer { mut attempt, result } = answer;
        match result {
            Ok(response) => {
                let status = response.status;
                // That it does not take the gateway's key is its fault or the gateway's, not the request's.
                if status.is_server_error() || matches!(status.as_u16(), 401 | 407) {
                    attempt.failed();
                } else if !status.is_success() {
                    attempt.succeeded();
                }
                let several = {
                    let mut facts = self.record().facts();
                    facts.upstream = Some(attempt.upstream().to_owned());
                    !facts.tried.is_empty()
                };
                // Of an answer that is a success, its end will tell.
                if several && !status.is_success() {
                    self.note_refusal(&attempt);
                }
                self.attempt = Some(attempt);
                Ok(response)
            }
            Err(trouble) => {
                self.note(Tried {
                    upstream: attempt.upstream().to_owned(),
                    outcome: trouble.code(),
                    took: attempt.took(),
                });
                self.record().facts().upstream = Some(attempt.upstream().to_owned());
                attempt.failed();
                if trouble.is_overload() {
                    self.place.failed();
                }
                Err(trouble)
            }
        }
    }

    fn note_refusal(&self, attempt: &Attempt) {
        let upstream = attempt.upstream().to_owned();
        self.note(Tried { upstream, outcome: "upstream_refused", took: attempt.took() });
    }

    fn note(&self, tried: Tried) {
        self.record().metrics().tried(&tried.upstream, tried.outcome);
        self.record().facts().tried.push(tried);
    }

    /// An upstream has failed after it began to answer. Before anything was passed on another is asked the same; after that,
    /// where the pool says so, one that can is asked to go on. Returns the answer of that one, and what makes the two fit.
    pub(crate) async fn again(&mut self, end: &End, said: &Said) -> Option<(Response, Option<Seam>)> {
        let upstream_failed = matches!(
            end.cause,
            Cause::UpstreamError | Cause::UpstreamTruncated | Cause::IdleTimeout | Cause::FirstTokenTimeout
        );
        let fresh = said.is_nothing();
        if !upstream_failed || !(fresh || self.continues() && said.can_be_continued()) {
            return None;
        }
        let deadlines = self.deadlines();
        let total = self.began + deadlines.total.unwrap_or(A_DAY);
        let until = if fresh { self.answer_by() } else { Instant::now() + deadlines.first.unwrap_or(A_DAY) };
        let until = until.min(total);
        self.give_up(end);
        while Instant::now() < until && self.may_try() {
            let (attempt, call, seam) = self.successor(said, until).await?;
            let answer = self.asking(attempt, call, until).await;
            let Ok(response) = self.judge(answer) else { continue };
            if !response.status.is_success() {
                // That is noted.
                self.attempt = None;
                continue;
            }
            if crate::dispatch::is_stream(&response.headers) == Ok(true) {
                return Some((response, seam));
            }
            self.give_up(&End::new(Cause::UpstreamError, "no stream").with_code("upstream_refused"));
        }
        None
    }

    /// Who goes on, with which call.
    async fn successor(&self, said: &Said, until: Instant) -> Option<(Attempt, Call, Option<Seam>)> {
        let mut call = self.dispatch.call.clone();
        if said.is_nothing() {
            let attempt = self.pool().place(self.dispatch.key, &self.been, |_| true, until).await?;
            return Some((attempt, call, None));
        }
        let routing = &self.dispatch.routing;
        let can = |name: &str| routing.continuation(name).is_some();
        let attempt = match self.pool().place(self.dispatch.key, &self.been, can, until).await {
            Some(attempt) => attempt,
            // One that failed is better than none: it may have lost no more than a connection.
            None => self.pool().place(self.dispatch.key, &[], can, until).await?,
        };
        let seam = said.seam(&call);
        call.body = said.continued(&call, routing.continuation(attempt.upstream())?)?;
        Some((attempt, call, Some(seam)))
    }

    /// Blames the upstream that answered.
    fn give_up(&mut self, end: &End) {
        if let Some(mut attempt) = self.attempt.take() {
            attempt.failed();
            let tried =
                Tried { upstream: attempt.upstream().to_owned(), outcome: end.code, took: attempt.took() };
            self.note(tried);
        }
    }

    /// Whether the answer may go on.
    ///
    /// # Errors
    /// When whoever asked may no longer.
    pub(crate) fn check(&self) -> Result<(), End> {
        if self.dispatch.revoked.is_cancelled() { Err(revoked()) } else { Ok(()) }
    }

    /// Charges tokens of the answer as they come.
    pub(crate) fn charge(&mut self, tokens: u64) {
        self.place.charge(tokens);
        self.dispatch.held.output(tokens);
        self.dispatch.live.came(tokens);
    }

    /// The first token has come.
    pub(crate) fn first_token(&mut self) {
        self.heard = true;
        let record = self.record();
        record.facts().first_token.get_or_insert(record.started().elapsed());
        self.dispatch.live.is(Phase::Streaming);
        if let Some(attempt) = &self.attempt {
            attempt.first_token();
            self.place.first_token(attempt.took());
        }
    }

    /// The answer is over, for this cause. What its upstream told of usage settles the account.
    pub(crate) fn finish(mut self, cause: Cause, usage: Option<Usage>) {
        let (input, output) =
            (usage.map(|usage| usage.prompt_tokens), usage.map(|usage| usage.completion_tokens));
        self.place.settle(input, output);
        self.dispatch.held.settle(input, output);
        let Some(mut attempt) = self.attempt.take() else { return };
        match cause {
            Cause::Complete => attempt.succeeded(),
            Cause::FirstTokenTimeout | Cause::IdleTimeout => {
                attempt.failed();
                self.place.failed();
            }
            Cause::UpstreamError | Cause::UpstreamTruncated => attempt.failed(),
            // It did answer; that somebody left is not its fault.
            _ if self.heard => attempt.succeeded(),
            _ => {}
        }
        let several = !self.record().facts().tried.is_empty();
        if several {
            let tried = Tried {
                upstream: attempt.upstream().to_owned(),
                outcome: cause.as_str(),
                took: attempt.took(),
            };
            self.note(tried);
        }
    }
}

/// Nobody can be asked.
fn nobody() -> Failure {
    let message = "no upstream of the model can be asked now";
    Failure::rejected(http::StatusCode::SERVICE_UNAVAILABLE, "no_upstream", message).retry_after(5)
}

impl Routing {
    /// The clocks of an upstream, or the general ones.
    fn deadlines(&self, upstream: Option<&str>) -> Deadlines {
        let own = upstream.and_then(|name| self.config().upstreams.get(name));
        let timeouts = &self.config().timeouts;
        Deadlines {
            first: Some(own.and_then(|own| own.first_token).unwrap_or(timeouts.first_token)),
            idle: Some(own.and_then(|own| own.idle).unwrap_or(timeouts.idle)),
            total: Some(own.and_then(|own| own.total).unwrap_or(timeouts.total)),
        }
    }
}
