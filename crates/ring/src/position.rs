//! Where things lie on the circle of 2^64 positions, byte for byte.
//!
//! The hash is SipHash-2-4 with zero keys (`hashring`'s default) over a fixed encoding, written in one piece: derived `Hash`
//! implementations depend on std internals, endianness and pointer width, and splitting the bytes over several writes is
//! another encoding.

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::DefaultHashBuilder;
use shoal_types::{BlockId, NodeId};

/// One point of a node on the circle: hashes as the 16 bytes of the node id and the vnode's number, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vnode {
    pub(crate) node: NodeId,
    pub(crate) number: u32,
}

impl Hash for Vnode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0u8; 20];
        bytes[..16].copy_from_slice(&self.node.0);
        bytes[16..].copy_from_slice(&self.number.to_le_bytes());
        state.write(&bytes);
    }
}

/// A block as a key of the circle: hashes as its 16 id bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point(pub(crate) BlockId);

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.0);
    }
}

/// Position of a vnode or a block.
pub(crate) fn position(of: impl Hash) -> u64 {
    DefaultHashBuilder.hash_one(of)
}

/// Fingerprint of raw bytes, by the same hash.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHashBuilder.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
