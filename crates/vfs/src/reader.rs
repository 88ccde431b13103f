//! Reading a file: clamp to its length, map to blocks, fetch, assemble.
//!
//! A read inside one block is a slice of that block, never a copy. A read of several blocks fetches them together. An object
//! that has gone (another client compacted the chunk) means the slice list is old: it is read again before giving up. A hole may
//! mean that the list is newer than the length (another client cut the file): zeros are given only once the attribute, asked after
//! the list, says that the file is still the same.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use parking_lot::Mutex;
use shoal_cache::CacheError;
use shoal_format::CHUNK_BYTES;
use shoal_runtime::clock;
use shoal_types::{BlockRange, Ctx, ErrorKind};

use crate::chunk_map::{ChunkMap, Part};
use crate::cursor::Cursor;
use crate::error::VfsError;
use crate::inode::Inode;
use crate::open_file::OpenFile;
use crate::vfs::Vfs;
use crate::write::{Held, Overlay};

/// Times a slice list is read again after its object was missing. JuiceFS clients commit after upload, so one is enough but for a
/// compaction that finishes at that very moment, and for `--writeback` clients that upload late.
const STALE_RETRIES: u32 = 3;

/// Pause before a slice list is read again, times the attempt.
const STALE_PAUSE: Duration = Duration::from_millis(100);

/// The span of a read inside the file, as chunk number, start and end in the chunk, place in the answer.
pub(crate) fn chunk_spans(offset: u64, end: u64) -> impl Iterator<Item = (u32, u32, u32, usize)> {
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let index = at / CHUNK_BYTES;
            let stop = end.min((index + 1) * CHUNK_BYTES);
            let base = index * CHUNK_BYTES;
            let span = (index as u32, (at - base) as u32, (stop - base) as u32, (at - offset) as usize);
            at = stop;
            span
        })
    })
}

/// The bytes of a read.
struct Answer {
    bytes: Bytes,
    /// How many of them no block holds.
    holes: u64,
}

/// Bytes of a read that are not in the volume yet.
struct Pending {
    /// Where they go in the answer.
    at: usize,
    len: usize,
    source: Source,
}

/// Where such bytes are.
enum Source {
    Memory(Bytes),
    Block(Part),
}

/// True if `parts` hold every byte of a read of `len` bytes.
fn is_covered(parts: &[Pending], len: usize) -> bool {
    covered(parts.iter().map(|part| (part.at, part.at + part.len)).collect()) == len
}

/// How many bytes lie in any of these spans.
fn covered(mut spans: Vec<(usize, usize)>) -> usize {
    spans.sort_unstable();
    let (mut total, mut reached) = (0, 0);
    for (start, end) in spans {
        total += end.max(reached) - start.max(reached);
        reached = reached.max(end);
    }
    total
}

impl Vfs {
    /// The bytes of a read if they lie in one block held in RAM: the path a FUSE thread takes without leaving its thread.
    ///
    /// Returns at most `size` bytes from `offset`, fewer only at the end of the file.
    pub fn try_read(&self, file: &OpenFile, offset: u64, size: u32) -> Option<Bytes> {
        let end = (offset + u64::from(size)).min(file.inode.length());
        if offset >= end {
            return Some(Bytes::new());
        }
        if file.inode.writes.any() {
            return None;
        }
        let index = offset / CHUNK_BYTES;
        let base = index * CHUNK_BYTES;
        if end > base + CHUNK_BYTES {
            return None;
        }
        let map = file.inode.chunk(index as u32).ok()?;
        let (block, range) = map.single((offset - base) as u32, (end - base) as u32)?;
        let bytes = self.cache().try_ram(block, range)?;
        self.metrics().read_bytes.add(bytes.len() as u64);
        self.read_ahead(file, offset, end - offset);
        Some(bytes)
    }

    /// Up to `size` bytes of the file from `offset`; fewer only at its end.
    ///
    /// Errors: `NotFound` if an object is gone from the object store for good; otherwise what the tiers report. Cancel-safe.
    pub async fn read(&self, ctx: &Ctx, file: &OpenFile, offset: u64, size: u32) -> Result<Bytes, VfsError> {
        self.read_ahead(file, offset, u64::from(size));
        let mut attempt = 0;
        loop {
            let (length, generation) = file.inode.length_and_generation();
            let end = (offset + u64::from(size)).min(length);
            if offset >= end {
                return Ok(Bytes::new());
            }
            match self.read_once(ctx, file, offset, end).await {
                Ok(Answer { holes, .. })
                    if holes > 0 && attempt < STALE_RETRIES && file.inode.length_and_generation().1 != generation =>
                {
                    attempt += 1;
                }
                Ok(Answer { bytes, holes }) => {
                    self.metrics().read_bytes.add(bytes.len() as u64);
                    self.metrics().hole_bytes.add(holes);
                    return Ok(bytes);
                }
                Err(VfsError::Read { source, .. })
                    if source.kind() == ErrorKind::NotFound && attempt < STALE_RETRIES =>
                {
                    attempt += 1;
                    self.metrics().stale_chunks.add(1);
                    clock::sleep(STALE_PAUSE * attempt).await;
                    file.inode.forget_chunks();
                    self.refresh(&file.inode).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_once(&self, ctx: &Ctx, file: &OpenFile, offset: u64, end: u64) -> Result<Answer, VfsError> {
        let inode = &file.inode;
        // Before the lists are looked at: what is recorded in between is in them.
        let pending = self.pending_parts(inode, offset, end);
        let mut parts = Vec::new();
        if !is_covered(&pending, (end - offset) as usize) {
            for (index, from, to, at) in chunk_spans(offset, end) {
                self.chunk(inode, index).await?.parts(from, to, at, &mut parts);
            }
        }
        let failed = |source: CacheError| VfsError::Read { ino: inode.ino, offset, source };
        let len = (end - offset) as usize;
        if let [part] = parts.as_slice()
            && part.range.len() as usize == len
            && pending.is_empty()
        {
            let bytes = self.cache().read(ctx, &part.block, part.range).await.map_err(failed)?;
            return Ok(Answer { bytes, holes: 0 });
        }
        self.assemble(ctx, parts, pending, len).await.map_err(failed)
    }

    /// Fetches all parts together and lays them over zeros, then what is pending over them, oldest first.
    async fn assemble(
        &self,
        ctx: &Ctx,
        parts: Vec<Part>,
        pending: Vec<Pending>,
        len: usize,
    ) -> Result<Answer, CacheError> {
        let stored = pending.iter().filter_map(|pending| match &pending.source {
            Source::Block(part) => Some(part),
            Source::Memory(_) => None,
        });
        let reads = parts.iter().chain(stored).map(|part| self.cache().read(ctx, &part.block, part.range));
        let mut pieces = try_join_all(reads).await?.into_iter();
        let mut answer = BytesMut::zeroed(len);
        let mut spans = Vec::with_capacity(parts.len() + pending.len());
        let mut lay = |at: usize, piece: Bytes| {
            answer[at..at + piece.len()].copy_from_slice(&piece);
            spans.push((at, at + piece.len()));
        };
        for (part, piece) in parts.iter().zip(pieces.by_ref()) {
            lay(part.at, piece);
        }
        for Pending { at, source, .. } in pending {
            match source {
                Source::Memory(bytes) => lay(at, bytes),
                Source::Block(_) => lay(at, pieces.next().expect("every part in a block was read")),
            }
        }
        let holes = (len - covered(spans)) as u64;
        Ok(Answer { bytes: answer.freeze(), holes })
    }

    /// What of `offset..end` is written here and not in the volume yet.
    fn pending_parts(&self, inode: &Inode, offset: u64, end: u64) -> Vec<Pending> {
        let part = |Overlay { at, held }: Overlay| match held {
            Held::Bytes(bytes) => Pending { at, len: bytes.len(), source: Source::Memory(bytes) },
            Held::Stored { id, block, block_len, off, len } => {
                let block = self.block_names().block(id, block, block_len);
                let part = Part { at, block, range: BlockRange::new(off, len) };
                Pending { at, len: len as usize, source: Source::Block(part) }
            }
        };
        inode.writes.overlay(chunk_spans(offset, end)).into_iter().map(part).collect()
    }

    /// The map of chunk `index`, from memory or from the metadata engine.
    pub(crate) async fn chunk(&self, inode: &Inode, index: u32) -> Result<Arc<ChunkMap>, VfsError> {
        let generation = match inode.chunk(index) {
            Ok(map) => return Ok(map),
            Err(generation) => generation,
        };
        let records = self.meta().chunk(inode.ino, index).await?;
        let map = ChunkMap::build(&records, &self.block_names())
            .ok_or(VfsError::DamagedChunk { ino: inode.ino, index })
            .map(Arc::new)?;
        let in_chunk = inode.stored_length().saturating_sub(u64::from(index) * CHUNK_BYTES).min(CHUNK_BYTES);
        if !map.covers(in_chunk as u32) {
            self.refresh(inode).await?;
        }
        inode.keep_chunk(index, generation, map.clone());
        self.compact_if_many(inode.ino, index, records.len());
        Ok(map)
    }

    /// Takes in a fresh look at the file. Errors: `NotFound` if it is removed for good: its slice records go with it, and what they
    /// leave must not be read as one large hole.
    async fn refresh(&self, inode: &Inode) -> Result<(), VfsError> {
        let asked_at = self.changes();
        let attr = self.meta().getattr(inode.ino).await?;
        inode.refresh(&attr.ok_or(VfsError::NoInode { ino: inode.ino })?, asked_at);
        Ok(())
    }

    /// Starts fetching ahead of a sequential reader, if this read calls for it.
    fn read_ahead(&self, file: &OpenFile, offset: u64, len: u64) {
        let (block_size, max) = (self.block_size(), self.options().max_readahead);
        let Some(ahead) = file.cursor.lock().note(offset, len, block_size, max) else { return };
        let end = ahead.end.min(file.inode.length());
        if ahead.start >= end {
            return;
        }
        let (vfs, inode, cursor) = (self.clone(), file.inode.clone(), Arc::downgrade(&file.cursor));
        self.spawn("read ahead", async move {
            if let Err(error) = vfs.fetch_ahead(&inode, &cursor, ahead.start, end).await {
                tracing::debug!(ino = %inode.ino, %error, "read-ahead failed; the read itself will tell");
            }
        });
    }

    /// Fetches `start..end` ahead of the reader that `cursor` follows, as long as it is open. Each block waits its turn among all
    /// readers; one that this reader has passed meanwhile would be fetched for nobody.
    async fn fetch_ahead(
        &self,
        inode: &Inode,
        cursor: &Weak<Mutex<Cursor>>,
        start: u64,
        end: u64,
    ) -> Result<(), VfsError> {
        for (index, from, to, _) in chunk_spans(start, end) {
            let map = self.chunk(inode, index).await?;
            for segment in map.within(from, to) {
                let at = u64::from(index) * CHUNK_BYTES + u64::from(segment.pos);
                let Some(reader) = cursor.upgrade() else { return Ok(()) };
                let awaited = reader.lock().awaits(at, at + u64::from(segment.len));
                if !awaited {
                    continue;
                }
                self.metrics().readahead_blocks.add(1);
                self.cache().prefetch(&Ctx::foreground(), &segment.block).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_split_at_chunk_borders() {
        let spans: Vec<_> = chunk_spans(CHUNK_BYTES - 10, CHUNK_BYTES + 5).collect();
        let chunk = CHUNK_BYTES as u32;
        assert_eq!(spans, [(0, chunk - 10, chunk, 0), (1, 0, 5, 10)]);
        assert_eq!(chunk_spans(7, 7).count(), 0);
    }

    #[test]
    fn bytes_covered_twice_count_once() {
        assert_eq!(covered(vec![]), 0);
        assert_eq!(covered(vec![(5, 9), (0, 3), (2, 6), (7, 8), (20, 20)]), 9);
    }
}
