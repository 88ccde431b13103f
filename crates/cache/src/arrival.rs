//! Bytes as a place gives them.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes that have just come.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// From a node: in memory that they will stay in. Those of one answer lie one right behind the other.
    Own(BytesMut),
    /// From the object store: in buffers of a network library, several times as large.
    Borrowed(Bytes),
}

impl Arrival {
    pub(crate) fn len(&self) -> usize {
        match self {
            Arrival::Own(bytes) => bytes.len(),
            Arrival::Borrowed(bytes) => bytes.len(),
        }
    }

    /// Leaves out the first `count` bytes, which are there.
    pub(crate) fn advance(&mut self, count: usize) {
        match self {
            Arrival::Own(bytes) => bytes.advance(count),
            Arrival::Borrowed(bytes) => bytes.advance(count),
        }
    }

    /// The bytes as they are.
    pub(crate) fn freeze(self) -> Bytes {
        match self {
            Arrival::Own(bytes) => bytes.freeze(),
            Arrival::Borrowed(bytes) => bytes,
        }
    }

    /// Moves them to the end of `buffer`, which will have `more` bytes more at most: without a copy if they lie there already.
    pub(crate) fn append_to(self, buffer: &mut BytesMut, more: usize) {
        let end = buffer.as_ptr_range().end;
        match self {
            Arrival::Own(bytes) if buffer.is_empty() || bytes.as_ptr() == end => buffer.unsplit(bytes),
            Arrival::Own(bytes) => append(buffer, &bytes, more),
            Arrival::Borrowed(bytes) => append(buffer, &bytes, more),
        }
    }
}

fn append(buffer: &mut BytesMut, bytes: &[u8], more: usize) {
    buffer.reserve(more.max(bytes.len()));
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_answer_are_joined_where_they_lie() {
        let mut whole = BytesMut::from(&b"0123456789"[..]);
        let start = whole.as_ptr();
        let mut buffer = BytesMut::new();
        for len in [3, 1, 6] {
            Arrival::Own(whole.split_to(len)).append_to(&mut buffer, 10);
        }
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"0123456789"[..], start));
    }

    #[test]
    fn pieces_of_different_answers_are_copied_into_one_buffer() {
        let mut buffer = BytesMut::new();
        Arrival::Own(BytesMut::from(&b"012"[..])).append_to(&mut buffer, 9);
        let mut late = Arrival::Own(BytesMut::from(&b"12345"[..]));
        late.advance(2);
        assert_eq!(late.len(), 3);
        late.append_to(&mut buffer, 6);
        let at = buffer.as_ptr();
        Arrival::Borrowed(Bytes::from_static(b"678")).append_to(&mut buffer, 3);
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"012345678"[..], at), "room for all of it was made once");
        assert_eq!(Arrival::Borrowed(Bytes::from_static(b"9")).freeze(), "9");
    }
}
