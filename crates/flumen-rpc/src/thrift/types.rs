use std::fmt;

use super::Malformed;

/// The types that the protocol tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Type {
    /// `bool`, one byte.
    Bool = 2,
    /// `byte` or `i8`.
    Byte = 3,
    /// `double`.
    Double = 4,
    /// `i16`.
    I16 = 6,
    /// `i32`, and every enum.
    I32 = 8,
    /// `i64`.
    I64 = 10,
    /// `string` and `binary`: the wire does not tell them apart.
    String = 11,
    /// A struct, union or exception.
    Struct = 12,
    /// `map`.
    Map = 13,
    /// `set`.
    Set = 14,
    /// `list`.
    List = 15,
}

impl Type {
    /// What a byte stands for.
    ///
    /// # Errors
    /// [`Malformed::UnknownType`].
    pub const fn of(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            2 => Self::Bool,
            3 => Self::Byte,
            4 => Self::Double,
            6 => Self::I16,
            8 => Self::I32,
            10 => Self::I64,
            11 => Self::String,
            12 => Self::Struct,
            13 => Self::Map,
            14 => Self::Set,
            15 => Self::List,
            other => return Err(Malformed::UnknownType(other)),
        })
    }

    /// The fewest bytes that a value of this type takes.
    pub(super) const fn least(self) -> usize {
        match self {
            Self::Bool | Self::Byte | Self::Struct => 1,
            Self::I16 => 2,
            Self::I32 | Self::String => 4,
            Self::Set | Self::List => 5,
            Self::Map => 6,
            Self::I64 | Self::Double => 8,
        }
    }

    /// How many bytes a value of this type takes, if all take as many.
    pub(super) const fn fixed(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Byte | Self::I16 | Self::I32 | Self::I64 | Self::Double => Some(self.least()),
            Self::String | Self::Struct | Self::Map | Self::Set | Self::List => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Byte => "byte",
            Self::Double => "double",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::String => "string",
            Self::Struct => "struct",
            Self::Map => "map",
            Self::Set => "set",
            Self::List => "list",
        })
    }
}

/// What stands before a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its number in the contract.
    pub id: i16,
    /// Its type on the wire.
    pub of: Type,
}
