use super::Type;

/// Bytes that are not what they were read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// They end too early.
    #[error("the message ends in the middle of a value")]
    Truncated,
    /// A length or a count that is negative, or larger than what remains.
    #[error("a length of {length}, where {remaining} bytes remain")]
    Length {
        /// What was announced: bytes, or elements.
        length: i32,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A byte that stands for no type.
    #[error("there is no type {0}")]
    UnknownType(u8),
    /// A field has another type than the contract gives it.
    #[error("field {field} is of type {found}, not {expected}")]
    FieldType {
        /// The field's number.
        field: i16,
        /// What the contract says.
        expected: Type,
        /// What came.
        found: Type,
    },
    /// Elements of a list, set or map have another type than the contract gives them.
    #[error("elements are of type {found}, not {expected}")]
    ElementType {
        /// What the contract says.
        expected: Type,
        /// What came.
        found: Type,
    },
    /// A field that must be there is not.
    #[error("{of} has no {field}")]
    Missing {
        /// The struct.
        of: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Structs and collections within one another, more than 64 deep.
    #[error("nested too deep")]
    TooDeep,
    /// A `string` that is none.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// Something follows what should have been all.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// An envelope of another version or kind; the first four bytes.
    #[error("not a message of Thrift's strict binary protocol: it begins with {0:#010x}")]
    Envelope(u32),
}
