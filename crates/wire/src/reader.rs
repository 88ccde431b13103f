//! Little-endian fields off the front of a byte slice, without panics.

use crate::error::WireError;

/// What is left of a message.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(WireError::Malformed { what: "it ends too early" })?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A UTF-8 text behind its length in two bytes, at most `max` bytes.
    pub(crate) fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str, WireError> {
        let len = usize::from(self.u16()?);
        WireError::bound(what, len, max)?;
        let (text, rest) =
            self.0.split_at_checked(len).ok_or(WireError::Malformed { what: "a text ends too early" })?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| WireError::Malformed { what: "a text is not UTF-8" })
    }

    /// `Ok` if nothing is left.
    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Malformed { what: "bytes after its end" }) }
    }
}
