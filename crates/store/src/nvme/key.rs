//! A block's key as bytes in a record's head, so that a record says what it is without the index.

use shoal_types::{BlockKey, BlockSpan, OriginId};

/// Longest encoded key: an S3 key has at most 1 KiB, a file name in a bucket mount 4 KiB.
pub(crate) const MAX_KEY_BYTES: usize = 6 << 10;

const WHOLE: u8 = 0;
const PART: u8 = 1;

/// `key` in bytes, little endian: origin, span kind, \[offset, length, ETag length, ETag,\] object. `None` if it is longer than
/// [`MAX_KEY_BYTES`].
pub(crate) fn encode(key: &BlockKey) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(17 + key.object().len());
    bytes.extend_from_slice(&key.origin().0);
    match key.span() {
        BlockSpan::Whole => bytes.push(WHOLE),
        BlockSpan::Part { etag, offset, len } => {
            bytes.push(PART);
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(etag.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(etag.as_bytes());
        }
    }
    bytes.extend_from_slice(key.object().as_bytes());
    (bytes.len() <= MAX_KEY_BYTES).then_some(bytes)
}

/// The key that [`encode`] gave these bytes for; `None` for any others.
pub(crate) fn decode(bytes: &[u8]) -> Option<BlockKey> {
    let (origin, rest) = bytes.split_first_chunk::<16>()?;
    let (&kind, rest) = rest.split_first()?;
    let (span, object) = match kind {
        WHOLE => (BlockSpan::Whole, rest),
        PART => {
            let (offset, rest) = rest.split_first_chunk::<8>()?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let (etag_len, rest) = rest.split_first_chunk::<2>()?;
            let (etag, object) = rest.split_at_checked(u16::from_le_bytes(*etag_len).into())?;
            let etag = std::str::from_utf8(etag).ok()?.to_owned();
            (BlockSpan::Part { etag, offset: u64::from_le_bytes(*offset), len: u32::from_le_bytes(*len) }, object)
        }
        _ => return None,
    };
    Some(BlockKey::new(OriginId(*origin), std::str::from_utf8(object).ok()?, span))
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn encoded_keys_are_pinned() {
        let whole = encode(&BlockKey::whole(OriginId([7; 16]), "a/b")).unwrap();
        assert_eq!(whole, [&[7; 16][..], &[0], b"a/b"].concat());
        let span = BlockSpan::Part { etag: "e1".into(), offset: 1 << 33, len: 5 };
        let part = encode(&BlockKey::new(OriginId([7; 16]), "k", span)).unwrap();
        assert_eq!(part, [&[7; 16][..], &[1, 0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 2, 0], b"e1k"].concat());
    }

    #[test]
    fn keys_survive_and_no_other_bytes_make_one() {
        let span = BlockSpan::Part { etag: "e1".into(), offset: 1 << 33, len: 5 };
        for key in [BlockKey::whole(OriginId([7; 16]), "a/b"), BlockKey::new(OriginId([7; 16]), "k", span)] {
            let bytes = encode(&key).unwrap();
            let read = decode(&bytes).unwrap();
            assert!(read == key && read.object() == key.object() && read.span() == key.span());
            assert!(decode(&bytes[..16]).is_none());
        }
        let part =
            encode(&BlockKey::new(OriginId([7; 16]), "", BlockSpan::Part { etag: "ee".into(), offset: 1, len: 5 }));
        let part = part.unwrap();
        assert!((0..part.len()).all(|cut| decode(&part[..cut]).is_none()), "a cut key is none");
        assert!(decode(&[&[7; 16][..], &[2], b"a"].concat()).is_none(), "an unknown kind");
        assert!(decode(&[&[7; 16][..], &[0], &[0xff]].concat()).is_none(), "no text");
    }

    #[test]
    fn an_overlong_key_is_refused() {
        assert!(encode(&BlockKey::whole(OriginId([7; 16]), &"x".repeat(MAX_KEY_BYTES))).is_none());
    }
}
