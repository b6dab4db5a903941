//! Whatever the bytes and wherever they are cut, the same events come out, and memory stays within the limit.
#![no_main]

use bytes::Bytes;
use flumen_stream::codec::sse::Decoder;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 256;

fn decode(pieces: &[&[u8]]) -> Option<Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    let mut decoder = Decoder::new(LIMIT);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        while let Some(event) = decoder.next() {
            events.push(event.ok()?);
        }
        assert!(decoder.pending() <= LIMIT);
    }
    events.extend(decoder.finish());
    let seen = events.iter().filter(|event| event.has_data());
    Some(seen.map(|event| (event.payload().into_owned(), event.name().map(<[u8]>::to_vec))).collect())
}

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let (head, tail) = bytes.split_at(usize::from(at).min(bytes.len()));
    let whole = decode(&[bytes]);
    // Where an event is near the limit, one cut may see a few bytes more of it than another.
    if let (Some(whole), Some(cut)) = (&whole, decode(&[head, tail])) {
        assert_eq!(whole, &cut);
    }
});
