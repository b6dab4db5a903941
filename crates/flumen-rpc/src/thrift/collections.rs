use std::collections::{BTreeMap, BTreeSet};

use super::{Malformed, Reader, Type, Value, Writer};

/// Room for so many elements is made at once; for more when they have come.
const AHEAD: usize = 64;

impl<T: Value> Value for Vec<T> {
    const TYPE: Type = Type::List;

    fn put(&self, to: &mut Writer) {
        to.list(T::TYPE, self.len());
        for element in self {
            to.value(element);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        let count = elements::<T>(from)?;
        let mut list = Self::with_capacity(count.min(AHEAD));
        from.nested(|from| {
            for _ in 0..count {
                list.push(from.value()?);
            }
            Ok(list)
        })
    }
}

impl<T: Value + Ord> Value for BTreeSet<T> {
    const TYPE: Type = Type::Set;

    fn put(&self, to: &mut Writer) {
        to.list(T::TYPE, self.len());
        for element in self {
            to.value(element);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        let count = elements::<T>(from)?;
        from.nested(|from| (0..count).map(|_| from.value()).collect())
    }
}

impl<K: Value + Ord, V: Value> Value for BTreeMap<K, V> {
    const TYPE: Type = Type::Map;

    fn put(&self, to: &mut Writer) {
        to.map(K::TYPE, V::TYPE, self.len());
        for (key, value) in self {
            to.value(key);
            to.value(value);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, Malformed> {
        let (of, count) = from.map()?;
        if let Some((key, value)) = of {
            check(K::TYPE, key)?;
            check(V::TYPE, value)?;
        }
        from.nested(|from| (0..count).map(|_| Ok((from.value()?, from.value()?))).collect())
    }
}

/// How many elements of the expected type follow.
fn elements<T: Value>(from: &mut Reader) -> Result<usize, Malformed> {
    let (of, count) = from.list()?;
    of.map_or(Ok(()), |of| check(T::TYPE, of))?;
    Ok(count)
}

fn check(expected: Type, found: Type) -> Result<(), Malformed> {
    if expected == found { Ok(()) } else { Err(Malformed::ElementType { expected, found }) }
}
