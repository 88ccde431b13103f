//! A block's name and a range of its bytes.
//!
//! A node caches *stored* bytes (as they lie in the object store) under an opaque [`BlockKey`]; the key names immutable
//! bytes, so nothing ever needs invalidating.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::id::{BlockId, OriginId, truncate};

/// Largest stored block in bytes: 16 MiB of plain bytes (the format's bound) plus room for a codec's overhead.
pub const MAX_BLOCK_BYTES: u32 = (16 << 20) + (1 << 20);

/// Which bytes of an object a block is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlockSpan {
    /// The whole object: a volume's block.
    Whole,
    /// Bytes `offset..offset + len` of the object that carries `etag`: a block of a plain bucket.
    Part {
        /// Entity tag the object must still have, as the object store spells it.
        etag: String,
        /// First byte of the block in the object.
        offset: u64,
        /// Bytes in the block, at most [`MAX_BLOCK_BYTES`].
        len: u32,
    },
}

#[derive(Debug, PartialEq, Eq)]
struct Name {
    id: BlockId,
    origin: OriginId,
    object: Box<str>,
    span: BlockSpan,
}

/// Name of one immutable block: where it comes from, which object holds it, and which bytes of that object it is.
///
/// Cheap to clone. Equality and hash follow the 128-bit [`BlockId`], computed once at construction.
#[derive(Clone)]
pub struct BlockKey(Arc<Name>);

impl BlockKey {
    /// The block that is the whole object `object` (its full key in the object store, prefix included) of `origin`.
    pub fn whole(origin: OriginId, object: &str) -> BlockKey {
        BlockKey::new(origin, object, BlockSpan::Whole)
    }

    /// A block with any span.
    pub fn new(origin: OriginId, object: &str, span: BlockSpan) -> BlockKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&origin.0);
        hasher.update(&(object.len() as u32).to_le_bytes()).update(object.as_bytes());
        if let BlockSpan::Part { etag, offset, len } = &span {
            hasher.update(&offset.to_le_bytes()).update(&len.to_le_bytes()).update(etag.as_bytes());
        }
        let id = BlockId(truncate(hasher.finalize()));
        BlockKey(Arc::new(Name { id, origin, object: object.into(), span }))
    }

    /// The key's 128-bit name: what the ring hashes and the store indexes.
    pub fn id(&self) -> BlockId {
        self.0.id
    }

    /// Name of what the block is read together with: of a whole object the objects beside it (same origin, same key up to its last
    /// `/`), of a part the object itself. Demand for one block of a group foretells demand for the others. Pinned: all processes
    /// must agree.
    pub fn group(&self) -> u64 {
        let object = self.object();
        let name = match self.span() {
            BlockSpan::Whole => &object[..object.rfind('/').map_or(0, |slash| slash + 1)],
            BlockSpan::Part { .. } => object,
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"shoal group 1").update(&self.origin().0).update(name.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Where the block comes from.
    pub fn origin(&self) -> OriginId {
        self.0.origin
    }

    /// Full key of the object in the object store.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Which bytes of the object the block is.
    pub fn span(&self) -> &BlockSpan {
        &self.0.span
    }
}

impl PartialEq for BlockKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for BlockKey {}

impl Hash for BlockKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.span {
            BlockSpan::Whole => f.write_str(&self.0.object),
            BlockSpan::Part { offset, .. } => write!(f, "{}@{offset}", self.0.object),
        }
    }
}

impl fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes `start..end` of a stored block. `end` past the block's length means "to its end".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// First byte.
    pub start: u32,
    /// One past the last byte; `u32::MAX` in [`BlockRange::WHOLE`].
    pub end: u32,
}

impl BlockRange {
    /// All of a block whatever its length.
    pub const WHOLE: BlockRange = BlockRange { start: 0, end: u32::MAX };

    /// `len` bytes from `start`.
    pub const fn new(start: u32, len: u32) -> BlockRange {
        BlockRange { start, end: start.saturating_add(len) }
    }

    /// The part of this range that lies in a block of `block_len` bytes. Empty ranges come back as `start == end`.
    pub const fn clamp(self, block_len: u32) -> BlockRange {
        let end = if self.end < block_len { self.end } else { block_len };
        let start = if self.start < end { self.start } else { end };
        BlockRange { start, end }
    }

    /// Bytes in the range.
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// True if the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, etag: &str) -> BlockKey {
        let span = BlockSpan::Part { etag: etag.into(), offset, len: 4 << 20 };
        BlockKey::new(OriginId([7; 16]), "data/a", span)
    }

    #[test]
    fn keys_differ_by_every_field() {
        let keys = [
            BlockKey::whole(OriginId([7; 16]), "data/a"),
            BlockKey::whole(OriginId([8; 16]), "data/a"),
            BlockKey::whole(OriginId([7; 16]), "data/b"),
            part(0, "x"),
            part(4 << 20, "x"),
            part(0, "y"),
        ];
        for (i, a) in keys.iter().enumerate() {
            for (j, b) in keys.iter().enumerate() {
                assert_eq!(a == b, i == j, "{a} {b}");
            }
        }
    }

    #[test]
    fn block_ids_are_pinned() {
        // The id is what nodes of different versions agree on: changing it loses every cached block.
        let key =
            BlockKey::whole(OriginId::of_volume("3a8892bf-10f1-473c-bdf0-b8ed81207873"), "vol/chunks/0/0/1_0_4194304");
        assert_eq!(key.id().to_string(), GOLDEN);
    }

    #[test]
    fn blocks_read_together_are_of_one_group() {
        let whole = |object| BlockKey::whole(OriginId([7; 16]), object).group();
        assert_eq!(whole("v/chunks/0/0/1_0_4"), whole("v/chunks/0/0/2_1_4"));
        assert_ne!(whole("v/chunks/0/0/1_0_4"), whole("v/chunks/0/1/1_0_4"));
        assert_eq!(part(0, "x").group(), part(4 << 20, "y").group());
        assert_ne!(part(0, "x").group(), BlockKey::whole(OriginId([7; 16]), "data/b").group());
        assert_eq!(whole("a"), GOLDEN_GROUP);
    }

    const GOLDEN_GROUP: u64 = 14_512_061_570_299_380_380;
    const GOLDEN: &str = "fc17718cd801284c1aa86f3cb09a9c17";

    #[test]
    fn ranges_clamp_to_the_block() {
        assert_eq!(BlockRange::WHOLE.clamp(10), BlockRange { start: 0, end: 10 });
        assert_eq!(BlockRange::new(8, 4).clamp(10).len(), 2);
        assert!(BlockRange::new(12, 4).clamp(10).is_empty());
        assert_eq!(BlockRange::new(u32::MAX, 9).len(), 0);
    }
}
