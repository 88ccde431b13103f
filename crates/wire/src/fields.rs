//! How fields of control messages that are not serde types travel.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Most keys in one [`crate::Request::Has`] or [`crate::Request::Warm`].
pub const MAX_KEYS: usize = 4096;

/// Block keys: a sequence of (origin, object, part), at most [`crate::MAX_KEYS`].
pub(crate) mod keys {
    use shoal_types::{BlockKey, BlockSpan, OriginId};

    use super::*;
    use crate::get::check_parts;

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct KeyFields<'a> {
        origin: [u8; 16],
        object: &'a str,
        #[serde(borrow)]
        part: Option<(u64, u32, &'a str)>,
    }

    impl<'a> From<&'a BlockKey> for KeyFields<'a> {
        fn from(key: &'a BlockKey) -> KeyFields<'a> {
            let part = match key.span() {
                BlockSpan::Whole => None,
                BlockSpan::Part { etag, offset, len } => Some((*offset, *len, etag.as_str())),
            };
            KeyFields { origin: key.origin().0, object: key.object(), part }
        }
    }

    pub(crate) fn serialize<S: Serializer>(keys: &[BlockKey], serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(keys.len()))?;
        keys.iter().try_for_each(|key| seq.serialize_element(&KeyFields::from(key)))?;
        seq.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BlockKey>, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Vec<BlockKey>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_KEYS} block keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<BlockKey>, A::Error> {
                let mut keys = Vec::new();
                while let Some(fields) = seq.next_element::<KeyFields<'de>>()? {
                    if keys.len() == MAX_KEYS {
                        return Err(A::Error::custom("too many keys"));
                    }
                    let span = match fields.part {
                        None => BlockSpan::Whole,
                        Some((offset, len, etag)) => BlockSpan::Part { etag: etag.to_owned(), offset, len },
                    };
                    check_parts(fields.object, &span).map_err(A::Error::custom)?;
                    keys.push(BlockKey::new(OriginId(fields.origin), fields.object, span));
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_seq(Keys)
    }
}

/// Tiers, or none: one byte each, 255 = none.
pub(crate) mod tiers {
    use shoal_types::Tier;

    use super::*;

    const NONE: u8 = 255;

    pub(crate) fn serialize<S: Serializer>(tiers: &[Option<Tier>], serializer: S) -> Result<S::Ok, S::Error> {
        let numbers: Vec<u8> = tiers.iter().map(|tier| tier.map_or(NONE, |tier| tier as u8)).collect();
        serializer.serialize_bytes(&numbers)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<Tier>>, D::Error> {
        let numbers = <&[u8]>::deserialize(deserializer)?;
        numbers
            .iter()
            .map(|&number| match (number, Tier::from_u8(number)) {
                (NONE, _) => Ok(None),
                (_, Some(tier)) => Ok(Some(tier)),
                _ => Err(D::Error::custom("unknown tier")),
            })
            .collect()
    }
}

/// A status as its number.
pub(crate) mod status {
    use super::*;
    use crate::status::Status;

    pub(crate) fn serialize<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
        (*status as u8).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        Status::from_u8(u8::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("unknown status"))
    }
}

/// Opaque bytes.
pub(crate) mod blob {
    use bytes::Bytes;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Bytes::copy_from_slice)
    }
}
