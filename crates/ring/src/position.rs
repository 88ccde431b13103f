//! Where things lie on the circle of 2^64 positions, byte for byte.
//!
//! The hash is SipHash-2-4 with zero keys (`hashring`'s default) over a fixed encoding, written in one piece: derived `Hash`
//! implementations depend on std internals, endianness and pointer width, and splitting the bytes over several writes is
//! another encoding. A block's further places come from its first by SplitMix64 (Steele, Lea, Flood 2014), which costs a nanosecond.

use std::hash::{BuildHasher, Hasher};

use hashring::DefaultHashBuilder;
use shoal_types::{BlockId, NodeId};

/// Places of a block on the circle.
///
/// Standard deviation of the nodes' shares and the fullest node, 1,000 nodes of weight 100 (`cargo test -p shoal-ring balance -- --nocapture`
/// prints the row in use), and the time to find an owner there:
///
/// | points a node | places | stddev | fullest |
/// |---|---|---|---|
/// | 160 | 1 | 7.9 % | 1.28x |
/// | 400 | 1 | 5.0 % | 1.14x |
/// | 100 | 1 | 9.9 % | 1.37x |
/// | 100 | 4 | 3.8 % | 1.11x |
/// | **100** | **8** | 2.6 % | 1.08x |
/// | 100 | 16 | 1.8 % | 1.05x |
/// | 10 | 8 | 8.3 % | 1.14x |
pub const PROBES: usize = 8;

/// SplitMix64's step.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Position of point `number` of `node`: hash of the 16 bytes of the node id and the number, little endian.
pub(crate) fn point(node: NodeId, number: u32) -> u64 {
    let mut bytes = [0u8; 20];
    bytes[..16].copy_from_slice(&node.0);
    bytes[16..].copy_from_slice(&number.to_le_bytes());
    fingerprint(&bytes)
}

/// The block's places: the first is the hash of its 16 id bytes.
pub(crate) fn probes(block: BlockId) -> [u64; PROBES] {
    let first = fingerprint(&block.0);
    let mut probes = [first; PROBES];
    for (k, probe) in probes.iter_mut().enumerate().skip(1) {
        *probe = mixed(first.wrapping_add(GAMMA.wrapping_mul(k as u64)));
    }
    probes
}

/// SplitMix64's finalizer.
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fingerprint of raw bytes.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHashBuilder.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
