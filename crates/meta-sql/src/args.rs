//! Arguments of statements, before a driver gets them: a statement that is repeated binds them again.

use std::borrow::Cow;

use shoal_format::Ino;

use crate::failure::Failure;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Int(i64),
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Bytes(Cow::Borrowed(value))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(value: Vec<u8>) -> Self {
        Value::Bytes(Cow::Owned(value))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(Cow::Borrowed(value))
    }
}

impl Value<'_> {
    /// Bytes it holds, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Value::Int(_) => size_of::<i64>(),
            Value::Bytes(value) => value.len(),
            Value::Text(value) => value.len(),
        }
    }

    /// The same, borrowed from nobody.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Value::Int(value) => Value::Int(value),
            Value::Bytes(value) => Value::Bytes(Cow::Owned(value.into_owned())),
            Value::Text(value) => Value::Text(Cow::Owned(value.into_owned())),
        }
    }
}

/// The values of one statement, in the order of its parameters.
#[derive(Debug, Default)]
pub(crate) struct Args<'a> {
    values: Vec<Value<'a>>,
    /// The first that a column cannot hold.
    wrong: Option<String>,
}

impl<'a> Args<'a> {
    /// Room for `count` values.
    pub(crate) fn with_capacity(count: usize) -> Args<'a> {
        Args { values: Vec::with_capacity(count), wrong: None }
    }

    /// Adds a value.
    pub(crate) fn put(&mut self, value: impl Into<Value<'a>>) {
        self.values.push(value.into());
    }

    /// Adds an unsigned number as the schema's bigint; numbers of the format fit 63 bits, others are refused later.
    pub(crate) fn put_u64(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.put(value),
            Err(_) => self.wrong = Some(format!("{value} does not fit a bigint column")),
        }
    }

    /// Adds a name for a text column: bytes that are no UTF-8 only fit where the database stores text as it comes.
    pub(crate) fn put_name(&mut self, name: &'a [u8]) {
        match std::str::from_utf8(name) {
            Ok(text) => self.put(text),
            Err(_) => self.put(name),
        }
    }

    /// With one more value.
    pub(crate) fn with(mut self, value: impl Into<Value<'a>>) -> Args<'a> {
        self.put(value);
        self
    }

    /// With one more name for a text column.
    pub(crate) fn name(mut self, name: &'a [u8]) -> Args<'a> {
        self.put_name(name);
        self
    }

    /// With one more inode.
    pub(crate) fn ino(self, ino: Ino) -> Args<'a> {
        self.id(ino.0)
    }

    /// With one more unsigned number.
    pub(crate) fn id(mut self, id: u64) -> Args<'a> {
        self.put_u64(id);
        self
    }

    /// The values, or why they cannot be bound.
    pub(crate) fn values(&self) -> Result<&[Value<'a>], Failure> {
        match &self.wrong {
            None => Ok(&self.values),
            Some(wrong) => Err(Failure::Value(wrong.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_63_bits_are_refused() {
        assert_eq!(Args::default().ino(Ino(5)).with(7).values().unwrap().len(), 2);
        let args = Args::default().ino(Ino(u64::MAX)).with(7);
        assert!(
            matches!(args.values(), Err(Failure::Value(what)) if what.starts_with("18446744073709551615 does not"))
        );
    }
}
