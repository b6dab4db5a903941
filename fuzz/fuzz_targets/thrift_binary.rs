//! Whatever the bytes: nothing panics, what is read is read back the same, and what can be read can be skipped.
#![no_main]

use bytes::Bytes;
use flumen_rpc::thrift::{
    self, Malformed, Reader, Struct, Type, Writer,
    message::{ApplicationException, Args, Message, Reply},
};
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
struct Everything {
    flag: Option<bool>,
    text: Option<String>,
    names: Option<BTreeMap<String, i64>>,
    parts: Option<Vec<Everything>>,
    ids: Option<BTreeSet<i32>>,
    half: Option<f64>,
    raw: Option<Bytes>,
    lists: Option<Vec<Vec<i16>>>,
}

impl Struct for Everything {
    fn write(&self, to: &mut Writer) {
        to.optional(1, self.flag.as_ref());
        to.optional(2, self.text.as_ref());
        to.optional(3, self.names.as_ref());
        to.optional(4, self.parts.as_ref());
        to.optional(5, self.ids.as_ref());
        to.optional(6, self.half.as_ref());
        to.optional(7, self.raw.as_ref());
        to.optional(8, self.lists.as_ref());
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let mut own = Self::default();
        from.fields(|from, field| match field.id {
            1 => from.set(field, &mut own.flag),
            2 => from.set(field, &mut own.text),
            3 => from.set(field, &mut own.names),
            4 => from.set(field, &mut own.parts),
            5 => from.set(field, &mut own.ids),
            6 => from.set(field, &mut own.half),
            7 => from.set(field, &mut own.raw),
            8 => from.set(field, &mut own.lists),
            _ => from.skip(field.of),
        })?;
        Ok(own)
    }
}

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(value) = thrift::decode::<Everything>(bytes.clone()) {
        let written = thrift::encode(&value);
        let again = thrift::decode::<Everything>(written.clone()).expect("what was written can be read");
        assert_eq!(thrift::encode(&again), written);
        let mut reader = Reader::new(bytes.clone());
        reader.skip(Type::Struct).expect("what can be read can be skipped");
        assert_eq!(reader.remaining(), 0);
    }
    for of in [Type::Struct, Type::Map, Type::Set, Type::List, Type::String, Type::I64] {
        let _ = Reader::new(bytes.clone()).skip(of);
    }
    let _ = thrift::decode::<Args<Everything>>(bytes.clone());
    let _ = thrift::decode::<Reply<ApplicationException>>(bytes.clone());
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(Message::decode(message.encode()).as_ref(), Ok(&message));
    }
});
