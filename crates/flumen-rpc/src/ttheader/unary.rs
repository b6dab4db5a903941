//! Messages of unary calls, with and without their length before them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::thrift::message::{Message, VERSION};

/// A message with its length before it.
pub(super) fn framed(message: &Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 + message.size());
    // No frame is as long as what this cannot express.
    bytes.put_u32(u32::try_from(message.size()).unwrap_or(u32::MAX));
    message.write(&mut bytes);
    bytes.freeze()
}

/// Whether a payload has its length before it once more, as Kitex's `TTHeaderFramed` has.
pub(super) fn is_framed(payload: &[u8]) -> bool {
    payload.get(4..6) == Some(&VERSION.to_be_bytes())
}

/// A payload without the length that may stand before it.
pub(super) fn unframed(payload: Bytes) -> Bytes {
    if is_framed(&payload) { payload.slice(4..) } else { payload }
}
