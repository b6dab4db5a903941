use std::{collections::BTreeMap, path::Path};

use bytes::BytesMut;
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

use super::*;
use crate::{
    Cancel, Metadata, Status,
    thrift::message::{Args, Kind as MessageKind, Message},
    ttheader::{
        Codec, Limits, code,
        codec::{Incoming, Received, is_preface},
        ending,
        strings::{self, Strings},
        unary,
    },
};

/// Made from the code of `gopkg/protocol/ttheader` by hand.
const HEADER: &str = "000000321000000200000001000a1000010001000369736e000a4c6c6d53657276696365100002001b00013200090004436861740000";
const DATA: &str = "00000028100000020000000100051000100002001b000133000900044368617400000b000100000002686900";
const TRAILER: &str = "0000001e100000020000000100051000100002001b00013400090004436861740000";
const RESET: &str = "000000541000000200000001000810000100010005747473637000026777100002001b0001350009000443686174800100030000000443686174000000010b00010000000b757365722063616e63656c08000200002ee700";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, Error> {
    Codec::new(&Limits::default()).decode(&mut BytesMut::from(bytes))
}

fn frame(hex: &str) -> Frame {
    decode(&bytes(hex)).unwrap().unwrap()
}

fn written(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    bytes
}

/// What a real Kitex 0.16.3 sent, a frame a line.
fn captured(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/kitex/vectors").join(name);
    std::fs::read_to_string(path).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn frames_are_those_of_the_protocol() {
    assert_eq!(written(&Frame::of_stream(1, Kind::Trailer, "Chat", [], Bytes::new())), bytes(TRAILER));
    let mut message = Vec::new();
    Template::new(1, "Chat").write(b"\x0b\0\x01\0\0\0\x02hi\0", &mut message);
    assert_eq!(message, bytes(DATA));
    let header = frame(HEADER);
    assert_eq!((header.kind(), header.id, &*header.method()), (Some(Kind::Header), 1, "Chat"));
    assert_eq!(strings::entry(&header.info, "isn").as_deref(), Some("LlmService"));
    assert_eq!(frame(DATA).payload, &b"\x0b\0\x01\0\0\0\x02hi\0"[..]);
    let cancel = ending::read_reset(&frame(RESET));
    assert_eq!(cancel, Cancel { wire: Some(12007), reason: "user cancel".into(), path: vec!["gw".into()] });
    // Except for the order of entries, which Go leaves to chance.
    let own = ending::reset(1, "Chat", &Cancel { path: vec![], ..cancel.clone() }, "gw");
    assert_eq!((ending::read_reset(&own), written(&own).len()), (cancel, bytes(RESET).len()));
}

#[test]
fn frames_of_kitex_are_read_and_written_back() {
    for name in ["bidi", "cancel", "cancelbidi", "cancelcause", "deadline", "download", "error", "upload"] {
        for side in ["client", "server"] {
            let frames = captured(&format!("{name}.{side}.hex"));
            let kinds: Vec<_> = frames.iter().map(|hex| frame(hex).kind()).collect();
            assert_eq!(kinds[0], Some(Kind::Header), "{name} {side}");
            assert!(kinds[1..].iter().all(|kind| kind.is_some_and(|kind| kind > Kind::Header)));
            assert!(frames.iter().all(|hex| written(&frame(hex)) == bytes(hex)), "{name} {side}");
        }
    }
}

#[test]
fn how_kitex_cancels_is_understood() {
    let reset = |name: &str| {
        let frames = captured(name);
        let of = frames.iter().map(|hex| frame(hex)).find(|frame| frame.kind() == Some(Kind::Reset));
        ending::read_reset(&of.unwrap())
    };
    let cancel = reset("cancel.client.hex");
    assert_eq!((cancel.wire, cancel.path), (Some(12007), vec!["kitex-client".to_owned()]));
    assert!(cancel.reason.starts_with("user code invoking stream RPC"), "{}", cancel.reason);
    let cause = reset("cancelcause.client.hex");
    assert_eq!((cause.wire, &*cause.reason), (Some(12011), "had enough"));
    assert_eq!(cause.path, ["non-ttstream path", "kitex-client"]);
    let deadline = ending::cancelled(reset("deadline.client.hex"));
    assert_eq!((deadline.wire, deadline.code), (Some(12015), crate::Code::DeadlineExceeded));
}

#[test]
fn how_kitex_fails_is_understood() {
    let last = |name: &str| ending::read_trailer(&frame(captured(name).last().unwrap()));
    let error = last("error.server.hex").unwrap_err();
    assert_eq!((error.wire, &*error.message), (Some(6), "biz error: no more"));
    let business = last("bizerror.server.hex").unwrap_err().business.unwrap();
    assert_eq!((business.code, &*business.message), (4001, "no more"));
    let good = last("download.server.hex").unwrap();
    assert_eq!(good.plain, BTreeMap::from([("sent".to_owned(), "3".to_owned())]));
}

#[test]
fn metadata_of_kitex_is_understood() {
    let metadata = strings::metadata(&frame(&captured("metadata.client.hex")[0]).info);
    assert_eq!(metadata.transient, BTreeMap::from([("tkey".to_owned(), "tval".to_owned())]));
    assert_eq!(metadata.persistent, BTreeMap::from([("pkey".to_owned(), "pval".to_owned())]));
    assert!(metadata.plain.is_empty(), "the service's name is none");
}

#[test]
fn unary_messages_of_kitex_are_read() {
    for (name, sequence, kind) in [
        ("ping-ttheader.client.hex", 11, MessageKind::Call),
        ("ping-ttheader.server.hex", 11, MessageKind::Reply),
    ] {
        let frame = frame(&captured(name)[0]);
        assert_eq!((frame.kind(), frame.id), (None, sequence));
        assert!(unary::is_framed(&frame.payload));
        let message = Message::decode(unary::unframed(frame.payload.clone())).unwrap();
        assert_eq!((message.kind, &*message.method, message.sequence), (kind, "Ping", sequence));
        assert_eq!(unary::framed(&message), frame.payload);
    }
    let framed = bytes(&captured("ping-framed.client.hex")[0]);
    let received = Incoming::new(Limits::default().allowed()).next(&mut &framed[..]).unwrap();
    let Some(Received::Framed(message)) = received else { panic!("{received:?}") };
    let message = Message::decode(message).unwrap();
    assert_eq!((&*message.method, unary::framed(&message)), ("Ping", framed.into()));
}

#[test]
fn metadata_is_written_as_kitex_does() {
    let metadata = Metadata {
        plain: BTreeMap::from([("X-Id".to_owned(), "1".to_owned()), ("isn".to_owned(), "no".to_owned())]),
        transient: BTreeMap::from([
            ("tenant-id".to_owned(), "t".to_owned()),
            ("gdpr-token".to_owned(), "g".to_owned()),
        ]),
        persistent: BTreeMap::from([("trace".to_owned(), "p".to_owned())]),
    };
    let info = Info::new(STRUCT, &[], Strings::of(&metadata).iter());
    let names: Vec<_> = info.named().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(names, ["X-Id", "RPC_TRANSIT_TENANT_ID", "RPC_PERSIST_TRACE", "RPC_TRANSIT_gdpr-token"]);
    let mut read = strings::metadata(&info);
    read.plain.insert("isn".to_owned(), "no".to_owned());
    assert_eq!(read, metadata);
}

#[test]
fn statuses_survive_the_trailer() {
    let status = Status::new(crate::Code::NotFound, "no such model");
    let read = ending::read_trailer(&ending::trailer(1, "m", &Err(status.clone()))).unwrap_err();
    assert_eq!(read, status.with_wire(6), "the number is Thrift's, the code is ours");
    let own = Status::new(crate::Code::Unknown, "own").with_wire(77);
    assert_eq!(ending::read_trailer(&ending::trailer(1, "m", &Err(own.clone()))).unwrap_err(), own);
    let business = Status::business(crate::Business {
        code: -3,
        message: "é".into(),
        extra: BTreeMap::from([("a".to_owned(), "b\"".to_owned())]),
    });
    assert_eq!(ending::read_trailer(&ending::trailer(1, "m", &Err(business.clone()))).unwrap_err(), business);
    let garbled = Frame::of_stream(1, Kind::Trailer, "m", [], Bytes::from_static(b"what?"));
    assert_eq!(ending::read_trailer(&garbled).unwrap_err().wire, Some(code::ILLEGAL_FRAME));
    let silent = Frame::of_stream(1, Kind::Reset, "m", [], Bytes::new());
    assert_eq!(ending::read_reset(&silent), Cancel { wire: Some(13), ..Cancel::because("rst") });
}

/// A frame with this header, from the payload protocol on.
fn with_header(flags: u16, id: i32, header: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    header.resize(header.len().next_multiple_of(4), 0);
    let mut bytes = u32::try_from(10 + header.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend([0x10, 0]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(u16::try_from(header.len() / 4).unwrap().to_be_bytes());
    bytes.extend(header);
    bytes
}

#[test]
fn what_is_wrong_with_a_frame_is_named() {
    let error = |flags, id, header: &[u8]| decode(&with_header(flags, id, header)).unwrap_err();
    let kind = b"\x10\0\x10\0\x01\0\x1b\0\x013";
    let data = [b"\x10\0", &kind[2..]].concat();
    assert_eq!(decode(&with_header(2, -5, &data)).unwrap().unwrap().id, -5);
    assert!(matches!(error(2, 0, &data), Error::StreamZero));
    assert!(matches!(error(2, 1, b"\x10\0"), Error::Kind));
    assert!(matches!(error(2, 1, b"\x10\0\x10\0\x01\0\x1b\0\x016"), Error::Kind));
    assert!(matches!(error(0, 1, b"\x02\0"), Error::Protocol(2)));
    assert!(matches!(error(0, 1, b"\x10\x01\x01"), Error::Transformed));
    assert!(matches!(error(0, 1, b"\x10\0\x02\0"), Error::Block(2)));
    assert!(matches!(error(0, 1, b"\x10\0\x01\xff\xff\0\0\0\0"), Error::Entry), "a bomb of empty entries");
    assert!(matches!(error(0, 1, b"\x10\0\x11\0\xff"), Error::Entry));
    assert!(matches!(error(0, 1, b""), Error::HeaderSize { header: 0, .. }));
    let beyond = [0, 0, 0, 12, 0x10, 0, 0, 2, 0, 0, 0, 1, 0, 1];
    assert!(matches!(decode(&beyond).unwrap_err(), Error::HeaderSize { header: 4, frame: 12 }));
    assert!(matches!(decode(b"GET / HTTP/1.1").unwrap_err(), Error::Magic(_)));
    let large = [0x3f, 0xff, 0xff, 0xff, 0x10, 0, 0, 2, 0, 0, 0, 1, 0, 1];
    assert!(matches!(decode(&large).unwrap_err(), Error::TooLong { part: "payload", .. }));
    let header = [0, 5, 0, 0, 0x10, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff];
    assert!(matches!(decode(&header).unwrap_err(), Error::TooLong { part: "header", .. }));
}

#[test]
fn memory_follows_what_comes_and_not_what_is_announced() {
    let mut buffer = BytesMut::from(&[0, 0x3f, 0, 0, 0x10, 0, 0, 2, 0, 0, 0, 1, 0, 1][..]);
    assert!(Codec::new(&Limits::default()).decode(&mut buffer).unwrap().is_none());
    assert!(buffer.capacity() < 1024);
}

#[test]
fn a_frame_that_the_end_cuts_off_is_an_error() {
    let mut codec = Codec::new(&Limits::default());
    let whole = bytes(DATA);
    for end in 1..whole.len() {
        let mut buffer = BytesMut::from(&whole[..end]);
        assert!(matches!(codec.decode_eof(&mut buffer), Err(Error::Truncated)), "{end}");
    }
    assert!(codec.decode_eof(&mut BytesMut::from(&whole[..])).unwrap().is_some());
    assert!(codec.decode_eof(&mut BytesMut::new()).unwrap().is_none());
}

#[test]
fn entries_that_no_header_can_carry_are_left_out() {
    let long = "x".repeat(70_000);
    let most = "y".repeat(65_000);
    let named = [("long", &*long), ("a", &*most), ("b", &*most), ("c", &*most), ("d", &*most), ("e", &*most)];
    let frame = Frame::of_stream(1, Kind::Header, "m", named, Bytes::new());
    let limits = Limits { header: usize::MAX, ..Limits::default() };
    let read = Codec::new(&limits).decode(&mut BytesMut::from(&written(&frame)[..])).unwrap().unwrap();
    let names: Vec<_> = read.info.named().map(|(name, _)| name).collect();
    assert_eq!(names, [b"a", b"b", b"c", b"d"]);
    assert_eq!(read.method(), "m", "what the protocol needs comes first");
}

#[test]
fn a_preface_is_told_from_http() {
    assert!(is_preface(&bytes(HEADER)[..8]));
    assert!(is_preface(&bytes(&captured("ping-framed.client.hex")[0])[..8]));
    for other in
        [&b"PRI * HT"[..], b"GET / HT", b"POST /v1", b"\x16\x03\x01\0\0\0\0\0", b"", b"\0\0\0\x10\x10"]
    {
        assert!(!is_preface(other), "{other:?}");
    }
}

#[test]
fn args_of_kitex_are_a_struct_with_one_field() {
    let message = Message::decode(bytes(&captured("ping-framed.client.hex")[0]).split_off(4).into()).unwrap();
    let args: Args<Ping> = crate::thrift::decode(message.body.clone()).unwrap();
    assert_eq!((args.0.seq, &*args.0.payload), (7, &b"ping"[..]));
    assert_eq!(crate::thrift::encode(&args), message.body);
}

#[derive(Debug)]
struct Ping {
    seq: i64,
    payload: Bytes,
}

impl crate::thrift::Struct for Ping {
    fn write(&self, to: &mut crate::thrift::Writer) {
        to.field(1, &self.seq);
        to.field(2, &self.payload);
    }

    fn read(from: &mut crate::thrift::Reader) -> Result<Self, crate::thrift::Malformed> {
        let (mut seq, mut payload) = (None, None);
        from.fields(|from, field| match field.id {
            1 => from.set(field, &mut seq),
            2 => from.set(field, &mut payload),
            _ => from.skip(field.of),
        })?;
        Ok(Self { seq: seq.unwrap_or_default(), payload: payload.unwrap_or_default() })
    }
}

fn frames() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![Just(Kind::Header), Just(Kind::Data), Just(Kind::Trailer), Just(Kind::Reset)];
    let named = proptest::collection::vec(("[a-z]{0,5}", "[a-zé]{0,9}"), 0..5);
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..50),
        proptest::collection::vec(any::<u8>(), 4_000..5_000)
    ];
    let id = any::<i32>().prop_filter("0 is none", |id| *id != 0);
    (kind, named, payload, id, "[A-Za-z]{0,12}").prop_map(|(kind, named, payload, id, method)| {
        let named = named.iter().map(|(name, value)| (&**name, &**value));
        Frame::of_stream(id, kind, &method, named, payload.into())
    })
}

proptest! {
    #[test]
    fn frames_are_read_back_wherever_they_are_cut(
        frames in proptest::collection::vec(frames(), 1..6),
        cuts in proptest::collection::vec(1usize..700, 1..40),
    ) {
        let (mut all, mut codec) = (BytesMut::new(), Codec::new(&Limits::default()));
        for frame in &frames {
            codec.encode(frame, &mut all).unwrap();
        }
        let (mut buffer, mut incoming) = (BytesMut::new(), Incoming::new(Limits::default().allowed()));
        let (mut decoded, mut taken, mut cuts) = (Vec::new(), Vec::new(), cuts.into_iter().cycle());
        while !all.is_empty() {
            let piece = all.split_to(cuts.next().unwrap().min(all.len()));
            buffer.extend_from_slice(&piece);
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                decoded.push(frame);
            }
            let mut fresh = &piece[..];
            while let Some(received) = incoming.next(&mut fresh).unwrap() {
                taken.push(match received {
                    Received::Data { id, payload } => (id, payload),
                    Received::Frame(frame) => (frame.id, frame.payload),
                    Received::Framed(_) => unreachable!(),
                });
            }
            incoming.keep(fresh);
        }
        prop_assert_eq!(&decoded, &frames);
        prop_assert_eq!(taken, frames.into_iter().map(|frame| (frame.id, frame.payload)).collect::<Vec<_>>());
        prop_assert!(incoming.is_empty());
    }

    #[test]
    fn whatever_comes_is_decoded_without_panic(
        tail in proptest::collection::vec(any::<u8>(), 0..100),
        words in 0u16..20,
        length in 0u32..120,
    ) {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend([0x10, 0, 0, 2, 0, 0, 0, 1]);
        bytes.extend(words.to_be_bytes());
        bytes.extend([0x10, 0]);
        bytes.extend(tail);
        let _ = decode(&bytes);
        let _ = Incoming::new(Limits::default().allowed()).next(&mut &bytes[..]);
    }
}
