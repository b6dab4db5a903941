//! Whatever a server sends, the reader of responses neither panics nor reads one message in two ways.
#![no_main]

use flumen_wire::client::http1::{
    framing::Framing,
    head::{self, Head},
};
use http::Method;
use libfuzzer_sys::fuzz_target;

fn strip(framing: &mut Framing, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    for piece in pieces {
        if framing.is_done() {
            break;
        }
        let mut piece = piece.to_vec();
        let stripped = framing.strip(&mut piece, 64).ok()?;
        assert!(stripped.payload <= stripped.consumed && stripped.consumed <= piece.len());
        payload.extend_from_slice(&piece[..stripped.payload]);
    }
    Some(payload)
}

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let mut body = bytes;
    let mut framing = Framing::chunked();
    if let Some(end) = head::end(bytes, 0)
        && let Ok(head) = Head::parse(&bytes[..end], &Method::POST)
    {
        body = &bytes[end..];
        framing = head.framing;
    }
    let (head, tail) = body.split_at(usize::from(at).min(body.len()));
    let mut again = framing.clone();
    assert_eq!(strip(&mut framing, &[body]), strip(&mut again, &[head, tail]));
});
