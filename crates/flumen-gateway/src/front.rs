//! The gateway as a service: whoever speaks `flumen.generation.v1` asks it like a model.
//!
//! A call becomes a request of the HTTP API within this process, so that keys, limits, queues, resumable streams and errors are
//! the same for both.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use flumen_rpc::{
    Code, Encoding, Inbound, Incoming, Metadata, Outbound, Services, Status,
    generation::{
        Accepted, Ask, ClientMessage, DESCRIPTORS, Finish, METHOD, SERVICE, Say, ServerMessage, Start,
        THRIFT_SERVICE,
    },
    grpc,
};
use flumen_stream::codec::sse::Decoder;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use crate::{access::identify, core::Core, observe::REQUEST_ID, resume::STREAM_ID};

mod request;
mod said;

/// The routes of the front: the contract, health and reflection. They ask `http`.
///
/// # Errors
/// When the contract's description is none.
pub(crate) async fn front(core: &Arc<Core>, http: &Router, limits: grpc::Limits) -> io::Result<Router> {
    let shutdown = core.shutdown();
    let handler = || {
        let front = Front { core: Arc::clone(core), http: http.clone() };
        move |incoming| front.clone().answer(incoming)
    };
    let services =
        Services::new().method(SERVICE, METHOD, handler()).method(THRIFT_SERVICE, METHOD, handler());
    let calls =
        [SERVICE, THRIFT_SERVICE].map(|name| grpc::route(name, services.clone(), limits, shutdown.clone()));
    let [own, thrift] = calls;
    let known = from_fn_with_state(Arc::clone(core), admitted);
    Ok(own.merge(thrift).layer(known).merge(grpc::companions(DESCRIPTORS, &[SERVICE], shutdown).await?))
}

/// Lets through whoever may ask, before anything of a message is read.
async fn admitted(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match identify(&core, &parts).await {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        Err(failure) => {
            core.metrics().turned_away(failure.code);
            grpc::refusal(said::refused(&failure))
        }
    }
}

/// When the caller of a request stops waiting for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitsUntil(pub(crate) Instant);

/// The HTTP API, as the front asks it.
#[derive(Clone)]
struct Front {
    core: Arc<Core>,
    http: Router,
}

impl Front {
    /// Answers one call.
    async fn answer(self, incoming: Incoming) -> Result<Metadata, Status> {
        let Incoming { call, encoding, requests, answers, extensions, .. } = incoming;
        let routing = self.core.routing();
        let config = routing.config();
        let mut caller = Caller { requests, encoding, paused: false, patience: config.timeouts.client_stall };
        let start = tokio::select! {
            start = timeout(config.timeouts.request_body, caller.start()) => start.map_err(|_| late())??,
            () = self.core.shutdown().draining() => {
                return Err(Status::unavailable("the server is shutting down"));
            }
        };
        let verbatim = start.messages.is_empty();
        let mut request = request::of(start, &call)?;
        *request.extensions_mut() = extensions;
        if let Some(deadline) = call.deadline {
            request.extensions_mut().insert(WaitsUntil(deadline));
        }
        let headers = request.headers().clone();
        let Ok(response) = tokio::select! {
            biased;
            stopped = caller.stops() => return stopped.map(|()| Metadata::default()),
            response = self.http.clone().oneshot(request) => response,
        };
        if response.status() != StatusCode::OK {
            return Err(said::refusal(response).await);
        }
        let kept = response.headers().get(STREAM_ID).cloned();
        let mut told = Told { answers, encoding };
        told.say(Say::Accepted(accepted(&response)), "").await?;
        if !is_stream(&response) {
            for say in said::whole(response.into_body(), verbatim).await? {
                told.say(say, "").await?;
            }
            return Ok(Metadata::default());
        }
        let events = Events::new(response.into_body(), config.stream.max_event, verbatim);
        if relay(events, &mut caller, &mut told).await? == Relayed::Stopped {
            // A stream that is kept would go on without its reader.
            if let Some(id) = kept {
                self.stop(&id, headers).await;
            }
            let finish = Finish { reason: "stopped".to_owned(), ..Finish::default() };
            told.say(Say::Finish(finish), "").await?;
        }
        Ok(Metadata::default())
    }

    /// Stops a stream that is kept.
    async fn stop(&self, id: &HeaderValue, headers: HeaderMap) {
        let uri = id.to_str().ok().and_then(|id| format!("/v1/streams/{id}").parse().ok());
        let Some(uri) = uri else { return };
        let mut request = Request::new(Body::empty());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::DELETE, uri, headers);
        let Ok(_) = self.http.clone().oneshot(request).await;
    }
}

fn late() -> Status {
    Status::new(Code::DeadlineExceeded, "no `start` came in time")
}

fn accepted(response: &Response) -> Accepted {
    let name = response.headers().get(STREAM_ID).or_else(|| response.headers().get(REQUEST_ID));
    let id = name.and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
    Accepted { id, model: String::new() }
}

fn is_stream(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// The events of an answer, in the words of the contract.
struct Events {
    pieces: BodyDataStream,
    decoder: Decoder,
    reader: said::Reader,
}

impl Events {
    fn new(body: Body, max_event: usize, verbatim: bool) -> Self {
        let (pieces, decoder) = (body.into_data_stream(), Decoder::new(max_event));
        Self { pieces, decoder, reader: said::Reader::new(verbatim) }
    }
}

/// How the relay of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relayed {
    Complete,
    /// The caller wants no more.
    Stopped,
}

/// Events to messages, for as long as the caller wants them.
async fn relay(mut events: Events, caller: &mut Caller, told: &mut Told) -> Result<Relayed, Status> {
    loop {
        let Caller { paused, patience, .. } = *caller;
        let piece = tokio::select! {
            biased;
            stopped = caller.stops_or_changes() => {
                if stopped? {
                    return Ok(Relayed::Stopped);
                }
                continue;
            }
            piece = events.pieces.next(), if !paused => piece,
            () = sleep(patience), if paused => {
                return Err(Status::new(Code::Aborted, "the call was paused for too long"));
            }
        };
        let Some(Ok(piece)) = piece else {
            return Err(Status::unavailable("the stream broke off before its end"));
        };
        events.decoder.push(piece);
        while let Some(event) = events.decoder.next() {
            let event = event.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            let id = event.id().map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default();
            for say in events.reader.read(&event)? {
                let last = matches!(say, Say::Finish(_) | Say::Error(_));
                told.say(say, &id).await?;
                if last {
                    return Ok(Relayed::Complete);
                }
            }
        }
    }
}

/// What the caller says.
struct Caller {
    requests: Inbound,
    encoding: Encoding,
    paused: bool,
    /// How long it may pause.
    patience: Duration,
}

impl Caller {
    async fn start(&mut self) -> Result<Start, Status> {
        match self.next().await? {
            Some(Ask::Start(start)) => Ok(start),
            _ => Err(Status::new(Code::InvalidArgument, "the first message must be `start`")),
        }
    }

    /// The next message; nothing after a half-close.
    async fn next(&mut self) -> Result<Option<Ask>, Status> {
        while let Some(message) = self.requests.next().await {
            if let Some(ask) = ClientMessage::decode(message?, self.encoding)?.message {
                return Ok(Some(ask));
            }
        }
        Ok(None)
    }

    /// Waits for a word that changes something. Returns whether it was stop.
    async fn stops_or_changes(&mut self) -> Result<bool, Status> {
        match self.next().await? {
            Some(Ask::Pause(_)) => self.paused = true,
            Some(Ask::Resume(_)) => self.paused = false,
            Some(Ask::Stop(_)) => return Ok(true),
            Some(Ask::Start(_)) => {
                return Err(Status::new(Code::InvalidArgument, "there is one `start` in a call"));
            }
            None => std::future::pending().await,
        }
        Ok(false)
    }

    async fn stops(&mut self) -> Result<(), Status> {
        while !self.stops_or_changes().await? {}
        Ok(())
    }
}

/// What the caller is told.
struct Told {
    answers: Outbound,
    encoding: Encoding,
}

impl Told {
    async fn say(&mut self, say: Say, id: &str) -> Result<(), Status> {
        let message = ServerMessage { message: Some(say), id: id.to_owned() };
        self.answers.send(message.encode(self.encoding)).await
    }
}
