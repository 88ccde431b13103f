//! Replacing many records of a chunk by one (spec section 10): which ones, and the exchange of records once its bytes are stored.

use async_trait::async_trait;
use shoal_format::{Ino, Piece, PieceSource, SliceRecord, resolve};

use super::change::{Change, ChangeContext};
use super::length::locked_file;
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::{DelayedSlices, SliceRef};

/// Records one compaction takes at most.
const RECORDS_MAX: usize = 1000;
/// A first record of this many bytes may be left as it is, bytes.
const LARGE_BYTES: u32 = 1 << 20;
/// It may if it is at least this part of all that would be written anew.
const LARGE_SHARE: u64 = 5;

/// What a compaction of a chunk reads and replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactPlan {
    /// The list's first records, as read.
    old: Vec<SliceRecord>,
    /// How many of them stay.
    skip: usize,
    /// Where the new slice begins in the chunk.
    pub pos: u32,
    /// Its bytes.
    pub size: u32,
}

/// What one slice is to be made of: `None` where that is not worth it.
pub fn plan_compaction(records: &[SliceRecord]) -> Option<CompactPlan> {
    let old = &records[..records.len().min(RECORDS_MAX)];
    let mut skip = 0;
    while old.get(skip).is_some_and(|first| stays(first, &old[skip..])) {
        skip += 1;
    }
    if old.len() - skip < 2 {
        return None;
    }
    let (pos, size) = extent(&resolve(&old[skip..]))?;
    Some(CompactPlan { old: old.to_vec(), skip, pos, size })
}

/// True if `first`, the first of `rest`, is large, whole in what they show together, and not shown again.
fn stays(first: &SliceRecord, rest: &[SliceRecord]) -> bool {
    let pieces = resolve(rest);
    let Some((_, size)) = extent(&pieces) else { return false };
    let whole = |piece: &Piece| {
        let source = PieceSource::Slice { id: first.id, size: first.size, off: first.off };
        first.id != 0 && piece.pos == first.pos && piece.len == first.len && piece.source == source
    };
    let again = |piece: &Piece| matches!(piece.source, PieceSource::Slice { id, .. } if id == first.id);
    first.len >= LARGE_BYTES
        && u64::from(first.len) * LARGE_SHARE >= u64::from(size)
        && pieces.first().is_some_and(whole)
        && !pieces[1..].iter().any(again)
}

/// First byte and number of bytes from the first that is no hole to the last; of holes alone, one byte of them.
fn extent(pieces: &[Piece]) -> Option<(u32, u32)> {
    let holds = |piece: &&Piece| piece.source != PieceSource::Hole;
    match (pieces.iter().find(holds), pieces.iter().rfind(holds)) {
        (Some(first), Some(last)) => Some((first.pos, last.pos + last.len - first.pos)),
        _ => pieces.first().map(|hole| (hole.pos, 1)),
    }
}

impl CompactPlan {
    /// The records that the new slice replaces: what it shows is what they show together.
    pub fn replaced(&self) -> &[SliceRecord] {
        &self.old[self.skip..]
    }
}

/// Exchanges records for one that names slice `id`, whose blocks are stored.
pub(crate) struct Compact<'a> {
    pub(crate) ino: Ino,
    pub(crate) index: u32,
    pub(crate) plan: &'a CompactPlan,
    pub(crate) id: u64,
}

/// What became of a compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compacted {
    /// Others changed the list before: the new slice is of no use.
    TooLate,
    /// The list is exchanged. Slices that nothing names any more: their objects are to be deleted.
    Done(Vec<SliceRef>),
}

#[async_trait]
impl Change for Compact<'_> {
    type Output = Compacted;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Compacted, Effects), MetaError> {
        locked_file(txn, self.ino).await?;
        let (plan, fresh) = (self.plan, SliceRecord::whole(self.plan.pos, self.id, self.plan.size));
        let new = [&plan.old[..plan.skip], &[fresh]].concat();
        if !txn.replace_slices(self.ino, self.index, &plan.old, &new).await? {
            return Ok((Compacted::TooLate, Effects::default()));
        }
        txn.insert_slice_refs(&[SliceRef { id: self.id, size: plan.size, count: 1 }]).await?;
        let entry = || LogEntry::new("COMPACTCHUNK").with(self.ino).with(self.index).with(plan.skip);
        let entry = || entry().with(plan.replaced().len()).with(plan.pos).with(self.id).with(plan.size);
        context.log(txn, entry).await?;
        let gone: Vec<&SliceRecord> = plan.replaced().iter().filter(|record| record.id != 0).collect();
        if context.settings.trash_days > 0 {
            let slices = gone.iter().map(|record| (record.id, record.size)).collect();
            txn.insert_delayed(&DelayedSlices { id: self.id, at: context.now.secs, slices }).await?;
            return Ok((Compacted::Done(Vec::new()), Effects::default()));
        }
        let mut dead = Vec::new();
        for record in gone {
            dead.extend(txn.drop_slice_refs(&[SliceRef { id: record.id, size: record.size, count: 1 }]).await?);
        }
        Ok((Compacted::Done(dead), Effects::default()))
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::rng;

    use super::*;

    const MIB: u32 = 1 << 20;

    fn shown(records: &[SliceRecord], at: u32) -> (u64, u32) {
        let holds = |piece: &&Piece| piece.pos <= at && at < piece.pos + piece.len;
        match resolve(records).iter().find(holds).map(|piece| (piece.pos, piece.source)) {
            Some((pos, PieceSource::Slice { id, off, .. })) => (id, off + (at - pos)),
            _ => (0, 0),
        }
    }

    #[test]
    fn small_writes_become_one_slice() {
        let records: Vec<_> = (0..12).map(|n| SliceRecord::whole(n * 2, 7 + u64::from(n), 5)).collect();
        let plan = plan_compaction(&records).expect("twelve records");
        assert_eq!(
            (plan.pos, plan.size, plan.replaced().len()),
            (0, 27, 12),
            "as seen of a real client: spec section 30"
        );
        assert_eq!(plan_compaction(&records[..1]), None);
        assert_eq!(plan_compaction(&[]), None);
    }

    #[test]
    fn a_large_whole_first_slice_stays() {
        let log: Vec<_> = (0..9).map(|n| SliceRecord::whole(4 * MIB + n * 10, 2 + u64::from(n), 10)).collect();
        let large = SliceRecord::whole(0, 1, 4 * MIB);
        let plan = plan_compaction(&[&[large], &log[..]].concat()).expect("ten records");
        assert_eq!((plan.pos, plan.size, plan.replaced().len()), (4 * MIB, 90, 9));
        let over = SliceRecord::whole(100, 50, 10);
        let plan = plan_compaction(&[&[large], &log[..], &[over]].concat()).expect("eleven records");
        assert_eq!((plan.pos, plan.size, plan.replaced().len()), (0, 4 * MIB + 90, 11), "it is not whole any more");
        assert_eq!(plan_compaction(&[large, SliceRecord::whole(5 * MIB, 2, 9)]), None, "one is left: nothing is won");
    }

    #[test]
    fn holes_at_the_ends_are_left_out() {
        let records = [SliceRecord::hole(0, 50), SliceRecord::whole(100, 1, 10), SliceRecord::hole(105, 500)];
        let plan = plan_compaction(&records).expect("three records");
        assert_eq!((plan.pos, plan.size), (100, 5));
        let holes = [SliceRecord::hole(40, 50), SliceRecord::hole(60, 500)];
        assert_eq!(plan_compaction(&holes).map(|plan| (plan.pos, plan.size)), Some((40, 1)));
    }

    #[test]
    fn what_a_chunk_shows_stays_the_same() {
        let seed = rng::random_u64();
        println!("seed {seed}");
        let mut state = seed | 1;
        let mut dice = move |n: u32| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 33) as u32 % n
        };
        for _ in 0..300 {
            let unit = if dice(2) == 0 { 10 } else { MIB };
            let records: Vec<SliceRecord> = (0..1 + dice(12))
                .map(|n| {
                    let (pos, len) = (dice(20) * unit, (1 + dice(5)) * unit);
                    if dice(4) == 0 {
                        SliceRecord::hole(pos, len)
                    } else {
                        SliceRecord::whole(pos, 1 + u64::from(n), len)
                    }
                })
                .collect();
            let Some(plan) = plan_compaction(&records) else { continue };
            let fresh = SliceRecord::whole(plan.pos, 99, plan.size);
            let new = [&plan.old[..plan.skip], &[fresh]].concat();
            for at in (0..26 * unit).step_by(unit as usize / 2) {
                let want = shown(&records, at);
                let got = match shown(&new, at) {
                    // A byte of the new slice is what the replaced records show there.
                    (99, off) => shown(plan.replaced(), plan.pos + off),
                    other => other,
                };
                assert_eq!(got, want, "{at} of {records:?}, seed {seed}");
            }
        }
    }
}
