use std::{future::poll_fn, io};

use bytes::Bytes;
use flumen_wire::client::Io;
use tokio::io::AsyncWriteExt;

use super::{Connected, Framing, Shared, next_id, timeout};
use crate::{
    Call, Status,
    thrift::{
        self,
        message::{Kind, Message},
    },
    ttheader::{
        Frame, Info, code,
        codec::{Incoming, Received},
        ending,
        frame::{Allowed, key},
        info::MESSAGE,
        strings::{self, Strings},
        unary,
    },
};

/// A peer that has this in an answer is about to close the connection.
const RESETS: &str = "crrst";

/// Makes a call, once more on another connection if one that was kept is closed before anything comes.
pub(super) async fn call(shared: &Shared, call: &Call, args: Bytes) -> Result<Bytes, Status> {
    let sequence = next_id();
    let request = request(shared, call, sequence, args);
    let allowed = Allowed { message: shared.options.max_message, header: shared.options.max_header };
    loop {
        let Connected { mut io, reused, pool } = shared.connect(|endpoint| &endpoint.unary).await?;
        let mut incoming = Incoming::new(allowed);
        match exchange(&mut io, &request, &mut incoming).await {
            Ok(received) => {
                let answer = Answer::read(received)?;
                if incoming.is_empty() && !answer.resets {
                    pool.put(io);
                }
                return answer.result(sequence);
            }
            Err(None) if reused => {}
            Err(None) => return Err(lost()),
            Err(Some(status)) => return Err(status),
        }
    }
}

fn lost() -> Status {
    Status::unavailable("the connection to the service was lost").with_wire(code::CONNECTION_CLOSED)
}

fn request(shared: &Shared, call: &Call, sequence: i32, args: Bytes) -> Vec<u8> {
    let message = Message { kind: Kind::Call, method: call.method.clone(), sequence, body: args };
    let payload = unary::framed(&message);
    if shared.options.unary == Framing::Framed {
        return payload.into();
    }
    let mut strings = Strings::of(&call.metadata);
    strings.put(strings::SERVICE, &call.service);
    let timeout = timeout(call);
    let mut numbered = vec![
        (key::TRANSPORT, "framed"),
        (key::FROM_SERVICE, &*shared.options.name),
        (key::TO_SERVICE, &*call.service),
        (key::METHOD, &*call.method),
        (key::MESSAGE_TYPE, "1"),
    ];
    numbered.extend(timeout.as_deref().map(|timeout| (key::TIMEOUT, timeout)));
    let info = Info::new(MESSAGE, &numbered, strings.iter());
    let mut bytes = Vec::new();
    Frame { flags: 0, id: sequence, info, payload }.write(&mut bytes);
    bytes
}

/// Writes a request and reads what comes back. An error without a status: the connection was closed before anything came.
async fn exchange(io: &mut Io, request: &[u8], incoming: &mut Incoming) -> Result<Received, Option<Status>> {
    let write = async {
        io.write_all(request).await?;
        io.flush().await
    };
    if write.await.is_err() {
        return Err(None);
    }
    let mut answered = false;
    loop {
        let taken = poll_fn(|cx| {
            io.poll_receive(cx, |fresh| {
                if fresh.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let mut rest = &*fresh;
                let taken = incoming.next(&mut rest);
                incoming.keep(rest);
                Ok(taken)
            })
        });
        match taken.await.flatten() {
            Ok(Ok(Some(received))) => return Ok(received),
            Ok(Ok(None)) => answered = true,
            Ok(Err(error)) => return Err(Some(ending::illegal(error.to_string()))),
            Err(_) => return Err(answered.then(lost)),
        }
    }
}

/// An answer as it came.
struct Answer {
    message: Message,
    /// An error of the service's business, which stands beside the message.
    failed: Option<Status>,
    /// The peer closes the connection.
    resets: bool,
}

impl Answer {
    fn read(received: Received) -> Result<Self, Status> {
        let (payload, info) = match received {
            Received::Framed(payload) => (payload, None),
            Received::Frame(frame) => (unary::unframed(frame.payload), Some(frame.info)),
            Received::Data { .. } => return Err(ending::illegal("a frame of a stream answers a unary call")),
        };
        let message = Message::decode(payload).map_err(|error| ending::illegal(error.to_string()))?;
        let failed = info.as_ref().and_then(strings::business).map(Status::business);
        let resets = info.is_some_and(|info| strings::entry(&info, RESETS).is_some());
        Ok(Self { message, failed, resets })
    }

    fn result(self, sequence: i32) -> Result<Bytes, Status> {
        if self.message.sequence != sequence {
            return Err(ending::illegal("the answer to another call"));
        }
        match (self.failed, self.message.kind) {
            (Some(status), _) => Err(status),
            (None, Kind::Reply) => Ok(self.message.body),
            (None, Kind::Exception) => Err(match thrift::decode(self.message.body) {
                Ok(exception) => ending::status_of(exception),
                Err(error) => ending::illegal(error.to_string()),
            }),
            (None, Kind::Call | Kind::OneWay) => Err(ending::illegal("a request in the place of an answer")),
        }
    }
}
