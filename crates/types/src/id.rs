//! Identities of nodes and origins.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that should have been 32 hexadecimal digits was not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id of 32 hexadecimal digits")]
pub struct ParseIdError(String);

fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str) -> Result<[u8; 16], ParseIdError> {
    let bad = || ParseIdError(text.to_owned());
    if text.len() != 32 || !text.is_ascii() {
        return Err(bad());
    }
    let mut bytes = [0u8; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        /// Hexadecimal text for people (JSON, TOML), 16 bytes on the wire.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(from).map($name)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map($name)
            }
        }
    };
}

id16! {
    /// A cache node, for as long as its cache directories live: random, kept in the first of them.
    NodeId
}

id16! {
    /// Where blocks come from: a volume or a plain bucket. Names the key space of a [`crate::BlockKey`].
    OriginId
}

id16! {
    /// 128-bit name of a block: truncated BLAKE3 of its key, so that no writer can make two keys collide.
    BlockId
}

impl OriginId {
    /// The origin of the volume with this UUID text, as its setting spells it.
    pub fn of_volume(uuid: &str) -> OriginId {
        OriginId::of("volume", uuid)
    }

    /// The origin of the plain bucket at `url`, without credentials.
    pub fn of_bucket(url: &str) -> OriginId {
        OriginId::of("bucket", url)
    }

    fn of(kind: &str, name: &str) -> OriginId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.as_bytes()).update(&[0]).update(name.as_bytes());
        OriginId(truncate(hasher.finalize()))
    }
}

/// The first 16 bytes of a BLAKE3 hash.
pub(crate) fn truncate(hash: blake3::Hash) -> [u8; 16] {
    let mut id = [0u8; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text() {
        let id = NodeId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        assert!("xyz".parse::<NodeId>().is_err());
        assert!("é".repeat(16).parse::<NodeId>().is_err());
    }

    #[test]
    fn origin_ids_are_pinned() {
        assert_ne!(OriginId::of_volume("a"), OriginId::of_bucket("a"));
        assert_eq!(OriginId::of_volume("a"), OriginId::of_volume("a"));
    }
}
