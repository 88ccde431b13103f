//! Reads JSON text member by member, so that no more of it is in memory than one value.

use std::io::BufRead;

use serde::de::DeserializeOwned;

use crate::error::MetaError;

/// Longest value read at once: the chunk list of a file of 100 TiB takes some 128 MiB.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// JSON text from a reader.
pub(super) struct Pull<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
}

impl<R: BufRead> Pull<R> {
    pub(super) fn new(input: R) -> Pull<R> {
        Pull { input, at: 0 }
    }

    /// An error at this place of the text.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> MetaError {
        MetaError::invalid(format!("the dump cannot be loaded: {what} (at byte {})", self.at))
    }

    /// Begins an object.
    pub(super) fn open(&mut self) -> Result<(), MetaError> {
        self.expect(b'{')
    }

    /// Name of the next member of an object; `None`, and the object is over, behind the last one. `first` is true before the first.
    pub(super) fn key(&mut self, first: &mut bool) -> Result<Option<String>, MetaError> {
        let begin = std::mem::take(first);
        match self.next()? {
            b'}' => return Ok(None),
            b',' if !begin => self.blank('"')?,
            b'"' if begin => {}
            byte => return Err(self.unexpected(byte)),
        }
        let mut text = vec![b'"'];
        self.string(&mut text)?;
        self.expect(b':')?;
        serde_json::from_slice(&text).map(Some).map_err(|error| self.wrong(error))
    }

    /// A whole value.
    pub(super) fn value<T: DeserializeOwned>(&mut self) -> Result<T, MetaError> {
        let mut text = Vec::new();
        self.take(&mut text)?;
        serde_json::from_slice(&text).map_err(|error| self.wrong(error))
    }

    /// Each element of an array; `null` has none.
    pub(super) fn elements<T: DeserializeOwned>(
        &mut self,
        mut each: impl FnMut(T) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        match self.next()? {
            b'[' => {}
            b'n' => {
                let mut rest = vec![b'n'];
                return self.scalar(&mut rest);
            }
            byte => return Err(self.unexpected(byte)),
        }
        let mut begin = true;
        loop {
            let byte = self.peek_solid()?;
            match byte {
                b']' => return self.expect(b']'),
                b',' if !begin => self.expect(b',')?,
                _ if begin => {}
                byte => return Err(self.unexpected(byte)),
            }
            begin = false;
            each(self.value()?)?;
        }
    }

    /// Makes sure that only blanks follow.
    pub(super) fn end(&mut self) -> Result<(), MetaError> {
        loop {
            match self.peek()? {
                None => return Ok(()),
                Some(byte) if byte.is_ascii_whitespace() => self.consume(1),
                Some(_) => return Err(self.wrong("something follows its end")),
            }
        }
    }

    fn take(&mut self, text: &mut Vec<u8>) -> Result<(), MetaError> {
        let mut depth = 0usize;
        loop {
            let byte = self.next()?;
            text.push(byte);
            match byte {
                b'"' => self.string(text)?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1).ok_or_else(|| self.unexpected(byte))?,
                b',' | b':' if depth > 0 => {}
                b',' | b':' => return Err(self.unexpected(byte)),
                _ => self.scalar(text)?,
            }
            if text.len() > VALUE_BYTES_MAX {
                return Err(self.wrong("a value is longer than 1 GiB"));
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The rest of a string whose first quote was read.
    fn string(&mut self, text: &mut Vec<u8>) -> Result<(), MetaError> {
        let mut escaped = false;
        loop {
            let part =
                self.input.fill_buf().map_err(|error| MetaError::invalid(format!("cannot read the dump: {error}")))?;
            if part.is_empty() {
                return Err(self.wrong("it ends too early"));
            }
            let mut end = None;
            for (at, byte) in part.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => {
                        end = Some(at + 1);
                        break;
                    }
                    _ => {}
                }
            }
            let len = end.unwrap_or(part.len());
            text.extend_from_slice(&part[..len]);
            self.consume(len);
            if end.is_some() {
                return Ok(());
            }
            if text.len() > VALUE_BYTES_MAX {
                return Err(self.wrong("a value is longer than 1 GiB"));
            }
        }
    }

    /// The rest of a number or a word.
    fn scalar(&mut self, text: &mut Vec<u8>) -> Result<(), MetaError> {
        while let Some(byte) = self.peek()?
            && (byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        {
            text.push(byte);
            self.consume(1);
        }
        Ok(())
    }

    fn blank(&mut self, wanted: char) -> Result<(), MetaError> {
        self.expect(wanted as u8)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), MetaError> {
        let byte = self.next()?;
        if byte == wanted { Ok(()) } else { Err(self.unexpected(byte)) }
    }

    fn unexpected(&self, byte: u8) -> MetaError {
        self.wrong(format!("`{}` is out of place", byte.escape_ascii()))
    }

    /// The next byte that is no blank, which stays.
    fn peek_solid(&mut self) -> Result<u8, MetaError> {
        loop {
            match self.peek()? {
                None => return Err(self.wrong("it ends too early")),
                Some(byte) if byte.is_ascii_whitespace() => self.consume(1),
                Some(byte) => return Ok(byte),
            }
        }
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Result<u8, MetaError> {
        let byte = self.peek_solid()?;
        self.consume(1);
        Ok(byte)
    }

    fn peek(&mut self) -> Result<Option<u8>, MetaError> {
        let part =
            self.input.fill_buf().map_err(|error| MetaError::invalid(format!("cannot read the dump: {error}")))?;
        Ok(part.first().copied())
    }

    fn consume(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.at += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use serde_json::{Value, json};

    use super::*;

    /// A reader that gives a byte at a time.
    fn pull(text: &str) -> Pull<BufReader<&[u8]>> {
        Pull::new(BufReader::with_capacity(1, text.as_bytes()))
    }

    #[test]
    fn members_and_elements_come_one_by_one() {
        let mut pull = pull(
            " {\"a\\\"\\u0041\" : {\"x\": [1, {\"y\":\"]}\\\\\"}]}, \"b\":[1 ,-2.5e3,\"z\"] ,\"c\":null,\"d\":[],\"e\":true} \n",
        );
        pull.open().unwrap();
        let mut first = true;
        assert_eq!(pull.key(&mut first).unwrap().unwrap(), "a\"A");
        assert_eq!(pull.value::<Value>().unwrap(), json!({"x": [1, {"y": "]}\\"}]}));
        for (key, wanted) in [("b", json!([1, -2.5e3, "z"])), ("c", json!([])), ("d", json!([]))] {
            assert_eq!(pull.key(&mut first).unwrap().unwrap(), key);
            let mut found = Vec::new();
            pull.elements(|value: Value| {
                found.push(value);
                Ok(())
            })
            .unwrap();
            assert_eq!(Value::Array(found), wanted);
        }
        assert_eq!(pull.key(&mut first).unwrap().unwrap(), "e");
        assert!(pull.value::<bool>().unwrap());
        assert_eq!(pull.key(&mut first).unwrap(), None);
        pull.end().unwrap();
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "[",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1 \"b\":2}",
            "{,}",
            "{\"a\":]}",
            "{\"a\":\"",
            "{\"a\":}",
        ] {
            let mut pull = pull(text);
            let all = (|| {
                pull.open()?;
                let mut first = true;
                while pull.key(&mut first)?.is_some() {
                    pull.value::<Value>()?;
                }
                Ok::<_, MetaError>(())
            })();
            assert!(all.is_err(), "{text}");
        }
        assert!(pull("} x").end().is_err());
    }
}
