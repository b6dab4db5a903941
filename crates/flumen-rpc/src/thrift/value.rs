use bytes::{Buf, BufMut, Bytes};

use super::{Malformed, Reader, Type, Writer};

/// A struct of a contract; see the [module](super) for how one is written.
pub trait Struct: Sized {
    /// Writes the fields. The end of the struct need not be written.
    fn write(&self, to: &mut Writer);

    /// Reads the fields, with [`Reader::fields`].
    ///
    /// # Errors
    /// See [`Malformed`].
    fn read(from: &mut Reader) -> Result<Self, Malformed>;
}

/// What can be the value of a field or an element of a collection.
pub trait Value: Sized {
    /// Its type on the wire.
    const TYPE: Type;

    /// Writes it.
    fn put(&self, to: &mut Writer);

    /// Reads it.
    ///
    /// # Errors
    /// See [`Malformed`].
    fn take(from: &mut Reader) -> Result<Self, Malformed>;
}

impl<T: Struct> Value for T {
    const TYPE: Type = Type::Struct;

    fn put(&self, to: &mut Writer) {
        self.write(to);
        to.stop();
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        T::read(from)
    }
}

macro_rules! number {
    ($of:ty, $type:ident, $put:ident, $take:ident) => {
        impl Value for $of {
            const TYPE: Type = Type::$type;

            fn put(&self, to: &mut Writer) {
                to.bytes().$put(*self);
            }

            fn take(from: &mut Reader) -> Result<Self, Malformed> {
                Ok(from.bytes().$take()?)
            }
        }
    };
}

number!(i8, Byte, put_i8, try_get_i8);
number!(i16, I16, put_i16, try_get_i16);
number!(i32, I32, put_i32, try_get_i32);
number!(i64, I64, put_i64, try_get_i64);
// Unsigned numbers travel in the signed type of their size.
number!(u32, I32, put_u32, try_get_u32);
number!(u64, I64, put_u64, try_get_u64);
number!(f64, Double, put_f64, try_get_f64);

impl Value for bool {
    const TYPE: Type = Type::Bool;

    fn put(&self, to: &mut Writer) {
        to.bytes().put_u8((*self).into());
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(from.bytes().try_get_u8()? != 0)
    }
}

impl Value for Bytes {
    const TYPE: Type = Type::String;

    fn put(&self, to: &mut Writer) {
        to.binary(self);
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        from.binary()
    }
}

impl Value for String {
    const TYPE: Type = Type::String;

    fn put(&self, to: &mut Writer) {
        to.binary(self.as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        String::from_utf8(from.binary()?.into()).map_err(|_| Malformed::NotUtf8)
    }
}
