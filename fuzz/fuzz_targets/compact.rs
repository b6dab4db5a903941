//! Frames in compact form: foreign bytes are no fault and claim no memory, and what goes in comes out.
#![no_main]

use flumen_stream::compact::{Segment, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bytes = 0;
    for frame in decode(input).take(10_000) {
        bytes += frame.len();
        assert!(frame.len() <= input.len() + bytes, "no frame is longer than what it is made of");
    }
    // The input cut at every 7: frames that share much.
    let frames: Vec<&[u8]> = input.split(|byte| *byte == 7).collect();
    let mut segment = Segment::default();
    for frame in &frames {
        segment.push(frame);
    }
    segment.seal();
    assert!(segment.iter().eq(frames.iter().map(|frame| bytes::Bytes::copy_from_slice(frame))));
});
