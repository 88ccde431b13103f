//! `fsck`: whether the objects of every slice are there, and directories are what they ought to be.
//!
//! Memory: eight bytes a slice, and what is damaged. A block that a list of the store lacks is asked for by name before it counts as
//! lost, so that files that come and go meanwhile do no harm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};
use shoal_format::{Attr, FileType, Ino, Settings, SliceBlock};
use shoal_meta::ChunkSlices;
use shoal_meta::check::{CheckOptions, CheckReport, Finding, check_tree, paths_of};
use shoal_object::ObjectMeta;
use shoal_types::ErrorKind;

use super::blocks::{delayed_slices, each_list, listed, named_slices};
use super::slice_map::SliceMap;
use crate::error::VolumeError;
use crate::open::Volume;

/// Objects asked for at once.
const HEADS_AT_ONCE: usize = 50;
/// Files below a path that are looked at together.
const FILES_AT_ONCE: usize = 1000;

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct FsckOptions {
    /// Only what is at this path; without one, the objects of the whole volume.
    pub tree: Option<CheckOptions>,
}

/// What is wrong with a block's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectState {
    /// It is not there.
    Missing,
    /// It has another length than the block can have.
    WrongSize(u64),
    /// The store does not say.
    Unknown(String),
}

/// A block that a file needs and that is not as it ought to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBlock {
    /// The file.
    pub ino: Ino,
    /// Key of the object.
    pub key: String,
    /// Plain bytes of the block.
    pub len: u32,
    /// What is wrong.
    pub state: ObjectState,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct FsckReport {
    /// Directories and names, if a path was checked.
    pub tree: CheckReport,
    /// Objects of blocks that were seen, and their bytes.
    pub objects: (u64, u64),
    /// Slices that files are made of, those that wait as long as the trash keeps included, and their bytes.
    pub slices: (u64, u64),
    /// Damaged blocks.
    pub blocks: Vec<DamagedBlock>,
    /// Paths of the files they belong to.
    pub files: BTreeMap<Ino, Vec<Vec<u8>>>,
}

impl FsckReport {
    /// True if nothing is wrong, or everything that was is right now.
    pub fn is_clean(&self) -> bool {
        self.tree.broken == 0 && self.blocks.is_empty()
    }
}

/// Checks the volume. `found` gets what is wrong with directories and names as it is found, `count` what was looked at so far.
///
/// Errors: what the database or a listing of the object store reports; a single object that the store says nothing of is a finding.
pub async fn fsck(
    volume: &Volume,
    options: &FsckOptions,
    found: &mut (dyn FnMut(&Finding) + Send),
    count: &AtomicU64,
) -> Result<FsckReport, VolumeError> {
    let mut report = FsckReport::default();
    let lens = StoredLens::of(volume);
    match &options.tree {
        None => whole(volume, &lens, &mut report, count).await?,
        Some(tree) => below(volume, tree, &lens, &mut report, found, count).await?,
    }
    let broken: BTreeSet<Ino> = report.blocks.iter().map(|block| block.ino).collect();
    report.files = paths_of(&volume.meta, &broken).await?;
    Ok(report)
}

/// Lists every object, and looks closer at slices that lack some.
async fn whole(
    volume: &Volume,
    lens: &StoredLens<'_>,
    report: &mut FsckReport,
    count: &AtomicU64,
) -> Result<(), VolumeError> {
    let (slices, bytes) = named_slices(&volume.meta).await?;
    let (_, waiting, waiting_bytes) = delayed_slices(&volume.meta, &slices).await?;
    report.slices = (slices.len() + waiting, bytes + waiting_bytes);
    let mut whole = SliceMap::default();
    let mut pages = listed(volume);
    while let Some(page) = pages.try_next().await? {
        for block in page {
            report.objects.0 += 1;
            report.objects.1 += block.entry.meta.len;
            let expected = volume.layout.block(block.slice, slices.get(block.slice), block.index);
            if expected.is_some_and(|expected| expected.len == block.len) && lens.fits(block.len, &block.entry.meta) {
                whole.count_up(block.slice);
            }
        }
        count.store(report.objects.0, Ordering::Relaxed);
    }
    let blocks = |size: u32| size.div_ceil(volume.layout.block_size);
    let suspects: BTreeSet<u64> =
        slices.iter().filter(|(slice, size)| whole.get(*slice) < blocks(*size)).map(|(slice, _)| slice).collect();
    if suspects.is_empty() {
        return Ok(());
    }
    let mut lists: Vec<ChunkSlices> = Vec::new();
    each_list(&volume.meta, |list| {
        if list.slices.iter().any(|record| suspects.contains(&record.id)) {
            let slices = list.slices.iter().filter(|record| suspects.contains(&record.id)).copied().collect();
            lists.push(ChunkSlices { slices, ..*list });
        }
    })
    .await?;
    let mut known = HashMap::new();
    for part in lists.chunks(FILES_AT_ONCE) {
        look(volume, lens, part, &mut known, report).await?;
    }
    Ok(())
}

/// Checks directories and names at a path, and asks for every object of the files there.
async fn below(
    volume: &Volume,
    options: &CheckOptions,
    lens: &StoredLens<'_>,
    report: &mut FsckReport,
    found: &mut (dyn FnMut(&Finding) + Send),
    count: &AtomicU64,
) -> Result<(), VolumeError> {
    let mut files = Vec::new();
    let mut seen = SliceMap::default();
    let mut file = |ino: Ino, attr: &Attr| {
        count.fetch_add(1, Ordering::Relaxed);
        // Of a file with several names, only the first is looked at.
        if attr.kind == FileType::Regular && attr.length > 0 && (attr.nlink == 1 || seen.insert(ino.0, 1)) {
            files.push(ino);
        }
    };
    report.tree = check_tree(&volume.meta, options, found, &mut file).await?;
    let mut known = HashMap::new();
    for part in files.chunks(FILES_AT_ONCE) {
        let lists = volume.meta.scans().chunks_of(part).await?;
        let (objects, slices) = look(volume, lens, &lists, &mut known, report).await?;
        report.objects = (report.objects.0 + objects.0, report.objects.1 + objects.1);
        report.slices = (report.slices.0 + slices.0, report.slices.1 + slices.1);
        // Most slices belong to one file: those that were fine need not be remembered.
        known.retain(|_, states: &mut Vec<_>| !states.is_empty());
    }
    Ok(())
}

type Known = HashMap<(u64, u32), Vec<(SliceBlock, ObjectState)>>;

/// Asks for every object of the slices in `lists`; what is wrong goes to `report`. `known` holds what earlier calls learned. Gives how
/// many objects were there, and slices asked for, and their bytes.
async fn look(
    volume: &Volume,
    lens: &StoredLens<'_>,
    lists: &[ChunkSlices],
    known: &mut Known,
    report: &mut FsckReport,
) -> Result<((u64, u64), (u64, u64)), VolumeError> {
    let records = lists.iter().flat_map(|list| &list.slices).filter(|record| record.id != 0);
    let wanted: BTreeSet<(u64, u32)> =
        records.map(|record| (record.id, record.size)).filter(|slice| !known.contains_key(slice)).collect();
    let blocks: Vec<(u64, u32, SliceBlock)> = wanted
        .iter()
        .flat_map(|(id, size)| volume.layout.blocks(*id, *size).map(|block| (*id, *size, block)))
        .collect();
    for slice in &wanted {
        known.insert(*slice, Vec::new());
    }
    let asked: Vec<_> = blocks
        .into_iter()
        .map(|(id, size, block)| async move { (id, size, state(volume, lens, &block).await, block) })
        .collect();
    let slices = (wanted.len() as u64, wanted.iter().map(|(_, size)| u64::from(*size)).sum());
    let mut objects = (0, 0);
    let mut states = futures::stream::iter(asked).buffer_unordered(HEADS_AT_ONCE);
    while let Some((id, size, (len, wrong), block)) = states.next().await {
        if let Some(len) = len {
            objects = (objects.0 + 1, objects.1 + len);
        }
        if let Some(wrong) = wrong {
            known.entry((id, size)).or_default().push((block, wrong));
        }
    }
    drop(states);
    told(volume, lists, known, report).await?;
    Ok((objects, slices))
}

/// Adds the damaged blocks of files that still have attributes: those of deleted files are nobody's loss.
async fn told(
    volume: &Volume,
    lists: &[ChunkSlices],
    known: &Known,
    report: &mut FsckReport,
) -> Result<(), VolumeError> {
    let damaged = |list: &&ChunkSlices| {
        list.slices.iter().any(|record| known.get(&(record.id, record.size)).is_some_and(|wrong| !wrong.is_empty()))
    };
    let lists: Vec<&ChunkSlices> = lists.iter().filter(damaged).collect();
    let inos: Vec<Ino> = lists.iter().map(|list| list.ino).collect();
    let attrs = volume.meta.getattrs(&inos).await?;
    for (list, _) in lists.iter().zip(attrs).filter(|(_, attr)| attr.is_some()) {
        let slices: BTreeSet<(u64, u32)> = list.slices.iter().map(|record| (record.id, record.size)).collect();
        for (block, state) in slices.iter().filter_map(|slice| known.get(slice)).flatten() {
            let (key, len, state) = (block.object.clone(), block.len, state.clone());
            report.blocks.push(DamagedBlock { ino: list.ino, key, len, state });
        }
    }
    Ok(())
}

/// Bytes of a block's object if it is there, and what is wrong with it if anything is.
async fn state(volume: &Volume, lens: &StoredLens<'_>, block: &SliceBlock) -> (Option<u64>, Option<ObjectState>) {
    match volume.objects.head(&block.object).await {
        Ok(meta) if lens.fits(block.len, &meta) => (Some(meta.len), None),
        Ok(meta) => (Some(meta.len), Some(ObjectState::WrongSize(meta.len))),
        Err(error) if error.kind() == ErrorKind::NotFound => (None, Some(ObjectState::Missing)),
        Err(error) => (None, Some(ObjectState::Unknown(error.to_string()))),
    }
}

/// Which lengths stored blocks can have.
struct StoredLens<'a> {
    volume: &'a Volume,
    /// What is stored is compressed: it may be shorter than plain.
    compressed: bool,
}

impl StoredLens<'_> {
    fn of(volume: &Volume) -> StoredLens<'_> {
        StoredLens { volume, compressed: is_compressed(&volume.settings) }
    }

    /// True if an object can be a stored block of `len` plain bytes.
    fn fits(&self, len: u32, meta: &ObjectMeta) -> bool {
        let most = self.volume.codec.max_stored_len(len);
        if self.compressed { (1..=most).contains(&meta.len) } else { meta.len == most }
    }
}

fn is_compressed(settings: &Settings) -> bool {
    !matches!(settings.compression.as_str(), "" | "none")
}
