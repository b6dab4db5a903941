//! Whatever the bytes and wherever they are cut: the same frames come out, each can be written back, and nothing panics.
#![no_main]

use bytes::BytesMut;
use flumen_rpc::ttheader::{Codec, Frame, Limits, is_preface};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::Decoder;

const LIMITS: Limits = Limits {
    streams: 1,
    message: 256,
    header: 256,
    requests: 1,
    answers: 1,
    idle: std::time::Duration::ZERO,
};

/// The frames up to the first error, and whether there was one.
fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let (mut codec, mut buffer, mut frames) = (Codec::new(&LIMITS), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let (head, tail) = bytes.split_at(usize::from(at).min(bytes.len()));
    let (frames, failed) = decode(&[bytes]);
    let (cut, cut_failed) = decode(&[head, tail]);
    assert_eq!((&frames, failed), (&cut, cut_failed));
    let mut written = Vec::new();
    for frame in &frames {
        let _ = (frame.kind(), frame.method(), frame.info.named().count());
        assert!(frame.payload.len() <= LIMITS.message);
        frame.write(&mut written);
    }
    assert!(bytes.starts_with(&written), "a frame is written as it came");
    let _ = is_preface(bytes);
});
