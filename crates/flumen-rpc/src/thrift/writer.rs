use bytes::{BufMut, Bytes, BytesMut};

use super::{Field, Type, Value};

/// Writes values one after another.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// Has written nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    /// A field of a struct.
    pub fn field<T: Value>(&mut self, id: i16, value: &T) {
        self.begin(Field { id, of: T::TYPE });
        self.value(value);
    }

    /// A field, if it is there.
    pub fn optional<T: Value>(&mut self, id: i16, value: Option<&T>) {
        if let Some(value) = value {
            self.field(id, value);
        }
    }

    /// A field of type `string`.
    pub fn string(&mut self, id: i16, value: &str) {
        self.begin(Field { id, of: Type::String });
        self.binary(value.as_bytes());
    }

    /// A value alone.
    pub fn value<T: Value>(&mut self, value: &T) {
        value.put(self);
    }

    /// What stands before a field's value.
    pub fn begin(&mut self, field: Field) {
        self.bytes.put_u8(field.of as u8);
        self.bytes.put_i16(field.id);
    }

    /// The end of a struct's fields. [`Struct`](super::Struct)s get it by themselves.
    pub fn stop(&mut self) {
        self.bytes.put_u8(0);
    }

    /// What stands before the elements of a list or set.
    pub fn list(&mut self, of: Type, count: usize) {
        self.bytes.put_u8(of as u8);
        self.length(count);
    }

    /// What stands before the entries of a map.
    pub fn map(&mut self, key: Type, value: Type, count: usize) {
        self.bytes.put_u8(key as u8);
        self.list(value, count);
    }

    /// A `string` or `binary`.
    pub fn binary(&mut self, value: &[u8]) {
        self.length(value.len());
        self.bytes.put_slice(value);
    }

    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// No frame that a message could travel in is as long as what this cannot express.
    fn length(&mut self, length: usize) {
        self.bytes.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    }
}
