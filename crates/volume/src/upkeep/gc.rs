//! `gc`: objects that nothing needs, and what waits to be deleted.
//!
//! An object is leaked if no chunk list names its slice, no slice that waits does, and it is older than an hour: clients store blocks
//! before they record them. Before anything is deleted the lists are read once more, so that a slice that a clone or a rename moved
//! from what was still to be read to what had been read already is not taken for leaked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use shoal_meta::Session;
use shoal_runtime::clock;

use super::blocks::{Listed, delayed_slices, listed, named_slices};
use super::slice_map::SliceMap;
use crate::error::VolumeError;
use crate::open::Volume;

/// Younger objects may belong to what is just being written.
const AGE_MIN: Duration = Duration::from_secs(3600);
/// Leaked objects that are remembered before they are deleted, after another look at every chunk list.
const LEAKED_MAX: usize = 200_000;
/// Records read at once.
const PAGE: usize = 1000;
const DAY_SECS: i64 = 86_400;

/// How the volume is cleaned.
pub struct GcOptions<'a> {
    /// The client that deletes; without one, nothing is deleted.
    pub session: Option<&'a Session>,
    /// Objects, and files, deleted at once.
    pub threads: usize,
}

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What was found, and deleted if it was to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Slices that chunk lists name, and those that wait.
    pub slices: Amount,
    /// Objects of blocks, all of them.
    pub scanned: u64,
    /// Objects that chunk lists name.
    pub valid: u64,
    /// Objects of slices that nothing names any more and that are known.
    pub pending: Amount,
    /// Objects of slices that were compacted and wait as long as the trash keeps.
    pub compacted: Amount,
    /// Objects that nothing knows.
    pub leaked: Amount,
    /// Slices that have waited long enough.
    pub delslices: Amount,
    /// Removed files whose data is still there.
    pub delfiles: Amount,
    /// Objects younger than an hour.
    pub skipped: Amount,
    /// Known slices that nothing named and that were deleted.
    pub deleted_slices: u64,
}

/// Looks for what can be deleted, and deletes it if there is a session to do so. `count` counts objects.
pub async fn gc(volume: &Volume, options: &GcOptions<'_>, count: &AtomicU64) -> Result<GcReport, VolumeError> {
    let mut report = GcReport::default();
    waiting(volume, &mut report).await?;
    if let Some(session) = options.session {
        report.deleted_slices = session.clean_up(volume.slices(), options.threads).await? as u64;
    }
    let known = Known::read(volume).await?;
    report.slices = known.used;
    let young = UNIX_EPOCH + clock::unix_now() - AGE_MIN;
    let mut leaked = Vec::new();
    let mut pages = listed(volume);
    while let Some(page) = pages.try_next().await? {
        for block in page {
            if known.sort(volume, &block, young, &mut report) && options.session.is_some() {
                leaked.push(block);
            }
        }
        count.store(report.scanned, Ordering::Relaxed);
        if leaked.len() >= LEAKED_MAX {
            delete(volume, &mut leaked, options.threads, &mut report).await?;
        }
    }
    drop(pages);
    delete(volume, &mut leaked, options.threads, &mut report).await?;
    Ok(report)
}

/// Counts what waits to be deleted and may be.
async fn waiting(volume: &Volume, report: &mut GcReport) -> Result<(), VolumeError> {
    let scans = volume.meta.scans();
    let mut from = Bytes::new();
    loop {
        let page = scans.scan_deleted_files(&from, PAGE).await?;
        page.records.iter().for_each(|file| report.delfiles.add(file.length));
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let days = volume.settings.trash_days.max(0);
    let edge = (clock::unix_now().as_secs() as i64).saturating_sub(days.saturating_mul(DAY_SECS));
    let mut from = Bytes::new();
    loop {
        let page = scans.scan_delayed(&from, PAGE).await?;
        let due = page.records.iter().filter(|delayed| delayed.at < edge).flat_map(|delayed| &delayed.slices);
        due.for_each(|(_, size)| report.delslices.add(u64::from(*size)));
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

/// Slices that the metadata knows.
struct Known {
    named: SliceMap,
    /// Those in `named` and `delayed`.
    used: Amount,
    delayed: SliceMap,
    dead: SliceMap,
}

impl Known {
    async fn read(volume: &Volume) -> Result<Known, VolumeError> {
        let scans = volume.meta.scans();
        let (mut dead, mut from) = (SliceMap::default(), Bytes::new());
        loop {
            let page = scans.scan_slice_refs(&from, PAGE).await?;
            for slice in page.records.iter().filter(|slice| slice.count == 0) {
                dead.insert(slice.id, slice.size);
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        // What waits is read last: what is compacted meanwhile is in one of both.
        let (named, named_bytes) = named_slices(&volume.meta).await?;
        let (delayed, waiting, waiting_bytes) = delayed_slices(&volume.meta, &named).await?;
        let used = Amount { count: named.len() + waiting, bytes: named_bytes + waiting_bytes };
        Ok(Known { named, used, delayed, dead })
    }

    /// Counts an object by what it is; true if it is leaked.
    fn sort(&self, volume: &Volume, block: &Listed, young: SystemTime, report: &mut GcReport) -> bool {
        report.scanned += 1;
        let bytes = block.entry.meta.len;
        // One whose age the store does not tell may be young.
        if block.entry.meta.modified.is_none_or(|modified| modified >= young) {
            report.skipped.add(bytes);
        } else if belongs(volume, block, &self.named) {
            report.valid += 1;
        } else if belongs(volume, block, &self.delayed) {
            report.compacted.add(bytes);
        } else if belongs(volume, block, &self.dead) {
            report.pending.add(bytes);
        } else {
            report.leaked.add(bytes);
            return true;
        }
        false
    }
}

/// True if the block is one of a slice in `slices`, by its size there.
fn belongs(volume: &Volume, block: &Listed, slices: &SliceMap) -> bool {
    let expected = volume.layout.block(block.slice, slices.get(block.slice), block.index);
    expected.is_some_and(|expected| expected.len == block.len)
}

/// Deletes those of `leaked` that still nothing names.
async fn delete(
    volume: &Volume,
    leaked: &mut Vec<Listed>,
    at_once: usize,
    report: &mut GcReport,
) -> Result<(), VolumeError> {
    if leaked.is_empty() {
        return Ok(());
    }
    let again = Known::read(volume).await?;
    let needed = |block: &Listed| {
        [&again.named, &again.delayed, &again.dead].into_iter().any(|slices| belongs(volume, block, slices))
    };
    leaked.retain(|block| {
        let needed = needed(block);
        if needed {
            tracing::info!(key = block.entry.key, "an object came into use meanwhile; it stays");
            report.leaked.count -= 1;
            report.leaked.bytes -= block.entry.meta.len;
            report.valid += 1;
        }
        !needed
    });
    // A record that another client removed a moment ago must not come back with a loss of power and name what is deleted now.
    volume.meta.sync().await?;
    let deletions: Vec<_> = leaked.iter().map(|block| volume.objects.delete(&block.entry.key)).collect();
    futures::stream::iter(deletions).buffer_unordered(at_once.max(1)).try_collect::<()>().await?;
    leaked.clear();
    Ok(())
}
