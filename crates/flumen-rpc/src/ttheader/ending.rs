//! How streams end: trailers, resets, and what they mean.

use bytes::Bytes;

use super::{
    Frame, Kind, code,
    strings::{self, CANCEL_PATH, CODE, Strings},
};
use crate::{
    Cancel, Code, Metadata, Status,
    thrift::{
        self, Malformed,
        message::{self, ApplicationException, Message},
    },
};

/// What Kitex says when a caller just stops.
const STOPPED: &str = "the caller does not want it any more";

/// The end of a direction that sent all it had.
pub(super) fn half_close(id: i32, method: &str) -> Frame {
    Frame::of_stream(id, Kind::Trailer, method, [], Bytes::new())
}

/// The end of an answer.
pub(super) fn trailer(id: i32, method: &str, outcome: &Result<Metadata, Status>) -> Frame {
    let (strings, payload) = match outcome {
        Ok(metadata) => (Strings::of(metadata), Bytes::new()),
        Err(Status { business: Some(business), .. }) => {
            let mut strings = Strings::default();
            strings.put_business(business);
            (strings, Bytes::new())
        }
        Err(status) => {
            let mut strings = Strings::default();
            strings.put(CODE, i32::from(status.code).to_string());
            (strings, exception(id, method, status))
        }
    };
    Frame::of_stream(id, Kind::Trailer, method, strings.iter(), payload)
}

/// A reset: the peer need not send any more, and nothing comes from here.
pub(super) fn reset(id: i32, method: &str, cancel: &Cancel, own_name: &str) -> Frame {
    let number = cancel.wire.unwrap_or(if cancel.reason.is_empty() {
        code::CANCELLED
    } else {
        code::CANCELLED_WITH_CAUSE
    });
    let reason = if cancel.reason.is_empty() { STOPPED } else { &cancel.reason };
    let exception = ApplicationException { message: reason.to_owned(), kind: number };
    let path: Vec<_> = cancel.path.iter().map(String::as_str).chain([own_name]).collect();
    let payload = Message::exception(method, id, &exception).encode();
    Frame::of_stream(id, Kind::Reset, method, [(CANCEL_PATH, &*path.join(","))], payload)
}

fn exception(id: i32, method: &str, status: &Status) -> Bytes {
    Message::exception(method, id, &exception_of(status)).encode()
}

pub(super) fn exception_of(status: &Status) -> ApplicationException {
    ApplicationException { message: status.message.clone().into_owned(), kind: code::number(status) }
}

/// What a trailer says: metadata, and whether the end is good.
pub(super) fn read_trailer(frame: &Frame) -> Result<Metadata, Status> {
    if !frame.payload.is_empty() {
        let mut status = match read_exception(frame.payload.clone()) {
            Ok(exception) => status_of(exception),
            Err(error) => illegal(format!("the trailer's exception cannot be read: {error}")),
        };
        let told = strings::entry(&frame.info, CODE).and_then(|code| code.parse().ok()).map(Code::from_i32);
        if let Some(code) = told.filter(|code| *code != Code::Ok) {
            status.code = code;
        }
        return Err(status);
    }
    match strings::business(&frame.info) {
        Some(business) => Err(Status::business(business)),
        None => Ok(strings::metadata(&frame.info)),
    }
}

/// What a reset says.
pub(super) fn read_reset(frame: &Frame) -> Cancel {
    // Kitex's words for a reset that has none.
    let nothing = || ApplicationException { message: "rst".to_owned(), kind: code::RESET };
    let exception = read_exception(frame.payload.clone()).unwrap_or_else(|_| nothing());
    let path = strings::entry(&frame.info, CANCEL_PATH).unwrap_or_default();
    Cancel {
        wire: Some(exception.kind),
        reason: exception.message,
        path: path.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    }
}

fn read_exception(payload: Bytes) -> Result<ApplicationException, Malformed> {
    let message = Message::decode(payload)?;
    if message.kind != message::Kind::Exception {
        return Err(Malformed::Envelope(u32::from(message::VERSION) << 16 | message.kind as u32));
    }
    thrift::decode(message.body)
}

pub(super) fn status_of(exception: ApplicationException) -> Status {
    Status::new(code::meaning(exception.kind), exception.message).with_wire(exception.kind)
}

/// A stream that was reset.
pub(super) fn cancelled(cancel: Cancel) -> Status {
    let number = cancel.wire.unwrap_or(code::CANCELLED);
    // Whatever the number of a reset, somebody has cancelled, unless it says what else it was.
    let code = match code::meaning(number) {
        Code::Unknown => Code::Cancelled,
        code => code,
    };
    Status { path: cancel.path, ..Status::new(code, cancel.reason).with_wire(number) }
}

pub(super) fn illegal(message: impl Into<String>) -> Status {
    Status::protocol(message.into()).with_wire(code::ILLEGAL_FRAME)
}

pub(super) fn deadline() -> Status {
    Status::deadline().with_wire(code::DEADLINE)
}
