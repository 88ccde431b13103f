//! Compacting what has become many slices, at once and on request.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use shoal_format::{CHUNK_BYTES, Ino};
use shoal_meta::{ChunkSlices, Meta, plan_compaction};
use shoal_types::ErrorKind;
use shoal_vfs::Vfs;

use crate::error::VolumeError;

/// Chunk lists read at once.
const PAGE: usize = 1000;
/// Chunks of a file that are read at once.
const CHUNKS_PAGE: u32 = 1024;

/// What compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Chunks that were compacted.
    pub chunks: u64,
    /// Slices that were replaced.
    pub slices: u64,
    /// Bytes that were written anew.
    pub bytes: u64,
    /// Chunks that could not be compacted; the log says why.
    pub failed: u64,
}

/// Compacts every chunk of the volume that is more than one slice, `at_once` at the same time. `count` counts chunks looked at.
///
/// Errors: what the database reports; a chunk that cannot be compacted is counted.
pub async fn compact_volume(
    meta: &Meta,
    vfs: &Vfs,
    at_once: usize,
    count: &AtomicU64,
) -> Result<CompactReport, VolumeError> {
    let mut report = CompactReport::default();
    let mut from = Bytes::new();
    loop {
        let page = meta.scans().scan_chunks(&from, PAGE).await?;
        count.fetch_add(page.records.len() as u64, Ordering::Relaxed);
        compact_lists(vfs, &page.records, at_once, &mut report).await?;
        match page.next {
            Some(next) => from = next,
            None => return Ok(report),
        }
    }
}

/// The same for every chunk of a file of `length` bytes.
pub async fn compact_file(
    meta: &Meta,
    vfs: &Vfs,
    (ino, length): (Ino, u64),
    at_once: usize,
    report: &mut CompactReport,
) -> Result<(), VolumeError> {
    let end = u32::try_from(length.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX);
    for begin in (0..end).step_by(CHUNKS_PAGE as usize) {
        let lists = meta.chunks(ino, begin..end.min(begin.saturating_add(CHUNKS_PAGE))).await?;
        compact_lists(vfs, &lists, at_once, report).await?;
    }
    Ok(())
}

async fn compact_lists(
    vfs: &Vfs,
    lists: &[ChunkSlices],
    at_once: usize,
    report: &mut CompactReport,
) -> Result<(), VolumeError> {
    let long: Vec<(Ino, u32)> = lists
        .iter()
        .filter(|list| plan_compaction(&list.slices).is_some())
        .map(|list| (list.ino, list.index))
        .collect();
    let compactions: Vec<_> = long.into_iter().map(|(ino, index)| vfs.compact(ino, index)).collect();
    let mut done = futures::stream::iter(compactions).buffer_unordered(at_once.max(1));
    while let Some(compacted) = done.next().await {
        match compacted {
            Ok(Some(plan)) => {
                report.chunks += 1;
                report.slices += plan.replaced().iter().filter(|record| record.id != 0).count() as u64;
                report.bytes += u64::from(plan.size);
            }
            // Others were faster, or removed the file.
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                report.failed += 1;
                tracing::warn!(error = &error as &dyn std::error::Error, "a chunk could not be compacted");
            }
        }
    }
    Ok(())
}
