use proptest::prelude::*;

use super::*;

/// What a client would dispatch: (type, payload, id, retry in ms).
type Seen = (Option<String>, String, Option<String>, Option<u64>);

fn seen(event: &Event) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        event.name().map(text),
        text(&event.payload()),
        event.id().map(text),
        event.retry().map(|wait| u64::try_from(wait.as_millis()).unwrap()),
    )
}

fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut decoder = Decoder::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        while let Some(event) = decoder.next() {
            events.push(event.unwrap());
        }
    }
    events.extend(decoder.finish());
    events
}

fn data_of(input: &str) -> Vec<String> {
    decode_pieces([input.as_bytes()]).iter().filter(|e| e.has_data()).map(|e| seen(e).1).collect()
}

/// The specification's own cases and their neighbours: (input, payloads dispatched).
const VECTORS: &[(&str, &[&str])] = &[
    ("data: a\n\n", &["a"]),
    ("data:a\n\n", &["a"]),
    ("data:  a\n\n", &[" a"]),
    ("data: a\r\rdata: b\r\r", &["a", "b"]),
    ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
    ("data: a\r\n\rdata: b\n\r\n", &["a", "b"]),
    ("data: a\n\rdata: b\r\n\n", &["a", "b"]),
    ("\u{feff}data: a\n\n", &["a"]),
    ("\u{feff}\u{feff}data: a\n\ndata: b\n\n", &["b"]),
    ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
    (
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        &["first event", "second event"],
    ),
    ("data\n\ndata\ndata\n\ndata:", &["", "\n"]),
    ("data:test\n\ndata: test\n\n", &["test", "test"]),
    ("\n\n\r\n\rdata: after blanks\n\n", &["after blanks"]),
    ("data:\ndata:\ndata: x\n\n", &["\n\nx"]),
    ("retry: 10\n\nid: 3\n\n: c\n\n", &[]),
    ("DATA: no\nData: no\n data: no\n\n", &[]),
    ("data: a\u{2028}b\u{0085}c\u{000b}d\u{000c}e\n\n", &["a\u{2028}b\u{0085}c\u{000b}d\u{000c}e"]),
    ("data: \u{feff}x\n\n", &["\u{feff}x"]),
    ("data: 数据流 🌊\n\n", &["数据流 🌊"]),
    ("data: unfinished", &[]),
    ("data: unfinished\n", &[]),
    ("data: crlf at the end\r\n\r", &["crlf at the end"]),
    ("data: cr\r\n\r\r\n\r\ndata: b\r\r", &["cr", "b"]),
    ("", &[]),
    ("\u{feff}", &[]),
    ("\n", &[]),
];

#[test]
fn whatwg_vectors() {
    for (input, expected) in VECTORS {
        assert_eq!(data_of(input), *expected, "{input:?}");
    }
}

#[test]
fn vectors_split_at_every_byte_and_into_single_bytes() {
    for (input, _) in VECTORS {
        let whole: Vec<_> = decode_pieces([input.as_bytes()]).iter().map(seen).collect();
        for at in 0..=input.len() {
            let (head, tail) = input.as_bytes().split_at(at);
            let split: Vec<_> = decode_pieces([head, tail]).iter().map(seen).collect();
            assert_eq!(split, whole, "{input:?} split at {at}");
        }
        let single: Vec<_> = decode_pieces(input.as_bytes().chunks(1)).iter().map(seen).collect();
        assert_eq!(single, whole, "{input:?} byte by byte");
    }
}

#[test]
fn an_event_ended_by_lone_cr_is_not_held_back() {
    let mut decoder = Decoder::new(1024);
    decoder.push("data: a\r\r".into());
    assert_eq!(decoder.next().unwrap().unwrap().wire(), "data: a\r\r");
    decoder.push("\ndata: b\r\r".into());
    assert_eq!(decoder.next().unwrap().unwrap().wire(), "data: b\r\r");
}

#[test]
fn a_whole_event_is_a_slice_of_its_piece() {
    let piece = Bytes::from("data: a\n\ndata: b\n\n".to_owned());
    let range = piece.as_ptr_range();
    let mut decoder = Decoder::new(1024);
    decoder.push(piece);
    while let Some(event) = decoder.next() {
        assert!(range.contains(&event.unwrap().wire().as_ptr()));
    }
}

#[test]
fn an_event_of_the_limit_passes_and_one_byte_more_fails() {
    let exact = "data: 123456\n\n";
    let mut decoder = Decoder::new(exact.len());
    decoder.push(exact.into());
    assert!(decoder.next().unwrap().is_ok());
    for split in 0..exact.len() {
        let mut decoder = Decoder::new(exact.len() - 1);
        decoder.push(Bytes::from_static(&exact.as_bytes()[..split]));
        let early = decoder.next();
        assert!(early.is_none(), "{early:?}");
        decoder.push(Bytes::from_static(&exact.as_bytes()[split..]));
        assert_eq!(decoder.next(), Some(Err(EventTooLong { limit: 13 })));
        assert_eq!((decoder.next(), decoder.pending()), (None, 0));
    }
}

#[test]
fn endless_line_does_not_grow_memory() {
    let mut decoder = Decoder::new(4096);
    let mut failed = false;
    for _ in 0..1000 {
        decoder.push(Bytes::from_static(&[b'x'; 1024]));
        failed |= matches!(decoder.next(), Some(Err(_)));
        assert!(decoder.pending() <= 4096 + 1024);
        decoder.input = Bytes::new();
    }
    assert!(failed);
}

fn event() -> impl Strategy<Value = Event> {
    let text = "[a-z:\\n \u{e9}\u{4e2d}\u{1f30a}\"]{0,24}";
    let line = "[a-z: \u{e9}\u{4e2d}]{0,8}";
    (proptest::option::of(text), proptest::option::of(line), proptest::option::of(line), any::<Option<u32>>())
        .prop_map(|(data, name, id, retry)| {
            let mut builder = Event::builder();
            if let Some(data) = data {
                builder = builder.data(data);
            }
            if let Some(name) = name {
                builder = builder.name(name);
            }
            if let Some(id) = id {
                builder = builder.id(id);
            }
            if let Some(retry) = retry {
                builder = builder.retry(std::time::Duration::from_millis(retry.into()));
            }
            builder.build().unwrap()
        })
}

/// Input that is mostly structure, so that the interesting bytes meet each other.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![
            4 => Just(b"\n".to_vec()),
            4 => Just(b"\r".to_vec()),
            2 => Just(b"data: x".to_vec()),
            1 => Just(b"data".to_vec()),
            1 => Just(b":".to_vec()),
            1 => Just(b"id: 1".to_vec()),
            1 => Just(BOM.to_vec()),
            1 => any::<u8>().prop_map(|b| vec![b]),
        ],
        0..40,
    )
    .prop_map(|parts| parts.concat())
}

fn cut(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| input[pair[0]..pair[1]].to_vec()).collect()
}

/// The specification's algorithm, line by line on whole input: slow, plain, and written without the decoder's code.
fn reference(input: &[u8]) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let input = input.strip_prefix(BOM.as_slice()).unwrap_or(input);
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < input.len() {
        match input[at] {
            b'\r' | b'\n' => {
                at += usize::from(input[at..].starts_with(b"\r\n"));
                lines.push(std::mem::take(&mut line));
            }
            byte => line.push(byte),
        }
        at += 1;
    }
    let (mut out, mut name, mut data, mut any) = (Vec::new(), None, Vec::new(), false);
    for line in lines {
        if line.is_empty() {
            if any {
                data.pop();
                out.push((name.take(), std::mem::take(&mut data)));
            }
            (name, any) = (None, false);
            continue;
        }
        let mut parts = line.splitn(2, |&b| b == b':');
        let field = parts.next().unwrap();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if field == b"data" {
            data.extend_from_slice(value);
            data.push(b'\n');
            any = true;
        } else if field == b"event" {
            name = Some(value.to_vec()).filter(|name| !name.is_empty());
        }
    }
    out
}

proptest! {
    #[test]
    fn decode_of_encode_is_identity(events in proptest::collection::vec(event(), 0..6),
                                    cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        // An event with no field at all has no wire form of its own.
        let events: Vec<_> = events.into_iter().filter(|e| e.wire().len() > 1).collect();
        let wire: Vec<u8> = events.iter().flat_map(|e| e.wire().to_vec()).collect();
        let pieces = cut(&wire, &cuts);
        prop_assert_eq!(decode_pieces(pieces.iter().map(Vec::as_slice)), events);
    }

    #[test]
    fn any_split_of_any_input_agrees_with_the_specification(input in hostile(),
                                    cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let pieces = cut(&input, &cuts);
        let decoded: Vec<_> = decode_pieces(pieces.iter().map(Vec::as_slice)).into_iter().filter(Event::has_data)
            .map(|e| (e.name().map(<[u8]>::to_vec), e.payload().into_owned())).collect();
        prop_assert_eq!(decoded, reference(&input));
    }

    #[test]
    fn wire_bytes_are_verbatim(events in proptest::collection::vec("(data: [a-z]{0,5}(\n|\r\n)){1,3}", 1..5), crlf: bool,
                               cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let blank = if crlf { "\r\n" } else { "\n" };
        let wire: String = events.iter().map(|lines| lines.replace("\r\n", "\n").replace('\n', blank) + blank).collect();
        let pieces = cut(wire.as_bytes(), &cuts);
        let joined: Vec<u8> = decode_pieces(pieces.iter().map(Vec::as_slice)).iter().flat_map(|e| e.wire().to_vec()).collect();
        prop_assert_eq!(joined, wire.as_bytes());
    }
}
