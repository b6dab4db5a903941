use bytes::{Buf, Bytes, TryGetError};

use super::{Field, Malformed, Type, Value};

/// Structs and collections may stand this deep within one another.
const DEPTH: u8 = 64;

/// Reads values one after another. What it hands out as [`Bytes`] shares the memory of what it reads.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    depth: u8,
}

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

impl Reader {
    /// At the beginning of these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, depth: 0 }
    }

    /// Bytes that are still to be read.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Malformed::Trailing`] when something is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.bytes.len())) }
    }

    /// What is left.
    pub fn into_rest(self) -> Bytes {
        self.bytes
    }

    /// A value of a type that the contract gives.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn value<T: Value>(&mut self) -> Result<T, Malformed> {
        T::take(self)
    }

    /// The value of a field into its place.
    ///
    /// # Errors
    /// [`Malformed::FieldType`], and what reading the value comes to.
    pub fn set<T: Value>(&mut self, field: Field, place: &mut Option<T>) -> Result<(), Malformed> {
        if field.of != T::TYPE {
            return Err(Malformed::FieldType { field: field.id, expected: T::TYPE, found: field.of });
        }
        *place = Some(self.value()?);
        Ok(())
    }

    /// Hands the fields of a struct to `f`, which reads or [skips](Self::skip) the value of each, up to the struct's end.
    ///
    /// # Errors
    /// See [`Malformed`]; those of `f` too.
    pub fn fields(
        &mut self,
        mut f: impl FnMut(&mut Self, Field) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.nested(|reader| {
            while let Some(field) = reader.field()? {
                f(reader, field)?;
            }
            Ok(())
        })
    }

    /// What stands before the next field's value; `None` is the end of the struct.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn field(&mut self) -> Result<Option<Field>, Malformed> {
        match self.bytes.try_get_u8()? {
            0 => Ok(None),
            of => Ok(Some(Field { of: Type::of(of)?, id: self.bytes.try_get_i16()? })),
        }
    }

    /// What stands before the elements of a list or set: their type, and how many there are.
    ///
    /// # Errors
    /// [`Malformed::Length`] when what remains cannot hold so many.
    pub fn list(&mut self) -> Result<(Option<Type>, usize), Malformed> {
        let of = self.bytes.try_get_u8()?;
        let (count, announced) = self.count()?;
        let of = of_elements(of, count)?;
        self.check_room(announced, count, of.map_or(0, Type::least))?;
        Ok((of, count))
    }

    /// What stands before the entries of a map: the types of keys and values, and how many there are.
    ///
    /// # Errors
    /// [`Malformed::Length`] when what remains cannot hold so many.
    pub fn map(&mut self) -> Result<(Option<(Type, Type)>, usize), Malformed> {
        let (key, value) = (self.bytes.try_get_u8()?, self.bytes.try_get_u8()?);
        let (count, announced) = self.count()?;
        let of = of_elements(key, count)?.zip(of_elements(value, count)?);
        self.check_room(announced, count, of.map_or(0, |(key, value)| key.least() + value.least()))?;
        Ok((of, count))
    }

    /// A `binary`, without a copy.
    ///
    /// # Errors
    /// [`Malformed::Length`] when it is longer than what remains.
    pub fn binary(&mut self) -> Result<Bytes, Malformed> {
        let (length, announced) = self.count()?;
        self.check_room(announced, length, 1)?;
        Ok(self.bytes.split_to(length))
    }

    /// Leaves a value out.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn skip(&mut self, of: Type) -> Result<(), Malformed> {
        match of {
            Type::String => self.binary().map(drop),
            Type::Struct => self.fields(|reader, field| reader.skip(field.of)),
            Type::Map => {
                let (of, count) = self.map()?;
                let Some((key, value)) = of else { return Ok(()) };
                self.skip_many(&[key, value], count)
            }
            Type::Set | Type::List => {
                let (of, count) = self.list()?;
                of.map_or(Ok(()), |of| self.skip_many(&[of], count))
            }
            Type::Bool | Type::Byte | Type::Double | Type::I16 | Type::I32 | Type::I64 => {
                self.pass(of.least())
            }
        }
    }

    fn skip_many(&mut self, of: &[Type], count: usize) -> Result<(), Malformed> {
        if let Some(size) = of.iter().map(|of| of.fixed()).sum::<Option<usize>>() {
            return self.pass(size * count);
        }
        self.nested(|reader| {
            for _ in 0..count {
                of.iter().try_for_each(|of| reader.skip(*of))?;
            }
            Ok(())
        })
    }

    fn pass(&mut self, length: usize) -> Result<(), Malformed> {
        if length > self.bytes.len() {
            return Err(Malformed::Truncated);
        }
        self.bytes.advance(length);
        Ok(())
    }

    /// Runs `f` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        if self.depth == DEPTH {
            return Err(Malformed::TooDeep);
        }
        self.depth += 1;
        let outcome = f(self);
        self.depth -= 1;
        outcome
    }

    pub(super) fn bytes(&mut self) -> &mut Bytes {
        &mut self.bytes
    }

    /// A length or count, as a size and as announced.
    fn count(&mut self) -> Result<(usize, i32), Malformed> {
        let announced = self.bytes.try_get_i32()?;
        let length = |_| Malformed::Length { length: announced, remaining: self.bytes.len() };
        Ok((usize::try_from(announced).map_err(length)?, announced))
    }

    fn check_room(&self, announced: i32, count: usize, least: usize) -> Result<(), Malformed> {
        let remaining = self.bytes.len();
        match count.checked_mul(least) {
            Some(needed) if needed <= remaining => Ok(()),
            _ => Err(Malformed::Length { length: announced, remaining }),
        }
    }
}

/// Some implementations write no type where there are no elements.
fn of_elements(byte: u8, count: usize) -> Result<Option<Type>, Malformed> {
    if count == 0 { Ok(None) } else { Type::of(byte).map(Some) }
}
