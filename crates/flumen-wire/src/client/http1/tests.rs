use proptest::prelude::*;

use super::*;

const CHUNKED: &[u8] = b"5\r\nhello\r\n1;name=value\r\n \r\n00A \r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n";

/// Strips a message that arrives in these pieces: payload, what follows the message, or the error.
fn strip(framing: &mut Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let (mut payload, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let stripped = framing.strip(&mut piece, 256)?;
        assert!(stripped.payload <= stripped.consumed && stripped.consumed <= piece.len());
        payload.extend_from_slice(&piece[..stripped.payload]);
        if framing.is_done() {
            let all = pieces.concat().len();
            let read = all - piece.len();
            assert!(read <= all);
            rest.extend_from_slice(&piece[stripped.consumed..]);
        }
    }
    Ok((payload, rest))
}

fn fails(message: &[u8]) -> bool {
    strip(&mut Framing::chunked(), &[message]).is_err()
}

#[test]
fn chunks_are_joined_wherever_the_message_is_split() {
    for at in 0..=CHUNKED.len() {
        let mut framing = Framing::chunked();
        let (head, tail) = CHUNKED.split_at(at);
        let (payload, rest) = strip(&mut framing, &[head, tail]).unwrap();
        assert_eq!(payload, b"hello 0123456789", "split at {at}");
        assert!(framing.is_done() && rest.is_empty());
        assert!(framing.end_of_input().is_ok());
    }
}

#[test]
fn every_proper_prefix_is_truncated() {
    for at in 0..CHUNKED.len() {
        let mut framing = Framing::chunked();
        strip(&mut framing, &[&CHUNKED[..at]]).unwrap();
        assert_eq!(framing.end_of_input().unwrap_err().kind(), ErrorKind::Truncated, "prefix of {at}");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for message in [
        &b"\r\n"[..],
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b" 1\r\n",
        b"1\n",
        b"1\rx",
        b"1\r\nabc",
        b"1\r\na\n",
        b"0x1\r\n",
        b"1;\n\r\n",
        b"1111111111111111\r\n",
        b"0\r\nbare\n\r\n",
        b"0\r\nx\rx",
    ] {
        assert!(fails(message), "{:?}", String::from_utf8_lossy(message));
    }
    assert!(fails(&[b"1;", &[b'x'; 2000][..]].concat()), "an endless extension");
    assert!(fails(&[b"0\r\n", &[b'x'; 2000][..]].concat()), "endless trailers");
}

#[test]
fn what_follows_the_message_is_left_alone() {
    let (payload, rest) = strip(&mut Framing::chunked(), &[b"1\r\na\r\n0\r\n\r\nHTTP/1.1"]).unwrap();
    assert_eq!((&*payload, &*rest), (&b"a"[..], &b"HTTP/1.1"[..]));
    let (payload, rest) = strip(&mut Framing::length(3), &[b"ab", b"cd"]).unwrap();
    assert_eq!((&*payload, &*rest), (&b"abc"[..], &b"d"[..]));
}

proptest! {
    #[test]
    fn any_chunking_of_any_payload_is_undone(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..10),
                                             cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let mut message = Vec::new();
        for chunk in &chunks {
            message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            message.extend_from_slice(chunk);
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"0\r\n\r\n");
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(message.len() + 1)).chain([0, message.len()]).collect();
        at.sort_unstable();
        let pieces: Vec<_> = at.windows(2).map(|pair| &message[pair[0]..pair[1]]).collect();
        let mut framing = Framing::chunked();
        let (payload, _) = strip(&mut framing, &pieces).unwrap();
        prop_assert_eq!(payload, chunks.concat());
        prop_assert!(framing.is_done());
    }

    #[test]
    fn hostile_bytes_never_panic_and_never_grow(message in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'f'), Just(b';'), any::<u8>()], 0..200)) {
        let _ = strip(&mut Framing::chunked(), &[&message]);
        let _ = Head::parse(&message, &Method::POST);
    }
}

fn parse(head: &str) -> Result<Head, Error> {
    Head::parse(head.replace('\n', "\r\n").as_bytes(), &Method::POST)
}

#[test]
fn the_length_of_a_body_is_told_in_one_way_only() {
    let framing = |headers: &str| parse(&format!("HTTP/1.1 200 OK\n{headers}\n")).map(|head| head.framing);
    assert_eq!(framing("content-length: 5\n").unwrap(), Framing::length(5));
    assert_eq!(framing("Transfer-Encoding: Chunked\n").unwrap(), Framing::chunked());
    assert_eq!(framing("").unwrap(), Framing::UntilClose);
    for doubtful in [
        "content-length: 5\ntransfer-encoding: chunked\n",
        "content-length: 5\ncontent-length: 5\n",
        "content-length: 5, 5\n",
        "content-length: +5\n",
        "content-length: \n",
        "content-length: 99999999999999999999999\n",
        "transfer-encoding: gzip, chunked\n",
        "transfer-encoding: chunked\ntransfer-encoding: chunked\n",
        "transfer-encoding: identity\n",
    ] {
        assert!(framing(doubtful).is_err(), "{doubtful:?}");
    }
    assert!(parse("HTTP/1.0 200 OK\ntransfer-encoding: chunked\n\n").is_err());
    assert_eq!(parse("HTTP/1.1 204 No Content\n\n").unwrap().framing, Framing::length(0));
}

#[test]
fn malformed_heads_are_refused() {
    for head in [
        "",
        "HTTP/2 200\n\n",
        "200 OK\n\n",
        "HTTP/1.1 99 x\n\n",
        "HTTP/1.1 200 OK\nno colon\n\n",
        "HTTP/1.1 200 OK\n folded: x\n\n",
        "HTTP/1.1 200 OK\na b: x\n\n",
        "HTTP/1.1 101 Switching\n\n",
    ] {
        assert!(parse(head).is_err(), "{head:?}");
    }
    let many = format!("HTTP/1.1 200 OK\n{}\n", "x: y\n".repeat(200));
    assert!(parse(&many).is_err());
}

#[test]
fn connections_are_kept_when_both_sides_agree() {
    let keep = |head: &str| parse(head).unwrap().keep_alive;
    assert!(keep("HTTP/1.1 200 OK\ncontent-length: 0\n\n"));
    assert!(!keep("HTTP/1.1 200 OK\ncontent-length: 0\nconnection: foo, Close\n\n"));
    assert!(!keep("HTTP/1.0 200 OK\ncontent-length: 0\n\n"));
    assert!(keep("HTTP/1.0 200 OK\ncontent-length: 0\nconnection: keep-alive\n\n"));
    assert!(!keep("HTTP/1.1 200 OK\n\n"), "a body that ends with the connection");
}
