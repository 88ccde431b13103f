//! One chunk's bytes as a sorted list of segments, each inside one block.
//!
//! Pure. Built once from the chunk's slice records when the chunk is first read, so that a read of a cached chunk is a binary
//! search and no key is formatted or hashed on the hot path.

use shoal_cache::Block;
use shoal_format::{BlockCodec, Layout, PieceSource, SliceRecord, resolve};
use shoal_types::{BlockKey, BlockRange, OriginId};

/// What a chunk map needs to know of the volume to name blocks.
pub(crate) struct BlockNames<'a> {
    pub layout: &'a Layout,
    pub codec: &'a BlockCodec,
    pub origin: OriginId,
}

impl BlockNames<'_> {
    /// Block `index` of slice `id`, `len` plain bytes long.
    pub(crate) fn block(&self, id: u64, index: u32, len: u32) -> Block {
        let key = BlockKey::whole(self.origin, &self.layout.object_key(id, index, len));
        Block { key, plain_len: len, codec: self.codec.clone() }
    }

    /// Keys of every object of slice `id` of `size` bytes.
    pub(crate) fn keys(&self, id: u64, size: u32) -> Vec<String> {
        self.layout.blocks(id, size).map(|block| block.object).collect()
    }
}

/// Bytes `pos..pos + len` of a chunk are bytes `off..off + len` of `block`. What no segment covers reads as zeros.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub pos: u32,
    pub len: u32,
    pub off: u32,
    pub block: Block,
}

/// The segments of one chunk, by position, without overlap.
#[derive(Debug, Default)]
pub(crate) struct ChunkMap {
    segments: Vec<Segment>,
}

/// A part of a read: `len` bytes that go to `at` of the answer, from `range` of `block`.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub at: usize,
    pub block: Block,
    pub range: BlockRange,
}

impl ChunkMap {
    /// The map of a chunk with these slice records; `None` if a record reaches outside its slice.
    pub(crate) fn build(records: &[SliceRecord], names: &BlockNames<'_>) -> Option<ChunkMap> {
        let mut segments = Vec::new();
        let block_size = names.layout.block_size;
        for piece in resolve(records) {
            let PieceSource::Slice { id, size, off } = piece.source else { continue };
            if off.checked_add(piece.len)? > size {
                return None;
            }
            let (mut pos, mut left, mut off) = (piece.pos, piece.len, off);
            while left > 0 {
                let index = off / block_size;
                let start = index * block_size;
                let block_len = block_size.min(size - start);
                let inside = off - start;
                let len = left.min(block_len - inside);
                let block = names.block(id, index, block_len);
                segments.push(Segment { pos, len, off: inside, block });
                (pos, left, off) = (pos + len, left - len, off + len);
            }
        }
        Some(ChunkMap { segments })
    }

    #[cfg(test)]
    /// Every segment, in order of position.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Segments that hold bytes of `start..end` of the chunk.
    pub(crate) fn within(&self, start: u32, end: u32) -> &[Segment] {
        let first = self.segments.partition_point(|segment| segment.pos + segment.len <= start);
        let count = self.segments[first..].partition_point(|segment| segment.pos < end);
        &self.segments[first..first + count]
    }

    /// True if every byte of `0..end` of the chunk lies in a segment: nothing there is a hole.
    pub(crate) fn covers(&self, end: u32) -> bool {
        let held: u32 =
            self.within(0, end).iter().map(|segment| (segment.pos + segment.len).min(end) - segment.pos).sum();
        held == end
    }

    /// The parts of a read of `start..end` of the chunk whose first byte goes to `at` of the answer.
    pub(crate) fn parts(&self, start: u32, end: u32, at: usize, out: &mut Vec<Part>) {
        for segment in self.within(start, end) {
            let from = segment.pos.max(start);
            let to = (segment.pos + segment.len).min(end);
            let range = BlockRange::new(segment.off + (from - segment.pos), to - from);
            out.push(Part { at: at + (from - start) as usize, block: segment.block.clone(), range });
        }
    }

    /// The one segment that holds all of `start..end`, and the range of its block.
    pub(crate) fn single(&self, start: u32, end: u32) -> Option<(&Block, BlockRange)> {
        match self.within(start, end) {
            [segment] if segment.pos <= start && end <= segment.pos + segment.len => {
                Some((&segment.block, BlockRange::new(segment.off + (start - segment.pos), end - start)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout { name: "vol".into(), block_size: 1 << 16, hash_prefix: false, shards: 0 }
    }

    fn map(records: &[SliceRecord]) -> Option<ChunkMap> {
        let (layout, codec) = (layout(), BlockCodec::identity());
        ChunkMap::build(records, &BlockNames { layout: &layout, codec: &codec, origin: OriginId([1; 16]) })
    }

    fn record(pos: u32, id: u64, size: u32, off: u32, len: u32) -> SliceRecord {
        SliceRecord { pos, id, size, off, len }
    }

    #[test]
    fn a_slice_is_cut_at_block_borders() {
        let map = map(&[record(0, 1, 150_000, 0, 150_000)]).expect("valid");
        let lens: Vec<u32> = map.segments().iter().map(|segment| segment.len).collect();
        assert_eq!(lens, [65536, 65536, 150_000 - 131_072]);
        assert_eq!(map.segments()[2].block.key.object(), "vol/chunks/0/0/1_2_18928");
        assert_eq!(map.segments()[2].block.plain_len, 18928);
    }

    #[test]
    fn an_overwrite_in_the_middle_splits_a_block() {
        let map = map(&[record(0, 1, 65536, 0, 65536), record(1000, 2, 500, 0, 500)]).expect("valid");
        let mut parts = Vec::new();
        map.parts(900, 1600, 0, &mut parts);
        let ranges: Vec<(usize, u32, u32)> =
            parts.iter().map(|part| (part.at, part.range.start, part.range.end)).collect();
        assert_eq!(ranges, [(0, 900, 1000), (100, 0, 500), (600, 1500, 1600)]);
        assert!(map.single(900, 1600).is_none());
        assert_eq!(map.single(1100, 1200).map(|(_, range)| range.start), Some(100));
    }

    #[test]
    fn holes_have_no_segment() {
        let map = map(&[record(0, 1, 1000, 0, 1000), record(100, 0, 0, 0, 200)]).expect("valid");
        let mut parts = Vec::new();
        map.parts(100, 300, 0, &mut parts);
        assert!(parts.is_empty());
        map.parts(0, 1000, 0, &mut parts);
        assert_eq!(parts.len(), 2);
        assert!(map.covers(0) && map.covers(100));
        assert!(!map.covers(101) && !map.covers(1000));
    }

    #[test]
    fn a_record_outside_its_slice_is_refused() {
        assert!(map(&[record(0, 1, 100, 50, 51)]).is_none());
        assert!(map(&[record(0, 1, 100, u32::MAX, 51)]).is_none());
    }
}
