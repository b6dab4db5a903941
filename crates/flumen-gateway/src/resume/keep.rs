//! A generation that belongs to the gateway, not to a connection.

use std::{
    future::poll_fn,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flumen_store::{About, Producer, Reader, Refused, StreamId, Unwanted};
use flumen_stream::{Cause, End, Watermarks};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Delivery, Pacing, Wish,
    deliver::{Numbered, event_of},
    keys::Claim,
    orphans::guarded,
    reading::Reading,
    streams::name,
};
use crate::{
    config::{Backpressure, Resume},
    core::Core,
    dispatch::{Answering, Dispatch},
    error::Failure,
    live::Entry,
    observe::Record,
    respond::{self, First},
    sink::{Gone, Sink},
};

/// What became of a request for a stream that is kept.
pub(crate) enum Kept {
    /// A generation runs.
    Begun(Box<Begun>),
    /// The same request has begun this stream before.
    Same(StreamId),
    /// There is no room to keep it; the request is given back.
    NoRoom(Box<Dispatch>),
}

/// A generation that runs, and its first reader.
pub(crate) struct Begun {
    pub(crate) reader: Reader,
    record: Arc<Record>,
    /// After this wait the response begins, and says how many are ahead.
    announce: Option<Duration>,
    place: Arc<Entry>,
    /// How fast it may go out.
    pub(crate) pacing: Pacing,
    revoked: CancellationToken,
    told: oneshot::Receiver<Result<HeaderMap, Response>>,
}

/// What a stream that is kept needs to know of its request.
pub(crate) struct Origin<'a> {
    pub(crate) wish: &'a Wish,
    pub(crate) dialect: &'static str,
    pub(crate) model: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: &'a Bytes,
    pub(crate) resume: &'a Resume,
    pub(crate) marks: Watermarks,
}

/// Begins a generation that goes on without its readers.
///
/// # Errors
/// 422 for an idempotency key that another request has used.
pub(crate) async fn keep(
    core: &Arc<Core>,
    origin: Origin<'_>,
    dispatch: Box<Dispatch>,
) -> Result<Kept, Failure> {
    let Origin { wish, dialect, model, path, body, resume, marks } = origin;
    let key = wish.key()?;
    let id = StreamId::random().map_err(|_| Failure::internal("there are no random numbers"))?;
    let about = About {
        owner: wish.owner.clone(),
        dialect: dialect.to_owned(),
        model: model.to_owned(),
        created: SystemTime::now(),
    };
    let store = core.store();
    let producer = match Producer::create(store, id, about).await {
        Ok(producer) => producer,
        Err(Refused::Full { what }) => {
            tracing::warn!("a stream is not resumable: {what} is used up");
            return Ok(Kept::NoRoom(dispatch));
        }
        Err(refused) => return Err(super::attach::refusal(&refused)),
    };
    let marks = (resume.backpressure == Backpressure::Coupled).then_some(marks);
    let producer = producer.grace(resume.grace).paced(marks);
    // The place is taken before the work is dispatched, so that nothing is missed.
    let reader = Reader::attach(store, id, 0).map_err(|refused| super::attach::refusal(&refused))?;
    let claim = match key {
        Some(key) => core.keys().claim(&wish.owner, key, path, body, id),
        None => Claim::New,
    };
    if claim == Claim::New {
        let key = key.map(|key| (wish.owner.clone(), key.to_owned()));
        return Ok(start(core, key, producer, reader, dispatch));
    }
    producer.remove().await;
    match claim {
        Claim::Same(stream) => Ok(Kept::Same(stream)),
        _ => Err(Failure::rejected(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "another request has used this idempotency key",
        )),
    }
}

fn start(
    core: &Arc<Core>,
    key: Option<(String, String)>,
    producer: Producer,
    reader: Reader,
    mut dispatch: Box<Dispatch>,
) -> Kept {
    // It outlives whoever asked for it.
    dispatch.call.deadline = None;
    {
        let mut facts = dispatch.record.facts();
        facts.stream_id = Some(producer.id().short());
        facts.outlives = true;
    }
    let (tell, told) = oneshot::channel();
    let record = Arc::clone(&dispatch.record);
    let announce = dispatch.pool.config().queue.announce;
    let place = Arc::clone(dispatch.live.entry());
    let (pacing, revoked) = (dispatch.pacing, dispatch.revoked.clone());
    let (store, id) = (Arc::clone(core.store()), producer.id());
    let generation = Generation { core: Arc::clone(core), producer, key, tell };
    core.generations().spawn(Box::pin(guarded(store, id, generation.run(dispatch))));
    Kept::Begun(Box::new(Begun { reader, record, announce, place, pacing, revoked, told }))
}

struct Generation {
    core: Arc<Core>,
    producer: Producer,
    key: Option<(String, String)>,
    /// Hears whether the answer begins; whoever listened may be gone.
    tell: oneshot::Sender<Result<HeaderMap, Response>>,
}

impl Generation {
    async fn run(mut self, dispatch: Box<Dispatch>) {
        let record = Arc::clone(&dispatch.record);
        let sent = tokio::select! {
            biased;
            sent = dispatch.send() => sent,
            unwanted = poll_fn(|cx| self.producer.poll_unwanted(cx)) => {
                let gone = Gone::from(unwanted);
                record.ended(if unwanted == Unwanted::Stopped { Cause::Stopped } else { Cause::ClientGone }, None);
                return Sink::kept(self.producer).leave(gone).await;
            }
        };
        let answering =
            match sent.and_then(|answering| is_stream(&answering).map(|stream| (answering, stream))) {
                Ok((answering, true)) => answering,
                Ok((answering, false)) => {
                    let end = End::new(Cause::UpstreamError, "the upstream did not begin a stream")
                        .with_code("upstream_refused");
                    let by = answering.answer_by();
                    let response = respond::upstream_refused(answering.response, by, &record).await;
                    return self.refuse(response, end).await;
                }
                Err(failure) => {
                    record.ended(failure.cause, Some(failure.code));
                    let end = failure.end();
                    return self.refuse(failure.into_response(), end).await;
                }
            };
        let headers = answering.response.headers.clone();
        // Whoever asked may be gone; the generation goes on.
        let _ = self.tell.send(Ok(headers));
        let metrics = answering.journey.metrics();
        answering.relay(Sink::kept(self.producer), metrics).run().await;
    }

    /// The answer never began: whoever asked gets a real status, others the error, and the request can be made again.
    async fn refuse(self, response: Response, end: End) {
        if let Some((owner, key)) = &self.key {
            self.core.keys().release(owner, key, self.producer.id());
        }
        let listened = self.tell.send(Err(response)).is_ok();
        let alone = listened && self.producer.attendance().readers() <= 1;
        if alone {
            self.producer.remove().await;
        } else {
            Sink::kept(self.producer).fail(end).await;
        }
    }
}

fn is_stream(answering: &Answering) -> Result<bool, Failure> {
    if answering.response.status.is_success() { answering.is_stream() } else { Ok(false) }
}

impl Begun {
    /// Waits until the answer begins. The reader stands at the stream's beginning.
    ///
    /// # Errors
    /// The response that says why it does not.
    pub(crate) async fn answer(self) -> Result<(Reader, HeaderMap), Response> {
        let headers = begun(self.told.await)?;
        Ok((self.reader, headers))
    }

    /// The response to the request that began the stream.
    pub(crate) async fn respond(mut self, core: &Core, delivery: Delivery) -> Response {
        let told = match self.announce {
            Some(patience) => timeout(patience, &mut self.told).await,
            None => Ok((&mut self.told).await),
        };
        let Ok(told) = told else { return self.waiting(core, delivery) };
        let headers = match begun(told) {
            Ok(headers) => headers,
            Err(response) => return response,
        };
        let (reader, mut count) = (self.reader, counting(self.record));
        let id = reader.id();
        let reading = Reading::new(reader, core, self.revoked);
        let judge = |numbered: &Numbered| {
            event_of(&numbered.wire)
                .filter(crate::sink::is_error)
                .map(|event| Bytes::copy_from_slice(&event.payload()))
        };
        match respond::first(reading, delivery.heartbeat, judge).await {
            Ok(First::Refused(payload)) => respond::bad_gateway(payload),
            Ok(First::Begun(events)) => {
                let mut response = delivery.respond(events.inspect(move |_| count()));
                respond::pass(&headers, response.headers_mut());
                name(&mut response, id);
                response
            }
            Err(end) => Failure::from(end).into_response(),
        }
    }

    /// The response of a stream whose turn has not come. Nobody hears any more whether the answer begins: if it does not, the
    /// stream says why.
    fn waiting(self, core: &Core, delivery: Delivery) -> Response {
        let Self { reader, place, record, revoked, .. } = self;
        let mut count = counting(record);
        let id = reader.id();
        let reading = Reading::new(reader, core, revoked);
        let counted = reading.inspect(move |_| count());
        let mut response = delivery.respond(respond::waiting(counted, place, delivery.transport));
        name(&mut response, id);
        response
    }
}

/// Counts events to the client, once it is known which upstream they are of.
fn counting(record: Arc<Record>) -> impl FnMut() + Send + 'static {
    let mut counter = None;
    move || {
        counter.get_or_insert_with(|| record.route().frames_out).inc();
    }
}

/// What was said of an answer's beginning. Nothing was when it was stopped before, or the server was: the stream says so.
#[expect(clippy::result_large_err, reason = "it is the response, once per stream")]
fn begun(
    told: Result<Result<HeaderMap, Response>, oneshot::error::RecvError>,
) -> Result<HeaderMap, Response> {
    told.unwrap_or_else(|_| Ok(HeaderMap::new()))
}
