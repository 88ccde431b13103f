//! Where a file holds bytes and where it has holes: lseek(2) with `SEEK_DATA` and `SEEK_HOLE`.
//!
//! Looked up in the chunk lists, a growing number of chunks at a time: a hole of a terabyte costs some twenty queries.

use shoal_format::{CHUNK_BYTES, PieceSource, SliceRecord, resolve};
use shoal_meta::ChunkSlices;

use crate::error::VfsError;
use crate::open_file::OpenFile;
use crate::vfs::Vfs;

/// Chunks asked for first.
const CHUNKS_FIRST: u32 = 8;
/// Chunks asked for at once, at most: their lists are in memory together.
const CHUNKS_MAX: u32 = 1024;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Bytes that were written.
    Data,
    /// Bytes that nothing was written to. The end of the file is a hole.
    Hole,
}

impl Vfs {
    /// The first byte of the file from `offset` on that is what is looked for; `None` where there is none before the end, or
    /// `offset` lies behind it.
    ///
    /// What was written here before is in the volume when it returns. Errors: what the metadata engine says.
    pub async fn seek(&self, file: &OpenFile, offset: u64, what: Seek) -> Result<Option<u64>, VfsError> {
        let inode = &file.inode;
        self.drain(inode).await;
        let length = inode.length();
        if offset >= length {
            return Ok(None);
        }
        let end = length.div_ceil(CHUNK_BYTES) as u32;
        let (mut at, mut step) = (offset, CHUNKS_FIRST);
        while at < length {
            let first = (at / CHUNK_BYTES) as u32;
            let until = end.min(first.saturating_add(step));
            let chunks = self.meta().chunks(inode.ino, first..until).await?;
            match first_of(&chunks, at, u64::from(until) * CHUNK_BYTES, what) {
                Some(found) if found < length => return Ok(Some(found)),
                Some(_) => break,
                None => at = u64::from(until) * CHUNK_BYTES,
            }
            step = (step * 2).min(CHUNKS_MAX);
        }
        Ok((what == Seek::Hole).then_some(length))
    }
}

/// The first byte of `from..to` of a file, whose chunks there have these lists, that is what is looked for.
fn first_of(chunks: &[ChunkSlices], from: u64, to: u64, what: Seek) -> Option<u64> {
    // Everything before it is known not to be looked for.
    let mut at = from;
    for chunk in chunks {
        let base = u64::from(chunk.index) * CHUNK_BYTES;
        for (start, end) in data(&chunk.slices) {
            let (start, end) = (base + u64::from(start), base + u64::from(end));
            if end <= at {
                continue;
            }
            match what {
                Seek::Data => return Some(start.max(at)),
                Seek::Hole if start > at => return Some(at),
                Seek::Hole => at = end,
            }
        }
    }
    (what == Seek::Hole && at < to).then_some(at)
}

/// Start and end of what a chunk's records show that is no hole, by position.
fn data(records: &[SliceRecord]) -> impl Iterator<Item = (u32, u32)> {
    let pieces = resolve(records).into_iter().filter(|piece| piece.source != PieceSource::Hole);
    pieces.map(|piece| (piece.pos, piece.pos + piece.len))
}

#[cfg(test)]
mod tests {
    use shoal_format::Ino;

    use super::*;

    fn chunk(index: u32, slices: Vec<SliceRecord>) -> ChunkSlices {
        ChunkSlices { ino: Ino(2), index, slices }
    }

    #[test]
    fn bytes_and_holes_are_found_across_chunks() {
        let chunks = [
            chunk(0, vec![SliceRecord::whole(10, 1, 90), SliceRecord::hole(40, 20), SliceRecord::whole(100, 2, 50)]),
            chunk(2, vec![SliceRecord::whole(0, 3, CHUNK_BYTES as u32)]),
            chunk(3, vec![SliceRecord::whole(0, 4, 7)]),
        ];
        let to = 4 * CHUNK_BYTES;
        let third = 2 * CHUNK_BYTES;
        for (from, data, hole) in [
            (0, Some(10), Some(0)),
            (10, Some(10), Some(40)),
            (45, Some(60), Some(45)),
            (60, Some(60), Some(150)),
            (150, Some(third), Some(150)),
            (third, Some(third), Some(3 * CHUNK_BYTES + 7)),
            (3 * CHUNK_BYTES + 6, Some(3 * CHUNK_BYTES + 6), Some(3 * CHUNK_BYTES + 7)),
            (3 * CHUNK_BYTES + 7, None, Some(3 * CHUNK_BYTES + 7)),
        ] {
            assert_eq!(first_of(&chunks, from, to, Seek::Data), data, "data from {from}");
            assert_eq!(first_of(&chunks, from, to, Seek::Hole), hole, "a hole from {from}");
        }
        let full = [chunk(0, vec![SliceRecord::whole(0, 1, CHUNK_BYTES as u32)])];
        assert_eq!(first_of(&full, 5, CHUNK_BYTES, Seek::Hole), None, "it may be in what follows");
        assert_eq!(first_of(&[], 5, CHUNK_BYTES, Seek::Data), None);
    }
}
