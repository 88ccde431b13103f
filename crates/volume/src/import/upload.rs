//! One file's content as slices: read block by block, encoded, stored.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::fs::SeekFrom;
use shoal_format::{BlockCodec, CHUNK_BYTES, Layout, SliceRecord};
use shoal_meta::Meta;
use shoal_object::ObjectStore;
use shoal_runtime::budget::Budget;
use shoal_runtime::task;
use tokio::sync::{Mutex, Semaphore};

use super::ImportOptions;
use super::progress::Counts;
use super::scan::unreadable;
use crate::error::VolumeError;
use crate::open::Volume;

/// Slice ids taken from the engine at once.
const SLICE_IDS: u64 = 4096;

/// Stretches of data a chunk may have before its holes are stored as zeros: a record costs 24 bytes and every reader a lookup.
const STRETCHES_MAX: usize = 64;

/// Stores files' content.
pub(crate) struct Uploader {
    objects: Arc<dyn ObjectStore>,
    layout: Layout,
    codec: BlockCodec,
    meta: Meta,
    budget: Budget,
    puts: Semaphore,
    ids: Mutex<std::ops::Range<u64>>,
    counts: Arc<Counts>,
}

/// What a file's content became.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Bytes actually read: the file's length in the volume.
    pub length: u64,
    /// Slice records by chunk.
    pub chunks: Vec<(u32, Vec<SliceRecord>)>,
}

/// Bytes `start..end` of the file that hold data, inside one chunk.
struct Stretch {
    chunk: u32,
    start: u64,
    end: u64,
}

impl Uploader {
    pub(crate) fn new(
        volume: &Volume,
        tier: u8,
        options: &ImportOptions,
        budget: Budget,
        counts: Arc<Counts>,
    ) -> Uploader {
        Uploader {
            objects: volume.tiers.of(tier).clone(),
            layout: volume.layout.clone(),
            codec: volume.codec.clone(),
            meta: volume.meta.clone(),
            budget,
            puts: Semaphore::new(options.max_uploads.max(1)),
            ids: Mutex::new(0..0),
            counts,
        }
    }

    /// Stores the content of the file at `path`. Holes become no objects.
    pub(crate) async fn store(self: Arc<Self>, path: PathBuf) -> Result<Stored, VolumeError> {
        let opened = path.clone();
        let open = move || -> std::io::Result<(File, u64, Vec<Stretch>)> {
            let file = File::open(&opened)?;
            let length = file.metadata()?.len();
            let stretches = stretches(&file, length);
            Ok((file, length, stretches))
        };
        let (file, length, stretches) =
            task::blocking("import open", open).await.map_err(|error| unreadable(&path, error))?;
        if length == 0 {
            return Ok(Stored::default());
        }
        let file = Arc::new(file);
        let mut stored = Stored { length, chunks: Vec::new() };
        for stretch in stretches {
            let record = self.store_stretch(&file, &path, &stretch).await?;
            match stored.chunks.last_mut() {
                Some((chunk, records)) if *chunk == stretch.chunk => records.push(record),
                _ => stored.chunks.push((stretch.chunk, vec![record])),
            }
        }
        Ok(stored)
    }

    async fn store_stretch(
        &self,
        file: &Arc<File>,
        path: &Path,
        stretch: &Stretch,
    ) -> Result<SliceRecord, VolumeError> {
        let id = self.next_id().await?;
        let size = (stretch.end - stretch.start) as u32;
        let blocks: Vec<_> = self.layout.blocks(id, size).collect();
        stream::iter(blocks)
            .map(|block| async move {
                // Plain and encoded bytes are both in memory while the block is stored.
                let _room = self.budget.acquire(2 * u64::from(block.len)).await;
                let at = stretch.start + u64::from(block.offset);
                let encoded = self.encoded(file, path, at, block.len).await?;
                let _turn = self.puts.acquire().await.expect("the semaphore is never closed");
                self.objects.put(&block.object, encoded).await?;
                self.counts.bytes.fetch_add(u64::from(block.len), Ordering::Relaxed);
                self.counts.objects.fetch_add(1, Ordering::Relaxed);
                Ok::<(), VolumeError>(())
            })
            .buffer_unordered(self.puts.available_permits().max(1))
            .try_collect::<()>()
            .await?;
        let pos = (stretch.start % CHUNK_BYTES) as u32;
        Ok(SliceRecord { pos, id, size, off: 0, len: size })
    }

    /// `len` bytes of the file at `at`, encoded for the object store.
    async fn encoded(&self, file: &Arc<File>, path: &Path, at: u64, len: u32) -> Result<Bytes, VolumeError> {
        let (file, codec, path) = (file.clone(), self.codec.clone(), path.to_owned());
        task::blocking("import block", move || {
            let mut plain = BytesMut::zeroed(len as usize);
            file.read_exact_at(&mut plain, at).map_err(|error| unreadable(&path, error))?;
            Ok(codec.encode(plain.freeze())?)
        })
        .await
    }

    async fn next_id(&self) -> Result<u64, VolumeError> {
        let mut ids = self.ids.lock().await;
        if ids.is_empty() {
            *ids = self.meta.alloc_slices(SLICE_IDS).await?;
        }
        ids.next().ok_or(VolumeError::Lost { what: "slice ids" })
    }
}

/// The stretches of data in a file of `length` bytes, cut at chunk borders. A file system that cannot tell has one long stretch.
fn stretches(file: &File, length: u64) -> Vec<Stretch> {
    let mut all = Vec::new();
    for chunk in 0..length.div_ceil(CHUNK_BYTES) {
        let (from, to) = (chunk * CHUNK_BYTES, ((chunk + 1) * CHUNK_BYTES).min(length));
        let found = data_in(file, from, to).unwrap_or_else(|| vec![(from, to)]);
        let cut = if found.len() > STRETCHES_MAX { vec![(from, to)] } else { found };
        all.extend(cut.into_iter().map(|(start, end)| Stretch { chunk: chunk as u32, start, end }));
    }
    all
}

/// Data in `from..to` by SEEK_DATA and SEEK_HOLE (lseek(2)); `None` where they do not work.
fn data_in(file: &File, from: u64, to: u64) -> Option<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = from;
    while at < to {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at as _)) {
            Ok(start) if start < to => start,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start as _)).ok()?.min(to);
        if end <= start || found.len() > STRETCHES_MAX {
            return None;
        }
        found.push((start, end));
        at = end;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    #[test]
    fn holes_are_not_data() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(&[1; 4096]).expect("written");
        file.seek(std::io::SeekFrom::Start(CHUNK_BYTES + (1 << 20))).expect("seek");
        file.write_all(&[2; 4096]).expect("written");
        let length = CHUNK_BYTES + (1 << 20) + 4096;
        let found = stretches(&file, length);
        let held: u64 = found.iter().map(|stretch| stretch.end - stretch.start).sum();
        assert!(held < length, "holes were found on this file system");
        assert!(
            found
                .iter()
                .all(|stretch| stretch.end <= length && stretch.start / CHUNK_BYTES == u64::from(stretch.chunk))
        );
        assert_eq!(found.last().map(|stretch| stretch.end), Some(length));
    }

    #[test]
    fn an_empty_hole_file_has_no_stretch() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(1 << 20).expect("grown");
        assert!(stretches(&file, 1 << 20).is_empty());
    }
}
