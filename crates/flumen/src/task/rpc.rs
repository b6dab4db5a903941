//! Streaming calls: as a source of frames, and as a task that emits what a service sends.
//!
//! [`rpc_stream`] gives the answers of a call as a stream that is bounded by the flow control of its protocol: whoever does not
//! read it pauses the service. [`rpc`] is the same as a task: it has the deadline and the trace of its flow, and is cancelled
//! with it.

use std::{
    pin::Pin,
    task::{Context as Cx, Poll, ready},
};

use bytes::Bytes;
use flumen_flow::{Context, Error, ErrorKind, Task, task};
use flumen_rpc::{Call, Client, Code, Encoding, Inbound, Outbound, Status, thrift};
use flumen_stream::{Event, Frame};
use futures_util::{Stream, StreamExt};

/// A message of a call, however it is written.
pub trait Message: Sized + Send + 'static {
    /// On the wire.
    fn encode(&self, encoding: Encoding) -> Bytes;

    /// From the wire.
    ///
    /// # Errors
    /// When it is none.
    fn decode(message: Bytes, encoding: Encoding) -> std::result::Result<Self, Status>;
}

/// What somebody else encoded, or will decode.
impl Message for Bytes {
    fn encode(&self, _: Encoding) -> Self {
        self.clone()
    }

    fn decode(message: Self, _: Encoding) -> std::result::Result<Self, Status> {
        Ok(message)
    }
}

impl Message for flumen_rpc::generation::ClientMessage {
    fn encode(&self, encoding: Encoding) -> Bytes {
        Self::encode(self, encoding)
    }

    fn decode(message: Bytes, encoding: Encoding) -> std::result::Result<Self, Status> {
        Self::decode(message, encoding)
    }
}

impl Message for flumen_rpc::generation::ServerMessage {
    fn encode(&self, encoding: Encoding) -> Bytes {
        Self::encode(self, encoding)
    }

    fn decode(message: Bytes, encoding: Encoding) -> std::result::Result<Self, Status> {
        Self::decode(message, encoding)
    }
}

/// A struct of Thrift, as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thrift<T>(pub T);

impl<T: thrift::Struct + Send + 'static> Message for Thrift<T> {
    fn encode(&self, _: Encoding) -> Bytes {
        thrift::encode(&self.0)
    }

    fn decode(message: Bytes, _: Encoding) -> std::result::Result<Self, Status> {
        let malformed = |error: thrift::Malformed| Status::new(Code::Internal, error.to_string());
        thrift::decode(message).map(Self).map_err(malformed)
    }
}

/// The answers of one call; see [`rpc_stream`]. Dropping it cancels the call.
#[derive(Debug)]
pub struct Answers<Out> {
    inbound: Inbound,
    encoding: Encoding,
    /// Held open where the caller may still speak.
    outbound: Option<Outbound>,
    message: std::marker::PhantomData<fn() -> Out>,
}

/// Sends one request and gives the answers as they come. Not reading them pauses the service.
///
/// # Errors
/// When there is no connection; what goes wrong later is the stream's last item.
pub async fn rpc_stream<In: Message, Out: Message>(
    client: &Client,
    call: &Call,
    request: &In,
) -> std::result::Result<Answers<Out>, Status> {
    let mut exchange = client.stream(call).await?;
    exchange.outbound.send(request.encode(client.encoding())).await?;
    let answers = Answers {
        inbound: exchange.inbound,
        encoding: client.encoding(),
        outbound: None,
        message: std::marker::PhantomData,
    };
    exchange.outbound.close().await?;
    Ok(answers)
}

/// The same, and the way to say more while the answers come.
///
/// # Errors
/// As [`rpc_stream`].
pub async fn rpc_exchange<Out: Message>(
    client: &Client,
    call: &Call,
) -> std::result::Result<Answers<Out>, Status> {
    let exchange = client.stream(call).await?;
    Ok(Answers {
        inbound: exchange.inbound,
        encoding: client.encoding(),
        outbound: Some(exchange.outbound),
        message: std::marker::PhantomData,
    })
}

impl<Out> Answers<Out> {
    /// Says more. Waits while the service does not take it.
    ///
    /// # Errors
    /// `Cancelled` when the call is over, or nothing more may be said.
    pub async fn send<In: Message>(&mut self, message: &In) -> std::result::Result<(), Status> {
        match &mut self.outbound {
            Some(outbound) => outbound.send(message.encode(self.encoding)).await,
            None => Err(Status::new(Code::Cancelled, "this side of the call is closed")),
        }
    }

    /// Nothing more will be said. The answers go on.
    ///
    /// # Errors
    /// `Cancelled` when the call is over.
    pub async fn close(&mut self) -> std::result::Result<(), Status> {
        match self.outbound.take() {
            Some(outbound) => outbound.close().await,
            None => Ok(()),
        }
    }
}

impl<Out: Message> Stream for Answers<Out> {
    type Item = std::result::Result<Out, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let message = ready!(this.inbound.poll_message(cx));
        Poll::Ready(message.map(|message| message.and_then(|message| Out::decode(message, this.encoding))))
    }
}

/// A task that makes a call with its input as the request, and emits what `frame` makes of each answer.
pub fn rpc<In, Out, F>(
    client: Client,
    call: Call,
    frame: impl Fn(Out) -> Option<F> + Clone + Send + Sync + 'static,
) -> impl Task<Input = In, Output = ()> + Clone
where
    In: Message + Sync,
    Out: Message,
    F: Frame + Send + 'static,
{
    task(move |cx: Context, request: In| {
        let (client, frame) = (client.clone(), frame.clone());
        let call = with_context(call.clone(), &cx);
        async move {
            let mut answers = rpc_stream::<In, Out>(&client, &call, &request).await.map_err(failure)?;
            let mut begun = false;
            while let Some(answer) = answers.next().await {
                // What was emitted cannot be taken back: after the first answer a call is not made again.
                let answer = answer.map_err(|status| if begun { broken(status) } else { failure(status) })?;
                begun = true;
                if let Some(frame) = frame(answer) {
                    cx.out().send(frame).await?;
                }
            }
            Ok(())
        }
    })
}

/// What of a flow travels with its calls.
fn with_context(mut call: Call, cx: &Context) -> Call {
    call.deadline = call.deadline.into_iter().chain(cx.deadline()).min();
    if let Some(trace) = cx.traceparent() {
        call.metadata.plain.insert("traceparent".to_owned(), trace.to_owned());
    }
    call
}

/// What a call's failure is to a flow that has had nothing of its answer.
fn failure(status: Status) -> Error {
    let again = status.may_be_tried_again();
    let error = broken(status);
    if again { error.retryable() } else { error }
}

/// What a call's failure is to a flow.
fn broken(status: Status) -> Error {
    let kind = match status.code {
        Code::DeadlineExceeded => ErrorKind::TimedOut,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::ResourceExhausted => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, status.to_string()).with_source(status)
}

/// The text of what a model service says, as an event; what is no text is left out.
pub fn text_event(message: flumen_rpc::generation::ServerMessage) -> Option<Event> {
    match message.message? {
        flumen_rpc::generation::Say::Delta(delta) if !delta.text.is_empty() => Some(Event::data(delta.text)),
        _ => None,
    }
}

/// A task that makes a unary call of Thrift with its input as the argument; its output is the answer. How it travels, framed or in
/// `TTHeader`, is the client's [`Options::unary`](flumen_rpc::ttheader::Options::unary).
pub fn unary<In, Out>(
    client: flumen_rpc::ttheader::Client,
    call: Call,
) -> impl Task<Input = In, Output = Out> + Clone
where
    In: thrift::Struct + Send + Sync + 'static,
    Out: thrift::Struct + Send + 'static,
{
    task(move |cx: Context, argument: In| {
        let (client, call) = (client.clone(), with_context(call.clone(), &cx));
        async move {
            let arguments = thrift::encode(&thrift::message::Args(argument));
            let reply = client.unary(&call, arguments).await.map_err(failure)?;
            let reply: thrift::message::Reply<Out> = thrift::decode(reply)?;
            Ok(reply.0)
        }
    })
}
