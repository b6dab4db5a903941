//! Foreign bytes as chunk-marked transfers: no panic, bounded memory, and what decodes encodes to the same bytes. The bytes are
//! taken as they are, and once more as chunks with the right checksums, which chance would never find.
#![no_main]

use bytes::{Buf, Bytes, BytesMut};
use flumen_wire::boundary::{Assembler, Chunk, ChunkKind, ChunkMarked};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};

fn take_all(input: &[u8]) {
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
}

fuzz_target!(|input: &[u8]| {
    take_all(input);
    let (mut rest, mut wire) = (input, BytesMut::new());
    while rest.len() >= 3 {
        let (kind, transfer, number) = (rest.get_u8(), u64::from(rest.get_u8() % 6), rest.get_u8());
        let kind =
            [ChunkKind::Begin, ChunkKind::Part, ChunkKind::End, ChunkKind::Abort][usize::from(kind % 4)];
        // Small numbers, and those at the end of the range.
        let number = if number < 128 { u64::from(number) } else { u64::MAX - u64::from(255 - number) };
        let content = Bytes::copy_from_slice(&rest[..rest.len().min(2)]);
        ChunkMarked::up_to(4096)
            .encode(Chunk { kind, transfer, number, content }, &mut wire)
            .expect("it is short");
    }
    take_all(&wire);
});
