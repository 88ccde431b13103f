//! The wire form of protocol buffers, as far as binary dumps need it: numbers, and bytes with a length.

/// A message that is being written. What is zero or empty is left out, as the format's third version does.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn int(mut self, field: u32, value: u64) -> Message {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    pub(crate) fn signed(self, field: u32, value: i64) -> Message {
        self.int(field, value as u64)
    }

    pub(crate) fn bytes(self, field: u32, value: &[u8]) -> Message {
        if value.is_empty() { self } else { self.sized(field, value) }
    }

    /// A message in a message, which may be empty.
    pub(crate) fn message(self, field: u32, inner: Message) -> Message {
        self.sized(field, &inner.0)
    }

    /// A list of numbers.
    pub(crate) fn packed(self, field: u32, values: impl IntoIterator<Item = u64>) -> Message {
        let mut list = Message::default();
        values.into_iter().for_each(|value| list.varint(value));
        self.bytes(field, &list.0)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn sized(mut self, field: u32, value: &[u8]) -> Message {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field of a message that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; zero for what is none.
    pub(crate) fn int(self) -> u64 {
        match self {
            Value::Int(value) => value,
            Value::Bytes(_) => 0,
        }
    }

    /// The bytes; none for a number.
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Int(_) => &[],
        }
    }
}

/// The fields of a message, by number, in order; `None` for bytes that are no message.
pub(crate) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Int(varint(&mut bytes)?),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        found.push((u32::try_from(tag >> 3).ok()?, value));
    }
    Some(found)
}

/// The numbers of a list.
pub(crate) fn numbers(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        found.push(varint(&mut bytes)?);
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in a dump of JuiceFS 1.4.2.
    #[test]
    fn messages_have_the_bytes_of_real_ones() {
        let held = Message::default().message(8, Message::default().int(1, 3).packed(2, [15, 5]));
        assert_eq!(held.into_bytes(), [0x42, 6, 8, 3, 0x12, 2, 15, 5]);
        let quota = Message::default().int(1, 0).signed(2, -1).int(5, 10).bytes(7, b"");
        let bytes = [&[0x10][..], &[0xFF; 9], &[1, 0x28, 10]].concat();
        assert_eq!(quota.into_bytes(), bytes);
        assert_eq!(fields(&bytes), Some(vec![(2, Value::Int(u64::MAX)), (5, Value::Int(10))]));
        assert_eq!(numbers(&[0xB6, 3, 0]), Some(vec![438, 0]));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for wrong in
            [&[0x08][..], &[0x0A, 5, 1], &[0x0D, 0, 0, 0, 0], &[0x80; 11], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]]
        {
            assert_eq!(fields(wrong), None, "{wrong:?}");
        }
    }
}
