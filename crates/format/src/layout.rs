//! Where a volume's bytes lie: object keys, blocks of a slice, shards.

use crate::error::FormatError;
use crate::settings::Settings;

/// Smallest and largest block size in KiB.
const BLOCK_KIB: std::ops::RangeInclusive<u64> = 64..=16 * 1024;

/// The block size in KiB that `format --block-size` makes of `bytes`: rounded down to a power of two, 64 KiB to 16 MiB.
pub fn round_block_size(bytes: u64) -> u32 {
    let kib = (bytes >> 10).clamp(*BLOCK_KIB.start(), *BLOCK_KIB.end());
    1 << kib.ilog2()
}

/// Names and sizes of a volume's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Volume name, the prefix of every key.
    pub name: String,
    /// Bytes of a full block, at least 1.
    pub block_size: u32,
    /// Keys spread over 256 prefixes by slice id.
    pub hash_prefix: bool,
    /// Buckets the objects are spread over; 0 and 1 mean one.
    pub shards: u32,
}

/// One block of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceBlock {
    /// Number of the block in its slice.
    pub index: u32,
    /// Plain bytes in the block, at least 1.
    pub len: u32,
    /// Offset in the slice of the block's first byte.
    pub offset: u32,
    /// Full key of its object.
    pub object: String,
}

/// Bytes of one block that a read of a slice needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRead {
    /// The block.
    pub block: SliceBlock,
    /// First plain byte wanted in the block.
    pub start: u32,
    /// Bytes wanted, at least 1; `start + len <= block.len`.
    pub len: u32,
}

impl Layout {
    /// Full key of block `index` of slice `slice_id`, whose plain length is `block_len` bytes.
    pub fn object_key(&self, slice_id: u64, index: u32, block_len: u32) -> String {
        let (name, millions, thousands) = (&self.name, slice_id / 1_000_000, slice_id / 1000);
        if self.hash_prefix {
            format!("{name}/chunks/{:02X}/{millions}/{slice_id}_{index}_{block_len}", slice_id % 256)
        } else {
            format!("{name}/chunks/{millions}/{thousands}/{slice_id}_{index}_{block_len}")
        }
    }

    /// What every key of a block begins with.
    pub fn blocks_prefix(&self) -> String {
        format!("{}/chunks/", self.name)
    }

    /// Slice, index and plain bytes of the block whose object has this full key; `None` for a key that no block has.
    pub fn parse_key(&self, key: &str) -> Option<(u64, u32, u32)> {
        let mut numbers = key.rsplit('/').next()?.split('_');
        let slice = numbers.next()?.parse().ok()?;
        let (index, len) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        (key == self.object_key(slice, index, len)).then_some((slice, index, len))
    }

    /// Full key of the object that holds the volume's UUID.
    pub fn uuid_key(&self) -> String {
        format!("{}/juicefs_uuid", self.name)
    }

    /// Every block of slice `slice_id` of `slice_size` bytes, in order.
    pub fn blocks(&self, slice_id: u64, slice_size: u32) -> impl Iterator<Item = SliceBlock> + '_ {
        let count = slice_size.div_ceil(self.block_bytes());
        (0..count).filter_map(move |index| self.block(slice_id, slice_size, index))
    }

    /// Block `index` of slice `slice_id` of `slice_size` bytes; `None` past the slice's end.
    pub fn block(&self, slice_id: u64, slice_size: u32, index: u32) -> Option<SliceBlock> {
        let offset = index.checked_mul(self.block_bytes())?;
        let len = slice_size.checked_sub(offset)?.min(self.block_bytes());
        (len > 0).then(|| SliceBlock { index, len, offset, object: self.object_key(slice_id, index, len) })
    }

    /// The blocks, and the part of each, that hold bytes `off..off + len` of slice `slice_id` of `slice_size` bytes.
    ///
    /// Errors: `Corrupt` where those bytes do not lie in the slice.
    pub fn reads(
        &self,
        slice_id: u64,
        slice_size: u32,
        off: u32,
        len: u32,
    ) -> Result<impl Iterator<Item = BlockRead> + '_, FormatError> {
        let outside = FormatError::SliceRange { id: slice_id, size: slice_size, off, len };
        let end = off.checked_add(len).filter(|end| *end <= slice_size).ok_or(outside)?;
        let size = self.block_bytes();
        let indexes = if len == 0 { 0..0 } else { off / size..end.div_ceil(size) };
        Ok(indexes.filter_map(move |index| {
            let block = self.block(slice_id, slice_size, index)?;
            let start = off.saturating_sub(block.offset);
            let stop = (end - block.offset).min(block.len);
            Some(BlockRead { start, len: stop - start, block })
        }))
    }

    /// The shard that holds the object with this full key: FNV-1a (32 bits) modulo the number of shards.
    pub fn shard_of(&self, full_key: &str) -> u32 {
        let hash =
            full_key.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        hash % self.shards.max(1)
    }

    /// The block size; a layout built by hand with 0 counts as 1, so that nothing divides by zero.
    fn block_bytes(&self) -> u32 {
        self.block_size.max(1)
    }
}

impl Settings {
    /// Names and sizes of this volume's objects.
    pub fn layout(&self) -> Layout {
        Layout {
            name: self.name.clone(),
            block_size: self.block_size.saturating_mul(1024),
            hash_prefix: self.hash_prefix,
            shards: self.shards,
        }
    }

    /// The bucket of every shard: [`Settings::bucket`] itself, or the template filled in with 0, 1, ...
    ///
    /// Errors: `Invalid` if a sharded volume's bucket is no template with exactly one `%d`.
    pub fn buckets(&self) -> Result<Vec<String>, FormatError> {
        if self.shards <= 1 {
            return Ok(vec![self.bucket.clone()]);
        }
        (0..self.shards).map(|shard| fill_template(&self.bucket, shard)).collect()
    }
}

/// `template` with its one `%d` (or `%4d`, `%04d`) replaced by `shard` and every `%%` by `%`, as C's printf does.
fn fill_template(template: &str, shard: u32) -> Result<String, FormatError> {
    let bad = || FormatError::BucketTemplate { bucket: template.to_owned() };
    let (mut out, mut filled, mut rest) = (String::new(), false, template);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (width, after) = after.split_once('d').ok_or_else(bad)?;
        if filled || width.len() > 2 || !width.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let columns = width.parse().unwrap_or(0);
        out.push_str(&if width.starts_with('0') { format!("{shard:0columns$}") } else { format!("{shard:columns$}") });
        filled = true;
        rest = after;
    }
    out.push_str(rest);
    if filled { Ok(out) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(hash_prefix: bool, block_size: u32) -> Layout {
        Layout { name: "vol-shard".into(), block_size, hash_prefix, shards: 4 }
    }

    #[test]
    fn keys_match_the_golden_ones() {
        assert_eq!(layout(false, 1).object_key(1, 0, 95_600), "vol-shard/chunks/0/0/1_0_95600");
        assert_eq!(layout(true, 1).object_key(1, 0, 95_600), "vol-shard/chunks/01/0/1_0_95600");
        let id = 12_345_678;
        assert_eq!(layout(false, 1).object_key(id, 15, 7), "vol-shard/chunks/12/12345/12345678_15_7");
        assert_eq!(layout(true, 1).object_key(id, 15, 7), "vol-shard/chunks/4E/12/12345678_15_7");
    }

    #[test]
    fn keys_say_which_block_they_are_of() {
        for hash_prefix in [false, true] {
            let layout = layout(hash_prefix, 100);
            for block in layout.blocks(12_345_678, 250) {
                assert_eq!(layout.parse_key(&block.object), Some((12_345_678, block.index, block.len)));
            }
        }
        let layout = layout(false, 100);
        for other in [
            "vol-shard/chunks/0/1/1_0_5",
            "vol-shard/chunks/0/0/1_0",
            "vol-shard/chunks/0/0/1_0_5_6",
            "x/chunks/0/0/1_0_5",
        ] {
            assert_eq!(layout.parse_key(other), None, "{other}");
        }
        assert_eq!(layout.parse_key("vol-shard/chunks/0/0/01_0_5"), None);
        assert_eq!(layout.parse_key("vol-shard/juicefs_uuid"), None);
    }

    #[test]
    fn shards_match_the_golden_ones() {
        let layout = layout(true, 1);
        assert_eq!(layout.shard_of("vol-shard/chunks/01/0/1_0_65536"), 2);
        assert_eq!(layout.shard_of("vol-shard/chunks/01/0/1_1_30064"), 3);
        assert_eq!(layout.shard_of(&layout.uuid_key()), 3);
        assert_eq!(Layout { shards: 0, ..layout }.shard_of("x"), 0);
    }

    #[test]
    fn blocks_cover_the_slice() {
        let blocks: Vec<_> = layout(false, 100).blocks(7, 250).map(|b| (b.index, b.offset, b.len, b.object)).collect();
        let key = |rest: &str| format!("vol-shard/chunks/0/0/7_{rest}");
        assert_eq!(blocks, [(0, 0, 100, key("0_100")), (1, 100, 100, key("1_100")), (2, 200, 50, key("2_50"))]);
        assert_eq!(layout(false, 100).blocks(7, 100).count(), 1);
        assert_eq!(layout(false, 100).blocks(7, 0).count(), 0);
        assert_eq!(layout(false, 65_536).blocks(7, u32::MAX).count(), 65_536);
    }

    #[test]
    fn reads_cut_at_block_ends() {
        let parts = |off, len| -> Vec<(u32, u32, u32)> {
            let layout = layout(false, 100);
            layout.reads(7, 250, off, len).unwrap().map(|read| (read.block.index, read.start, read.len)).collect()
        };
        assert_eq!(parts(0, 250), [(0, 0, 100), (1, 0, 100), (2, 0, 50)]);
        assert_eq!(parts(99, 2), [(0, 99, 1), (1, 0, 1)]);
        assert_eq!(parts(249, 1), [(2, 49, 1)]);
        assert_eq!(parts(100, 100), [(1, 0, 100)]);
        assert_eq!(parts(250, 0), []);
    }

    #[test]
    fn reads_outside_the_slice_are_corrupt() {
        for (off, len) in [(0, 251), (251, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(layout(false, 100).reads(7, 250, off, len).is_err(), "{off}+{len}");
        }
    }

    #[test]
    fn block_sizes_round_as_format_does() {
        for (bytes, kib) in [
            (0, 64),
            (65_535, 64),
            (100 << 10, 64),
            (128 << 10, 128),
            (4 << 20, 4096),
            (5 << 20, 4096),
            (16 << 20, 16_384),
            (17 << 20, 16_384),
            (u64::MAX, 16_384),
        ] {
            assert_eq!(round_block_size(bytes), kib, "{bytes}");
        }
    }

    #[test]
    fn templates_take_exactly_one_number() {
        assert_eq!(fill_template("/d/%d/", 3).unwrap(), "/d/3/");
        assert_eq!(fill_template("b%03d%%x", 3).unwrap(), "b003%x");
        for bad in ["plain", "%d%d", "%s", "%", "x%", "%-d", "%999d", "%%"] {
            assert!(fill_template(bad, 3).is_err(), "{bad}");
        }
    }
}
