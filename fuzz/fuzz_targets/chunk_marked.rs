//! Foreign bytes as chunk-marked transfers: no panic, bounded memory, and what decodes encodes to the same bytes.
#![no_main]

use bytes::BytesMut;
use flumen_wire::boundary::{Assembler, ChunkMarked};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};

fuzz_target!(|input: &[u8]| {
    let (mut codec, mut assembler) = (ChunkMarked::up_to(4096), Assembler::up_to(4));
    let (mut wire, mut again, mut taken) = (BytesMut::from(input), BytesMut::new(), 0);
    while let Ok(Some(chunk)) = codec.decode_eof(&mut wire) {
        again.clear();
        codec.encode(chunk.clone(), &mut again).expect("what was decoded is within the limit");
        assert_eq!(again, input[taken..taken + again.len()]);
        taken += again.len();
        let _ = assembler.take(chunk);
    }
    assert!(wire.capacity() < input.len() + 3 * 4096);
});
