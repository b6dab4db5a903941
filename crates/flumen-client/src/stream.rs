use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use flumen_stream::Event;
use futures_util::{FutureExt, Stream, future::BoxFuture};
use http::Method;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Error, ErrorKind, Id, JsonStream, Received, Stats, Transport,
    call::Ask,
    client::Shared,
    link::{Class, Fault, Item, Link, Opened, Plan, open, stop},
    policy::{Ladder, Retries},
    position::{Position, Step},
    stats::Tally,
};

mod again;

/// A stream of events that goes on over as many connections as it takes; made by [`Call::stream`](crate::Call::stream).
///
/// Each event comes once and in order, the end mark among them. The stream ends with `None`, or with one error and then `None`.
/// Dropping it closes its connection; a gateway then waits a while for somebody who goes on, and [`stop`](Self::stop) tells it not
/// to. Not polling it pauses the server.
///
/// ```no_run
/// # async fn read() -> Result<(), flumen_client::Error> {
/// use flumen_client::Client;
///
/// let mut events = Client::new("http://localhost:8080")?.get("/events").stream();
/// while let Some(received) = events.next().await {
///     let received = received?;
///     println!("{:?}: {}", received.id, String::from_utf8_lossy(&received.event.payload()));
/// }
/// println!("{:?}", events.stats());
/// # Ok(()) }
/// ```
pub struct EventStream {
    shared: Arc<Shared>,
    ask: Arc<Ask>,
    position: Position,
    state: State,
    retries: Retries,
    ladder: Ladder,
    tally: Tally,
    /// Whether a server began to answer.
    answered: bool,
    /// Armed anew only when it fires: a timer per event would cost more than the event.
    silence: Option<Pin<Box<Sleep>>>,
    /// When something came last.
    alive: Instant,
    /// An event was handed out, and until the next poll nobody waits.
    handed: bool,
}

enum State {
    /// A connection is to be made; not the first, if anything was sent before.
    Start,
    Opening(BoxFuture<'static, Result<Opened, Fault>>),
    Open(Link),
    Waiting(Pin<Box<Sleep>>),
    /// What is said before the end.
    Failed(Error),
    Ended,
}

impl EventStream {
    pub(crate) fn new(
        shared: Arc<Shared>,
        ask: Arc<Ask>,
        position: Position,
        invalid: Option<Error>,
    ) -> Self {
        let settings = &ask.settings;
        Self {
            retries: Retries::new(settings.reconnect.clone()),
            ladder: Ladder::new(settings.transports.clone(), settings.rotate),
            state: invalid.map_or(State::Start, State::Failed),
            shared,
            ask,
            position,
            tally: Tally::default(),
            answered: false,
            silence: None,
            alive: Instant::now(),
            handed: false,
        }
    }

    /// The next event; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// Once, as the last item; see [`ErrorKind`].
    pub async fn next(&mut self) -> Option<Result<Received, Error>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The payloads as values.
    ///
    /// ```no_run
    /// # async fn read(client: flumen_client::Client) -> Result<(), flumen_client::Error> {
    /// #[derive(serde::Deserialize)]
    /// struct Tick { price: f64 }
    ///
    /// let mut ticks = client.get("/ticks").stream().json::<Tick>();
    /// while let Some(tick) = ticks.next().await {
    ///     println!("{}", tick?.value.price);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn json<T: DeserializeOwned>(self) -> JsonStream<T> {
        JsonStream::new(self)
    }

    /// The stream's id at the gateway, once it is known: with it, and [`last_event_id`](Self::last_event_id), another process can
    /// go on.
    pub fn stream_id(&self) -> Option<&str> {
        self.position.stream.as_deref()
    }

    /// The id that would be shown to go on.
    pub fn last_event_id(&self) -> Option<&Id> {
        self.position.last_id.as_ref()
    }

    /// The transport of the connection, or of the next if there is none.
    pub fn transport(&self) -> Transport {
        self.ladder.current()
    }

    /// What it took so far.
    pub fn stats(&self) -> Stats {
        let open = if let State::Open(link) = &self.state { Some(link.timings()) } else { None };
        self.tally.show(open)
    }

    /// Drops the connection, so that the next poll makes another at once. For tests.
    pub fn cut(&mut self) {
        if matches!(self.state, State::Opening(_) | State::Open(_)) {
            let retry = self.may_go_on(Class::Broke);
            self.hang_up();
            self.state = if retry { State::Start } else { State::Failed(broken("the connection was cut")) };
        }
    }

    /// Stops the generation at the gateway, whoever reads. What the gateway still sends, the end mark at last, can be read.
    ///
    /// A stream that cannot be resumed, or that has not begun, has no other reader: its connection is closed and it ends.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses. The stream itself goes on.
    pub async fn stop(&mut self) -> Result<(), Error> {
        let Some(plan) = self.position.stream.is_some().then(|| self.plan()) else {
            self.end();
            return Ok(());
        };
        stop(plan).await.map_err(|fault| fault.error)
    }

    /// Whether an event is the end mark.
    pub(crate) fn is_end(&self, event: &Event) -> bool {
        self.ask.settings.end.is(event)
    }

    #[cfg(test)]
    pub(crate) fn invalid(&self) -> Option<&Error> {
        if let State::Failed(error) = &self.state { Some(error) } else { None }
    }

    #[cfg(test)]
    pub(crate) fn ask(&self) -> &Ask {
        &self.ask
    }

    fn plan(&self) -> Plan {
        Plan {
            shared: Arc::clone(&self.shared),
            ask: Arc::clone(&self.ask),
            transport: self.ladder.current(),
            position: self.position.clone(),
            others: self.ladder.has_others(),
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, Error>>> {
        if std::mem::take(&mut self.handed) {
            self.alive = Instant::now();
        }
        loop {
            match &mut self.state {
                State::Start => {
                    self.tally.connect(self.ladder.current(), self.answered);
                    self.alive = Instant::now();
                    self.state = State::Opening(open(self.plan()).boxed());
                }
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(Opened::Link(link))) => {
                        self.alive = Instant::now();
                        if let Some(stream) = link.stream() {
                            let stream = Arc::clone(stream);
                            self.learn(stream);
                        }
                        self.answered |= !matches!(link, Link::Socket(_));
                        self.state = State::Open(link);
                    }
                    Poll::Ready(Ok(Opened::Finished)) => self.end(),
                    Poll::Ready(Err(fault)) => self.fail(fault),
                    Poll::Pending => match self.poll_silence(cx) {
                        Poll::Ready(fault) => self.fail(fault),
                        Poll::Pending => return Poll::Pending,
                    },
                },
                State::Open(link) => match link.poll_item(cx) {
                    Poll::Ready(item) => {
                        self.alive = Instant::now();
                        if let Some(received) = self.take(item, cx) {
                            self.handed = true;
                            return Poll::Ready(Some(Ok(received)));
                        }
                    }
                    Poll::Pending => match self.poll_silence(cx) {
                        Poll::Ready(fault) => self.fail(fault),
                        Poll::Pending => return Poll::Pending,
                    },
                },
                State::Waiting(wait) => match wait.as_mut().poll(cx) {
                    Poll::Ready(()) => self.state = State::Start,
                    Poll::Pending => return Poll::Pending,
                },
                State::Failed(_) => {
                    let failed = std::mem::replace(&mut self.state, State::Ended);
                    let State::Failed(error) = failed else { return Poll::Ready(None) };
                    return Poll::Ready(Some(Err(error)));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Ready when nothing has come for too long while somebody waited.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let Some(idle) = self.ask.settings.idle else { return Poll::Pending };
        let Some(until) = self.alive.checked_add(idle) else { return Poll::Pending };
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep_until(until)));
        // It may have been armed for an earlier sign of life.
        while silence.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                let error = Error::new(ErrorKind::Idle, format!("nothing came for {idle:?}"));
                return Poll::Ready(Fault::new(Class::Broke, error));
            }
            silence.as_mut().reset(until);
        }
        Poll::Pending
    }

    fn take(&mut self, item: Item, cx: &mut Context<'_>) -> Option<Received> {
        match item {
            Item::Life => self.answered = true,
            Item::Stream(stream) => {
                self.answered = true;
                self.learn(stream);
            }
            Item::Event(event, seq) => {
                self.answered = true;
                return self.take_event(event, seq, cx);
            }
            Item::Leg(timings) => {
                self.tally.over(Some(&timings));
                self.tally.connect(self.ladder.current(), false);
            }
            Item::BodyEnd => self.body_end(),
            Item::Finished => self.end(),
            Item::Fault(fault) => self.fail(fault),
        }
        None
    }

    fn take_event(&mut self, event: Event, seq: Option<u64>, cx: &mut Context<'_>) -> Option<Received> {
        if let Some(retry) = event.retry() {
            self.retries.ask(retry);
        }
        let id = event.id().map(|id| Id::from(&*String::from_utf8_lossy(id)));
        let seq = seq.or_else(|| self.position.seq_of(id.as_ref()));
        match self.position.advance(id, seq) {
            Step::Fresh => {}
            Step::Repeat => {
                self.tally.repeats += 1;
                return None;
            }
            Step::Gap(wanted) => {
                let message = format!("event {wanted} is missing: {} came", seq.unwrap_or_default());
                self.finally(Error::new(ErrorKind::Gap, message));
                return None;
            }
        }
        if event.has_data() || seq.is_some() {
            self.retries.progress();
        }
        if !event.has_data() {
            return None;
        }
        self.tally.event(event.wire().len());
        if self.is_end(&event) {
            if let State::Open(link) = &mut self.state {
                link.drain(cx);
            }
            self.end();
        }
        Some(Received { event, seq, id: self.position.last_id.clone() })
    }

    fn learn(&mut self, stream: Arc<str>) {
        let begun_here = self.ask.method == Method::POST && self.position.last_id.is_none();
        if self.position.stream.is_none() {
            self.position.stream = Some(stream);
            self.position.last_seq = match &self.position.last_id {
                None => self.position.last_seq.or(begun_here.then_some(0)),
                id => self.position.seq_of(id.as_ref()),
            };
        }
    }
}

fn broken(message: &str) -> Error {
    Error::new(ErrorKind::Broken, message).and("the answer cannot be resumed")
}

impl Stream for EventStream {
    type Item = Result<Received, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("target", &self.ask.target)
            .field("position", &self.position)
            .field("transport", &self.ladder.current())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
