use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    message::{ApplicationException, Args, Kind, Message, Reply},
    *,
};

/// Any value of the protocol. Doubles by their bits, since not all are equal to themselves.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Bool(bool),
    Byte(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    Double(u64),
    String(Bytes),
    Struct(BTreeMap<i16, Tree>),
    Map((Type, Type), Vec<(Tree, Tree)>),
    Set(Type, Vec<Tree>),
    List(Type, Vec<Tree>),
}

impl Tree {
    fn of(&self) -> Type {
        match self {
            Self::Bool(_) => Type::Bool,
            Self::Byte(_) => Type::Byte,
            Self::I16(_) => Type::I16,
            Self::I32(_) => Type::I32,
            Self::I64(_) => Type::I64,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Struct(_) => Type::Struct,
            Self::Map(..) => Type::Map,
            Self::Set(..) => Type::Set,
            Self::List(..) => Type::List,
        }
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Self::Bool(value) => to.value(value),
            Self::Byte(value) => to.value(value),
            Self::I16(value) => to.value(value),
            Self::I32(value) => to.value(value),
            Self::I64(value) => to.value(value),
            Self::Double(bits) => to.value(&f64::from_bits(*bits)),
            Self::String(value) => to.value(value),
            Self::Struct(fields) => {
                for (&id, value) in fields {
                    to.begin(Field { id, of: value.of() });
                    value.write(to);
                }
                to.stop();
            }
            Self::Map((key, value), entries) => {
                to.map(*key, *value, entries.len());
                for (key, value) in entries {
                    key.write(to);
                    value.write(to);
                }
            }
            Self::Set(of, elements) | Self::List(of, elements) => {
                to.list(*of, elements.len());
                for element in elements {
                    element.write(to);
                }
            }
        }
    }

    fn read(from: &mut Reader, of: Type) -> Result<Self, Malformed> {
        Ok(match of {
            Type::Bool => Self::Bool(from.value()?),
            Type::Byte => Self::Byte(from.value()?),
            Type::I16 => Self::I16(from.value()?),
            Type::I32 => Self::I32(from.value()?),
            Type::I64 => Self::I64(from.value()?),
            Type::Double => Self::Double(from.value::<f64>()?.to_bits()),
            Type::String => Self::String(from.value()?),
            Type::Struct => {
                let mut fields = BTreeMap::new();
                from.fields(|from, field| {
                    fields.insert(field.id, Self::read(from, field.of)?);
                    Ok(())
                })?;
                Self::Struct(fields)
            }
            Type::Map => {
                let (of, count) = from.map()?;
                let of = of.unwrap_or((Type::Bool, Type::Bool));
                let entry = |_| Ok::<_, Malformed>((Self::read(from, of.0)?, Self::read(from, of.1)?));
                Self::Map(of, (0..count).map(entry).collect::<Result<_, _>>()?)
            }
            Type::Set | Type::List => {
                let (element, count) = from.list()?;
                let element = element.unwrap_or(Type::Bool);
                let elements = (0..count).map(|_| Self::read(from, element)).collect::<Result<_, _>>()?;
                if of == Type::Set { Self::Set(element, elements) } else { Self::List(element, elements) }
            }
        })
    }
}

fn encoded(tree: &Tree) -> Bytes {
    let mut writer = Writer::new();
    tree.write(&mut writer);
    writer.finish()
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Tree::Bool),
        any::<i8>().prop_map(Tree::Byte),
        any::<i16>().prop_map(Tree::I16),
        any::<i32>().prop_map(Tree::I32),
        any::<i64>().prop_map(Tree::I64),
        any::<u64>().prop_map(Tree::Double),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Tree::String(bytes.into())),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::btree_map(any::<i16>(), inner.clone(), 0..6).prop_map(Tree::Struct),
            (inner.clone(), 0usize..5).prop_map(|(one, n)| match n {
                0 => Tree::List(Type::Bool, Vec::new()),
                n => Tree::List(one.of(), vec![one; n]),
            }),
            (inner.clone(), 1usize..3).prop_map(|(one, n)| Tree::Set(one.of(), vec![one; n])),
            (inner.clone(), inner, 1usize..4)
                .prop_map(|(key, value, n)| Tree::Map((key.of(), value.of()), vec![(key, value); n])),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_back_and_skipped(tree in trees()) {
        let bytes = encoded(&tree);
        let mut reader = Reader::new(bytes.clone());
        prop_assert_eq!(&Tree::read(&mut reader, tree.of()).unwrap(), &tree);
        prop_assert_eq!(reader.finish(), Ok(()));
        let mut reader = Reader::new(bytes);
        reader.skip(tree.of()).unwrap();
        prop_assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error(tree in trees()) {
        let bytes = encoded(&tree);
        for end in 0..bytes.len() {
            let mut reader = Reader::new(bytes.slice(..end));
            prop_assert!(Tree::read(&mut reader, tree.of()).is_err());
            let mut reader = Reader::new(bytes.slice(..end));
            prop_assert!(reader.skip(tree.of()).is_err());
        }
    }

    #[test]
    fn whatever_comes_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        for of in [Type::Struct, Type::Map, Type::Set, Type::List, Type::String] {
            let _ = Reader::new(bytes.clone()).skip(of);
        }
        let _ = Message::decode(bytes.clone());
        let _ = decode::<Everything>(bytes.clone());
        let _ = decode::<Args<Everything>>(bytes);
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Everything {
    flag: bool,
    text: String,
    names: BTreeMap<String, i64>,
    parts: Vec<Everything>,
    ids: BTreeSet<i32>,
    half: Option<f64>,
    raw: Bytes,
    small: (i8, i16),
}

impl Struct for Everything {
    fn write(&self, to: &mut Writer) {
        to.field(1, &self.flag);
        to.string(2, &self.text);
        to.field(3, &self.names);
        to.field(4, &self.parts);
        to.field(5, &self.ids);
        to.optional(6, self.half.as_ref());
        to.field(7, &self.raw);
        to.field(8, &self.small.0);
        to.field(9, &self.small.1);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let (mut flag, mut text, mut names, mut parts) = (None, None, None, None);
        let (mut ids, mut half, mut raw, mut byte, mut short) = (None, None, None, None, None);
        from.fields(|from, field| match field.id {
            1 => from.set(field, &mut flag),
            2 => from.set(field, &mut text),
            3 => from.set(field, &mut names),
            4 => from.set(field, &mut parts),
            5 => from.set(field, &mut ids),
            6 => from.set(field, &mut half),
            7 => from.set(field, &mut raw),
            8 => from.set(field, &mut byte),
            9 => from.set(field, &mut short),
            _ => from.skip(field.of),
        })?;
        Ok(Self {
            flag: flag.unwrap_or_default(),
            text: required(text, "Everything", "text")?,
            names: names.unwrap_or_default(),
            parts: parts.unwrap_or_default(),
            ids: ids.unwrap_or_default(),
            half,
            raw: raw.unwrap_or_default(),
            small: (byte.unwrap_or_default(), short.unwrap_or_default()),
        })
    }
}

fn example() -> Everything {
    Everything {
        flag: true,
        text: "é".into(),
        names: BTreeMap::from([("a".into(), 1), ("b".into(), -1)]),
        parts: vec![Everything::default(); 2],
        ids: BTreeSet::from([3, 1]),
        half: Some(0.5),
        raw: Bytes::from_static(b"\xff\0"),
        small: (-1, 300),
    }
}

#[test]
fn a_struct_of_all_types_is_read_back() {
    assert_eq!(decode::<Everything>(encode(&example())).unwrap(), example());
    assert_eq!(decode::<Args<Everything>>(encode(&Args(example()))).unwrap().0, example());
    assert_eq!(decode::<Reply<Everything>>(encode(&Reply(example()))).unwrap().0, example());
}

#[test]
fn binary_shares_the_memory_of_its_message() {
    let bytes = encode(&example());
    let raw = decode::<Everything>(bytes.clone()).unwrap().raw;
    assert!(bytes.as_ptr_range().contains(&raw.as_ptr()));
}

#[test]
fn the_bytes_are_those_of_the_protocol() {
    let exception = ApplicationException { message: "user cancel".into(), kind: 12007 };
    let message = Message::exception("Chat", 1, &exception);
    let wire =
        b"\x80\x01\0\x03\0\0\0\x04Chat\0\0\0\x01\x0b\0\x01\0\0\0\x0buser cancel\x08\0\x02\0\0\x2e\xe7\0";
    assert_eq!(message.encode(), &wire[..]);
    assert_eq!(message.size(), wire.len());
    let read = Message::decode(Bytes::from_static(wire)).unwrap();
    assert_eq!(read, message);
    assert_eq!(decode::<ApplicationException>(read.body).unwrap(), exception);
}

#[test]
fn fields_that_the_contract_does_not_know_are_skipped() {
    let reply = decode::<ApplicationException>(encode(&example()).slice(4..));
    assert_eq!(
        reply.unwrap_err(),
        Malformed::FieldType { field: 2, expected: Type::I32, found: Type::String }
    );
    let mut writer = Writer::new();
    writer.field(9, &example());
    writer.field(1, &String::from("m"));
    writer.stop();
    assert_eq!(decode::<ApplicationException>(writer.finish()).unwrap().message, "m");
}

#[test]
fn what_is_wrong_is_named() {
    let of = |bytes: &'static [u8]| decode::<Everything>(Bytes::from_static(bytes)).unwrap_err();
    assert_eq!(of(b"\0"), Malformed::Missing { of: "Everything", field: "text" });
    assert_eq!(of(b""), Malformed::Truncated);
    assert_eq!(of(b"\x01"), Malformed::UnknownType(1));
    assert_eq!(of(b"\x0b\0\x02\0\0\0\x01\xff\0"), Malformed::NotUtf8);
    assert_eq!(of(b"\x0b\0\x02\0\0\0\0\0\0"), Malformed::Trailing(1));
    assert_eq!(of(b"\x0b\0\x02\xff\xff\xff\xff"), Malformed::Length { length: -1, remaining: 0 });
    assert_eq!(of(b"\x0b\0\x02\0\0\0\x09a"), Malformed::Length { length: 9, remaining: 1 });
    assert_eq!(
        of(b"\x0e\0\x05\x0a\0\0\0\x01\0\0\0\0\0\0\0\0"),
        Malformed::ElementType { expected: Type::I32, found: Type::I64 }
    );
    let old = Message::decode(Bytes::from_static(b"\0\0\0\x04Ping\x01\0\0\0\0"));
    assert_eq!(old.unwrap_err(), Malformed::Envelope(4));
    let kind = Message::decode(Bytes::from_static(b"\x80\x01\0\x05\0\0\0\0\0\0\0\0"));
    assert_eq!(kind.unwrap_err(), Malformed::Envelope(0x8001_0005));
}

#[test]
fn an_announced_count_that_cannot_be_there_allocates_nothing() {
    // Two billion structs of one byte each, where none follows.
    let bytes = Bytes::from_static(b"\x0f\0\x04\x0c\x7f\xff\xff\xff");
    assert_eq!(
        decode::<Everything>(bytes).unwrap_err(),
        Malformed::Length { length: i32::MAX, remaining: 0 }
    );
    let bytes = Bytes::from_static(b"\x0d\0\x03\x0b\x0a\x7f\xff\xff\xff\0\0");
    assert!(matches!(decode::<Everything>(bytes).unwrap_err(), Malformed::Length { .. }));
}

#[test]
fn an_empty_collection_may_leave_its_types_out() {
    let bytes = b"\x0b\0\x02\0\0\0\0\x0d\0\x03\0\0\0\0\0\0\x0f\0\x04\0\0\0\0\0\0";
    assert_eq!(decode::<Everything>(Bytes::from_static(bytes)).unwrap(), Everything::default());
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| {
        let mut bytes = b"\x0c\0\x09".repeat(depth);
        bytes.extend(vec![0; depth + 1]);
        Reader::new(bytes.into()).skip(Type::Struct)
    };
    assert_eq!(nested(63), Ok(()));
    assert_eq!(nested(64), Err(Malformed::TooDeep));
    let mut own = Everything::default();
    for _ in 0..40 {
        own = Everything { parts: vec![own], ..Everything::default() };
    }
    assert_eq!(decode::<Everything>(encode(&own)).unwrap_err(), Malformed::TooDeep);
}

#[test]
fn every_kind_of_message_is_read_back() {
    for kind in [Kind::Call, Kind::Reply, Kind::Exception, Kind::OneWay] {
        let message = Message { kind, method: "Ping".into(), sequence: -7, body: Bytes::from_static(b"\0") };
        assert_eq!(Message::decode(message.encode()).unwrap(), message);
    }
}
