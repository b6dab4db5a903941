use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flumen_stream::{Cursor, Watermarks, log};
use flumen_wire::client::{Dialer, ErrorKind};
use futures_util::Stream;
use http::{HeaderValue, Method, Request, Version, header};
use tokio::sync::oneshot;
use tonic::{
    body::Body,
    codec::{EncodeBody, Streaming},
};

use super::{
    Inbound, Options,
    channel::{Channel, Lane},
    codec::Encoded,
    content_type, frames,
    inbound::Begun,
    metadata,
};
use crate::{Call, Code, Encoding, Exchange, In, Letter, Out, Outbound, Status};

/// A client of one service, at one or several endpoints. Cheap to clone.
///
/// Connections belong to the runtime they were opened on: use one client per runtime.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Arc<Channel>,
    encoding: Encoding,
}

impl Client {
    /// For a service behind these endpoints. Opens nothing yet.
    pub fn new(endpoints: Vec<Dialer>, encoding: Encoding, options: Options) -> Self {
        Self { channel: Arc::new(Channel::new(endpoints, options)), encoding }
    }

    /// What its messages are written in.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Begins a call. The request is on its way when this returns; whether the service takes it, the first message or the error
    /// of [`Exchange::inbound`] tells.
    ///
    /// A request that met a connection which the service had just closed goes to another, if nothing of it was sent. Cancel-safe:
    /// dropping the future abandons the call.
    ///
    /// # Errors
    /// When there is no connection; [`Status::connection`] says why.
    pub async fn stream(&self, call: &Call) -> Result<Exchange, Status> {
        let lane = self.channel.lane().await?;
        let options = &self.channel.options;
        let (writer, cursor) = log::<Letter>(Watermarks::new(options.send_buffer));
        let (held, gone) = oneshot::channel();
        let request = self.request(call, Sending { messages: cursor, gone })?;
        let head = begin(Arc::clone(&self.channel), lane, request);
        let inbound = Inbound::begins(head, call.deadline, held).start();
        Ok(Exchange { outbound: Outbound(Out::Log(writer)), inbound: crate::Inbound(In::Grpc(inbound)) })
    }

    fn request(&self, call: &Call, messages: Sending) -> Result<Request<Body>, Status> {
        let unusable =
            |_| Status::new(Code::InvalidArgument, "the service's or method's name cannot stand in a path");
        let path = format!("/{}/{}", call.service, call.method);
        let body = Body::new(EncodeBody::new_client(Encoded, messages, None, None));
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(path)
            .body(body)
            .map_err(unusable)?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(self.encoding)));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let agent = HeaderValue::from_static(concat!("flumen/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, agent);
        if let Some(left) = call.left() {
            headers.insert("grpc-timeout", metadata::timeout(left));
        }
        metadata::write(&call.metadata, headers);
        Ok(request)
    }
}

/// Sends a request and waits for the head of its answer.
async fn begin(channel: Arc<Channel>, mut lane: Lane, mut request: Request<Body>) -> Begun {
    let response = loop {
        let target = channel.dialer(lane.endpoint).endpoint().uri(request.uri().path());
        *request.uri_mut() =
            target.map_err(|_| Status::new(Code::InvalidArgument, "the endpoint's URL is unusable"))?;
        match lane.send.try_send_request(request).await {
            Ok(response) => break response,
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(broken(error.into_error())),
            },
        }
        lane = channel.lane().await?;
    };
    let (mut head, body) = response.into_parts();
    frames::tidy(&mut head.headers);
    let grpc = head.headers.get(header::CONTENT_TYPE);
    let grpc = grpc.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if !head.status.is_success() || !grpc {
        let message = format!("the service answered with HTTP status {} and no gRPC", head.status);
        return Err(Status::new(code_of(head.status), message));
    }
    let max = Some(channel.options.max_message);
    let messages = match tonic::Status::from_header_map(&head.headers) {
        Some(status) if status.code() != Code::Ok => return Err(metadata::status_of(&status)),
        Some(_) => match metadata::business(&head.headers) {
            Some(business) => return Err(Status::business(business)),
            None => Streaming::new_empty(Encoded, body),
        },
        None => Streaming::new_response(Encoded, frames::of_answer(body), head.status, None, max),
    };
    Ok((metadata::read(&head.headers), messages, lane.place))
}

/// Nothing of an answer came: that is the connection's fault unless the service said otherwise.
fn broken(error: hyper::Error) -> Status {
    let status = metadata::received(&tonic::Status::from_error(error.into()));
    Status { connection: Some(ErrorKind::Broken), ..status }
}

/// What an HTTP status without gRPC means (the protocol's own table).
fn code_of(status: http::StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// The messages to the service. When their writer was lost, or nobody waits for answers any more, the body breaks off, and so
/// does the call: HTTP/2 resets a stream only when both of its directions are let go of.
struct Sending {
    messages: Cursor<Letter>,
    /// Ends when the inbound half is dropped.
    gone: oneshot::Receiver<()>,
}

impl Stream for Sending {
    type Item = Result<Bytes, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(message) = Pin::new(&mut self.messages).poll_next(cx) {
            return Poll::Ready(
                message
                    .map(|message| message.map(|letter| letter.0).map_err(|end| cancelled(end.to_string()))),
            );
        }
        ready!(Pin::new(&mut self.gone).poll(cx)).ok();
        Poll::Ready(Some(Err(cancelled("nobody waits for the answers any more".to_owned()))))
    }
}

/// An error of a body by which hyper resets the stream with the code that gRPC has for it.
fn cancelled(message: String) -> tonic::Status {
    let mut status = tonic::Status::cancelled(message);
    status.set_source(Arc::new(h2::Error::from(h2::Reason::CANCEL)));
    status
}
