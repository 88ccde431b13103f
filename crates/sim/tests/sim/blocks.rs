//! The data everyone reads: many blocks whose every byte is known without keeping them.

use std::sync::LazyLock;

use bytes::Bytes;
use shoal_cache::Block;
use shoal_format::BlockCodec;
use shoal_testkit::seeded_bytes;
use shoal_types::{BlockKey, BlockRange, OriginId};

/// Where all blocks come from.
pub const ORIGIN: OriginId = OriginId([0xab; 16]);
/// Largest block in bytes.
const LARGEST: u32 = 256 << 10;

/// Every block is a part of these bytes.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| seeded_bytes(0x5eed, 2 << 20).into());

/// Name of block `number`: a hundred to a directory.
fn name(number: u32) -> String {
    format!("data/{}/{number}", number / 100)
}

/// The number in a block's name.
pub fn number(object: &str) -> Option<u32> {
    object.rsplit_once('/')?.1.parse().ok()
}

/// Bytes of block `number`: most are small, a few are large.
pub fn bytes(number: u32) -> Bytes {
    let len = match number % 16 {
        0 => LARGEST,
        1..4 => 100_000,
        odd => 4096 + odd * 1000,
    };
    let start = (number as usize * 4099) % (PATTERN.len() - LARGEST as usize);
    PATTERN.slice(start..start + len as usize)
}

/// Block `number` as a client asks for it.
pub fn block(number: u32) -> Block {
    let key = BlockKey::whole(ORIGIN, &name(number));
    Block { key, plain_len: bytes(number).len() as u32, codec: BlockCodec::identity() }
}

/// True if `got` is exactly `range` of block `number`.
pub fn is_right(number: u32, range: BlockRange, got: &Bytes) -> bool {
    let whole = bytes(number);
    let range = range.clamp(whole.len() as u32);
    got[..] == whole[range.start as usize..range.end as usize]
}
