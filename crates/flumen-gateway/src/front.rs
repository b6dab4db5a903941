//! The gateway as a service: whoever speaks `flumen.generation.v1` asks it like a model.
//!
//! A call becomes a request of the HTTP API within this process, so that keys, limits, queues, resumable streams and errors are
//! the same for both.

use std::io;

use axum::{Router, body::Body, response::Response};
use flumen_rpc::{
    Code, Encoding, Inbound, Incoming, Metadata, Outbound, Services, Status,
    generation::{
        Accepted, Ask, ClientMessage, DESCRIPTORS, Finish, METHOD, SERVICE, Say, ServerMessage, Start,
        THRIFT_SERVICE,
    },
    grpc,
};
use flumen_stream::codec::sse::Decoder;
use flumen_wire::listen::Shutdown;
use futures_util::StreamExt;
use http::header;
use tower::ServiceExt;

use crate::{observe::REQUEST_ID, resume::STREAM_ID};

mod request;
mod said;

/// The routes of the front: the contract, health and reflection. They ask `http`.
///
/// # Errors
/// When the contract's description is none.
pub(crate) async fn front(http: &Router, limits: grpc::Limits, shutdown: &Shutdown) -> io::Result<Router> {
    let handler = || {
        let http = http.clone();
        move |incoming| answer(http.clone(), limits.max_message, incoming)
    };
    let services =
        Services::new().method(SERVICE, METHOD, handler()).method(THRIFT_SERVICE, METHOD, handler());
    let calls =
        [SERVICE, THRIFT_SERVICE].map(|name| grpc::route(name, services.clone(), limits, shutdown.clone()));
    let [own, thrift] = calls;
    Ok(own.merge(thrift).merge(grpc::companions(DESCRIPTORS, &[SERVICE]).await?))
}

/// Answers one call.
async fn answer(http: Router, max_event: usize, incoming: Incoming) -> Result<Metadata, Status> {
    let Incoming { call, encoding, requests, answers, extensions, .. } = incoming;
    let mut caller = Caller { requests, encoding, paused: false };
    let start = caller.start().await?;
    let verbatim = start.messages.is_empty();
    let mut request = request::of(start, &call)?;
    *request.extensions_mut() = extensions;
    let Ok(response) = tokio::select! {
        biased;
        stopped = caller.stops() => return stopped.map(|()| Metadata::default()),
        response = http.oneshot(request) => response,
    };
    if !response.status().is_success() {
        return Err(said::refusal(response).await);
    }
    let mut told = Told { answers, encoding };
    told.say(Say::Accepted(accepted(&response)), "").await?;
    if is_stream(&response) {
        relay(response.into_body(), max_event, verbatim, &mut caller, &mut told).await?;
    } else {
        for say in said::whole(response.into_body(), verbatim).await? {
            told.say(say, "").await?;
        }
    }
    Ok(Metadata::default())
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

/// Events to messages, for as long as the caller wants them.
async fn relay(
    body: Body,
    max_event: usize,
    verbatim: bool,
    caller: &mut Caller,
    told: &mut Told,
) -> Result<(), Status> {
    let (mut pieces, mut decoder) = (body.into_data_stream(), Decoder::new(max_event));
    let mut reader = said::Reader::new(verbatim);
    loop {
        let piece = tokio::select! {
            biased;
            stopped = caller.stops_or_changes() => {
                if stopped? {
                    let finish = Finish { reason: "stopped".to_owned(), ..Finish::default() };
                    return told.say(Say::Finish(finish), "").await;
                }
                continue;
            }
            piece = pieces.next(), if !caller.paused => piece,
        };
        let Some(Ok(piece)) = piece else {
            return Err(Status::unavailable("the stream broke off before its end"));
        };
        decoder.push(piece);
        while let Some(event) = decoder.next() {
            let event = event.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            let id = event.id().map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default();
            for say in reader.read(&event) {
                let last = matches!(say, Say::Finish(_) | Say::Error(_));
                told.say(say, &id).await?;
                if last {
                    return Ok(());
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
