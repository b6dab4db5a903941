//! Unary calls, beside streams on the same port.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{outbox::Outbox, stream::handle};
use crate::{
    Call, Cancellation, Code, Encoding, In, Inbound, Incoming, Metadata, Out, Outbound, Status,
    services::Handler,
    thrift::message::{Kind, Message},
    ttheader::{
        Error, Frame, Info, code, ending,
        frame::key,
        halves,
        info::MESSAGE,
        strings::{self, Strings},
        unary,
    },
};

/// A result without a value: what stands beside an error of the business.
const NO_RESULT: &[u8] = &[0];

/// When a call must be answered, as its header says: in milliseconds from now.
pub(super) fn deadline(info: &Info) -> Option<Instant> {
    let text = std::str::from_utf8(info.numbered(key::TIMEOUT)?).ok()?;
    let left = text.parse().ok().filter(|left| *left > 0)?;
    Instant::now().checked_add(Duration::from_millis(left))
}

/// A unary call that has come.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) call: Call,
    args: Bytes,
    envelope: Envelope,
}

/// What goes around an answer.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    method: String,
    sequence: i32,
    /// Nobody waits for an answer.
    one_way: bool,
    around: Around,
}

#[derive(Clone, Copy, Debug)]
enum Around {
    Length,
    TtHeader { id: i32, length: bool },
}

impl Asked {
    /// A message with its length before it.
    pub(super) fn framed(message: Bytes) -> Result<Self, Error> {
        Self::new(message, Around::Length, Call::default())
    }

    /// A message in a frame of TTHeader.
    pub(super) fn in_frame(frame: Frame) -> Result<Self, Error> {
        let call = Call {
            service: strings::entry(&frame.info, strings::SERVICE).unwrap_or_default(),
            method: String::new(),
            deadline: deadline(&frame.info),
            metadata: strings::metadata(&frame.info),
        };
        let around = Around::TtHeader { id: frame.id, length: unary::is_framed(&frame.payload) };
        Self::new(unary::unframed(frame.payload), around, call)
    }

    fn new(message: Bytes, around: Around, call: Call) -> Result<Self, Error> {
        let Message { kind, method, sequence, body } = Message::decode(message)?;
        let one_way = match kind {
            Kind::Call => false,
            Kind::OneWay => true,
            Kind::Reply | Kind::Exception => {
                return Err(Error::Unexpected("an answer in the place of a request"));
            }
        };
        let envelope = Envelope { method: method.clone(), sequence, one_way, around };
        Ok(Self { call: Call { method, ..call }, args: body, envelope })
    }

    pub(super) fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Runs the handler of a call and sends its answer.
pub(super) async fn run(asked: Asked, handler: Handler, cancellation: Cancellation, outbox: Arc<Outbox>) {
    let Asked { call, args, envelope } = asked;
    let answer = Arc::new(OnceLock::new());
    let request = Request { args: Some(args), header: call.metadata.clone() };
    let incoming = Incoming {
        call,
        encoding: Encoding::Thrift,
        requests: Inbound(In::TtHeader(halves::Inbound::Unary(request))),
        answers: Outbound(Out::TtHeader(halves::Outbound::Unary(Answer(Arc::clone(&answer))))),
        cancellation,
        extensions: http::Extensions::default(),
    };
    let outcome = handle(handler, incoming).await.and_then(|metadata| {
        let none =
            || Status::new(Code::Internal, "the handler gave no answer").with_wire(code::MISSING_RESULT);
        Ok((answer.get().cloned().ok_or_else(none)?, metadata))
    });
    if envelope.one_way {
        return;
    }
    let bytes = envelope.seal(outcome.as_ref());
    if let Ok(room) = outbox.room(bytes.len()).await {
        outbox.put(room, |frames| frames.extend_from_slice(&bytes));
    }
}

impl Envelope {
    /// Answers a call that nobody handles. Returns how many bytes that adds to the outbox.
    pub(super) fn refuse(&self, status: &Status, outbox: &Outbox) -> usize {
        if self.one_way {
            return 0;
        }
        outbox.put_unasked(|frames| frames.extend_from_slice(&self.seal(Err(status))))
    }

    fn seal(&self, outcome: Result<&(Bytes, Metadata), &Status>) -> Vec<u8> {
        let mut strings = Strings::default();
        let in_header = matches!(self.around, Around::TtHeader { .. });
        let message = match outcome {
            Ok((body, metadata)) => {
                strings = Strings::of(metadata);
                self.reply(body.clone())
            }
            Err(Status { business: Some(business), .. }) if in_header => {
                strings.put_business(business);
                self.reply(Bytes::from_static(NO_RESULT))
            }
            Err(status) => {
                Message::exception(self.method.clone(), self.sequence, &ending::exception_of(status))
            }
        };
        self.around(&message, &strings)
    }

    fn reply(&self, body: Bytes) -> Message {
        Message { kind: Kind::Reply, method: self.method.clone(), sequence: self.sequence, body }
    }

    fn around(&self, message: &Message, strings: &Strings) -> Vec<u8> {
        let Around::TtHeader { id, length } = self.around else { return unary::framed(message).into() };
        let kind = (message.kind as u8).to_string();
        let info = Info::new(MESSAGE, &[(key::MESSAGE_TYPE, &kind)], strings.iter());
        let payload = if length { unary::framed(message) } else { message.encode() };
        let mut bytes = Vec::new();
        Frame { flags: 0, id, info, payload }.write(&mut bytes);
        bytes
    }
}

/// The one request of a unary call: the struct of its arguments.
#[derive(Debug)]
pub(crate) struct Request {
    args: Option<Bytes>,
    header: Metadata,
}

impl Request {
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        self.args.take()
    }

    pub(crate) fn header(&self) -> &Metadata {
        &self.header
    }
}

/// The one answer of a unary call: the struct of its result.
#[derive(Debug)]
pub(crate) struct Answer(Arc<OnceLock<Bytes>>);

impl Answer {
    pub(crate) fn send(&self, message: Bytes) -> Result<(), Status> {
        self.0.set(message).map_err(|_| Status::new(Code::Internal, "a unary call has one answer"))
    }
}
