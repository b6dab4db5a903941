use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use bytes::Bytes;
use flumen_stream::{Cursor, Watermarks, log};
use flumen_wire::listen::{self, Shutdown, Signal};
use futures_util::Stream;
use http::{HeaderValue, StatusCode, header};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride, Streaming};

use super::{CONNECTION_WINDOW, Inbound, codec::Encoded, content_type, frames, metadata};
use crate::{
    Call, Cancel, Cancellation, Code, Encoding, Handling, In, Incoming, Letter, Metadata, Out, Outbound,
    Services, Status,
};

/// What a server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message accepted, in bytes. Default 4 MiB.
    pub max_message: usize,
    /// Bytes of answers that wait for one caller. Default 64 KiB.
    pub send_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: 4 << 20, send_buffer: 64 * 1024 }
    }
}

/// What a listener allows whose callers are services, each with many streams on a connection: a stream that is not read holds up
/// nobody but its sender, and leaving many is no offence.
pub fn listener_limits() -> listen::Limits {
    listen::Limits {
        http2_streams: 10_000,
        http2_resets: 1_000_000,
        http2_stream_window: 64 * 1024,
        http2_connection_window: CONNECTION_WINDOW,
        ..listen::Limits::default()
    }
}

/// Routes to services: every path of two segments. Merge it with others, or serve it alone.
///
/// A handler runs in the task that sends its answers, so that a message costs no change of tasks. It stands still while its caller
/// takes nothing; work that must not stand still belongs to a task of its own. When the shutdown aborts, calls end with
/// `Unavailable`.
pub fn router(services: Services, limits: Limits, shutdown: Shutdown) -> Router {
    route("{service}", services, limits, shutdown)
}

/// The same for one service only, of this full name, beside routes that would otherwise be taken for services.
pub fn route(service: &str, services: Services, limits: Limits, shutdown: Shutdown) -> Router {
    let served = Arc::new(services);
    let serve = move |request: Request| {
        let response = serve(&served, limits, &shutdown, request);
        std::future::ready(response)
    };
    Router::new().route(&format!("/{service}/{{method}}"), post(serve))
}

/// Answers one call.
pub(crate) fn serve(services: &Services, limits: Limits, shutdown: &Shutdown, request: Request) -> Response {
    let Some(encoding) = encoding_of(&request) else {
        let mut response = Response::new(Body::from("gRPC is spoken here: content-type application/grpc\n"));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    };
    let (head, body) = request.into_parts();
    let (service, method) = head.uri.path().trim_start_matches('/').rsplit_once('/').unwrap_or_default();
    let Some(handler) = services.find(service, method) else {
        return refused(
            encoding,
            Status::new(Code::Unimplemented, format!("unknown service/method: {service}/{method}")),
        );
    };
    if head.headers.get("grpc-encoding").is_some_and(|coding| coding != "identity") {
        return refused(encoding, Status::new(Code::Unimplemented, "compressed messages are not understood"));
    }
    let left = head.headers.get("grpc-timeout").and_then(metadata::read_timeout);
    let call = Call {
        service: service.to_owned(),
        method: method.to_owned(),
        deadline: left.and_then(|left| Instant::now().checked_add(left)),
        metadata: metadata::read(&head.headers),
    };
    let (body, broken) = frames::of_request(body);
    let messages = Streaming::new_request(Encoded, body, None, Some(limits.max_message));
    let (writer, cursor) = log::<Letter>(Watermarks::new(limits.send_buffer));
    let (deadline, cancellation) = (call.deadline, Cancellation::default());
    let handling = handler(Incoming {
        encoding,
        requests: crate::Inbound(In::Grpc(Inbound::of_request(call.metadata.clone(), messages, broken))),
        answers: Outbound(Out::Log(writer)),
        cancellation: cancellation.clone(),
        extensions: head.extensions,
        call,
    });
    let answers = Answers {
        handling: Some(handling),
        messages: Some(cursor),
        outcome: None,
        cancellation,
        deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
        abort: shutdown.abort_signal(),
    };
    respond(encoding, answers)
}

fn encoding_of(request: &Request) -> Option<Encoding> {
    let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "application/grpc" | "application/grpc+proto" => Some(Encoding::Proto),
        "application/grpc+thrift" => Some(Encoding::Thrift),
        _ => None,
    }
}

/// The response to a call that is not even looked at, for layers before a route.
pub fn refusal(status: Status) -> Response {
    refused(Encoding::Proto, status)
}

fn refused(encoding: Encoding, status: Status) -> Response {
    let mut response = metadata::to_tonic(status, &Metadata::default()).into_http::<Body>();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(encoding)));
    response
}

fn respond(encoding: Encoding, answers: Answers) -> Response {
    let body =
        EncodeBody::new_server(Encoded, answers, None, SingleMessageCompressionOverride::default(), None);
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(encoding)));
    response
}

/// A handler that runs, and what it sends. When it is dropped before the end, the caller is gone.
struct Answers {
    handling: Option<Handling>,
    messages: Option<Cursor<Letter>>,
    outcome: Option<Result<Metadata, Status>>,
    cancellation: Cancellation,
    deadline: Option<Pin<Box<Sleep>>>,
    abort: Signal,
}

impl Answers {
    /// Ends the handler for a reason of ours.
    fn cut(&mut self, status: Status) {
        self.cancellation.cancel(Cancel::because(status.message.clone()));
        self.handling = None;
        self.messages = None;
        self.outcome = Some(Err(status));
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) {
        let Some(handling) = &mut self.handling else { return };
        if let Poll::Ready(outcome) = handling.as_mut().poll(cx) {
            (self.handling, self.outcome) = (None, Some(outcome));
        } else if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            self.cut(Status::deadline());
        } else if self.abort.poll(cx).is_ready() {
            self.cut(Status::unavailable("the server is shutting down"));
        }
    }
}

impl Stream for Answers {
    type Item = Result<Bytes, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_handler(cx);
        if let Some(messages) = &mut self.messages {
            match Pin::new(messages).poll_next(cx) {
                Poll::Ready(Some(Ok(letter))) => return Poll::Ready(Some(Ok(letter.0))),
                // However the handler let go of its writer: its outcome is the end.
                Poll::Ready(Some(Err(_)) | None) => self.messages = None,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.handling.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(match self.outcome.take() {
            Some(Ok(trailer)) if trailer != Metadata::default() => {
                Some(Err(metadata::to_tonic(Status::new(Code::Ok, ""), &trailer)))
            }
            Some(Err(status)) => Some(Err(metadata::to_tonic(status, &Metadata::default()))),
            Some(Ok(_)) | None => None,
        })
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if self.handling.is_some() {
            self.cancellation.cancel(Cancel::because("the caller is gone"));
        }
    }
}
