//! Thrift's binary protocol, as Kitex speaks it.
//!
//! Structs are written by hand, a line a field:
//!
//! ```
//! use flumen_rpc::thrift::{self, Malformed, Reader, Struct, Writer};
//!
//! #[derive(Debug, PartialEq)]
//! struct Token {
//!     text: String,
//!     index: Option<i32>,
//! }
//!
//! impl Struct for Token {
//!     fn write(&self, to: &mut Writer) {
//!         to.field(1, &self.text);
//!         to.optional(2, self.index.as_ref());
//!     }
//!
//!     fn read(from: &mut Reader) -> Result<Self, Malformed> {
//!         let (mut text, mut index) = (None, None);
//!         from.fields(|from, field| match field.id {
//!             1 => from.set(field, &mut text),
//!             2 => from.set(field, &mut index),
//!             _ => from.skip(field.of),
//!         })?;
//!         Ok(Self { text: thrift::required(text, "Token", "text")?, index })
//!     }
//! }
//!
//! let token = Token { text: "Hi".to_owned(), index: None };
//! assert_eq!(thrift::decode::<Token>(thrift::encode(&token)).unwrap(), token);
//! ```
//!
//! It is our own, and not that of a generator, because a gateway reads what strangers send: an announced length allocates nothing,
//! nesting has an end, and what is of type [`Bytes`] shares the memory of its message.

use bytes::Bytes;

mod collections;
mod malformed;
pub mod message;
mod reader;
mod types;
mod value;
mod writer;

pub use malformed::Malformed;
pub use reader::Reader;
pub use types::{Field, Type};
pub use value::{Struct, Value};
pub use writer::Writer;

/// A struct on its own: what a message of a stream consists of.
pub fn encode<T: Struct>(value: &T) -> Bytes {
    let mut writer = Writer::new();
    writer.value(value);
    writer.finish()
}

/// Reads a struct that is all there is.
///
/// # Errors
/// See [`Malformed`]; bytes behind the struct are an error too.
pub fn decode<T: Struct>(bytes: Bytes) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// The value of a field that must be there, by the names of the struct and the field.
///
/// # Errors
/// [`Malformed::Missing`].
pub fn required<T>(value: Option<T>, of: &'static str, field: &'static str) -> Result<T, Malformed> {
    value.ok_or(Malformed::Missing { of, field })
}

#[cfg(test)]
mod tests;
