//! What a unary call sends around its struct, and exceptions.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Malformed, Reader, Struct, Value, Writer, required};

/// The first two bytes of a message in the strict protocol.
pub const VERSION: u16 = 0x8001;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A request.
    Call = 1,
    /// An answer.
    Reply = 2,
    /// The error of a call: an [`ApplicationException`].
    Exception = 3,
    /// A request that gets no answer.
    OneWay = 4,
}

/// A message: an envelope and the bytes of one struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The method.
    pub method: String,
    /// Pairs an answer with its request.
    pub sequence: i32,
    /// The struct: [`Args`], [`Reply`] or [`ApplicationException`].
    pub body: Bytes,
}

impl Message {
    /// An exception.
    pub fn exception(method: impl Into<String>, sequence: i32, exception: &ApplicationException) -> Self {
        Self { kind: Kind::Exception, method: method.into(), sequence, body: super::encode(exception) }
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        12 + self.method.len() + self.body.len()
    }

    /// The message on the wire.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size());
        self.write(&mut bytes);
        bytes.freeze()
    }

    /// Adds the message to these bytes.
    pub fn write(&self, bytes: &mut BytesMut) {
        let mut envelope = Writer::new();
        envelope.value(&self.method);
        envelope.value(&self.sequence);
        bytes.put_u16(VERSION);
        bytes.put_u16(self.kind as u16);
        bytes.put_slice(&envelope.finish());
        bytes.put_slice(&self.body);
    }

    /// Reads a message. Its body is not looked at.
    ///
    /// # Errors
    /// [`Malformed::Envelope`] when it is of another version or kind.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let head = reader.value::<i32>()?.cast_unsigned();
        let kind = match (head >> 16 == u32::from(VERSION), head & 0xff) {
            (true, 1) => Kind::Call,
            (true, 2) => Kind::Reply,
            (true, 3) => Kind::Exception,
            (true, 4) => Kind::OneWay,
            _ => return Err(Malformed::Envelope(head)),
        };
        Ok(Self { kind, method: reader.value()?, sequence: reader.value()?, body: reader.into_rest() })
    }
}

/// The arguments of a method that has one: a struct whose field 1 is the argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args<T>(pub T);

impl<T: Value> Struct for Args<T> {
    fn write(&self, to: &mut Writer) {
        to.field(1, &self.0);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        only(1, from).and_then(|value| required(value, "the arguments", "field 1")).map(Self)
    }
}

/// The result of a method: a struct whose field 0 is the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply<T>(pub T);

impl<T: Value> Struct for Reply<T> {
    fn write(&self, to: &mut Writer) {
        to.field(0, &self.0);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        only(0, from).and_then(|value| required(value, "the result", "field 0")).map(Self)
    }
}

fn only<T: Value>(id: i16, from: &mut Reader) -> Result<Option<T>, Malformed> {
    let mut value = None;
    from.fields(
        |from, field| if field.id == id { from.set(field, &mut value) } else { from.skip(field.of) },
    )?;
    Ok(value)
}

/// What a call fails with when it is not the service's own contract that names the error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationException {
    /// What happened.
    pub message: String,
    /// The number of its kind; 0 is unknown.
    pub kind: i32,
}

impl Struct for ApplicationException {
    fn write(&self, to: &mut Writer) {
        to.field(1, &self.message);
        to.field(2, &self.kind);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let (mut message, mut kind) = (None, None);
        from.fields(|from, field| match field.id {
            1 => from.set(field, &mut message),
            2 => from.set(field, &mut kind),
            _ => from.skip(field.of),
        })?;
        Ok(Self { message: message.unwrap_or_default(), kind: kind.unwrap_or_default() })
    }
}
