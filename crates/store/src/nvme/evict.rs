//! Makes room: forgets the oldest segment, all but the blocks worth keeping, which are read first so that the writer copies them forward.
//!
//! Kept are blocks that were read since they were written, or that RAM has now, up to a quarter of the segment: with that, first in first
//! out keeps what is in use as well as LRU does, for a sixth more writes (measured: `examples/policy.rs`). And pinned blocks, up to half of
//! the segment, and half of the directory in all; a segment with more of them stays as it is and goes to the end of the line.

use std::io;

use bytes::Bytes;
use shoal_types::{BlockId, BlockKey};

use super::dir::Dir;
use super::index::{Index, Location};
use super::key;
use super::layout::{RecordHead, SECTOR};
use super::rules::{Rules, unix_seconds};
use super::segment::Sealed;
use crate::io::buffer::Pool;

/// The share of a segment that blocks in use may be carried forward of: 1/4.
const HOT_DIVISOR: u64 = 4;
/// The share of a segment that pinned blocks are carried forward of, and beyond which it stays: 1/2.
const PINNED_DIVISOR: u64 = 2;
/// Blocks that lie side by side are read together up to so many bytes.
const WINDOW_BYTES: u32 = 1 << 20;

/// Whether a block is wanted for a reason the index does not know: RAM has it.
pub(crate) type Wanted = dyn Fn(BlockId) -> bool + Send + Sync;

/// A block to be written again.
pub(crate) struct Saved {
    pub(crate) id: BlockId,
    /// The encoded key.
    pub(crate) key: Vec<u8>,
    pub(crate) data: Bytes,
    /// When it was stored first.
    pub(crate) written: u32,
    /// What it takes if it is pinned, else 0.
    pub(crate) pinned: u64,
}

/// What is to become of the oldest segment.
pub(crate) enum Verdict {
    /// Forget it once these are written again; how many pinned blocks were beyond the bound.
    Forget { saved: Vec<Saved>, pins_refused: u64 },
    /// Keep it: most of it is pinned; so many bytes.
    Keep { pinned: u64 },
}

/// Judges segments of one directory.
pub(crate) struct Judge<'a> {
    pub(crate) dir: &'a Dir,
    pub(crate) index: &'a Index,
    pub(crate) pool: &'a Pool,
    pub(crate) rules: &'a Rules,
    pub(crate) wanted: &'a Wanted,
    /// Bytes that there is room for where blocks are carried to.
    pub(crate) room: u64,
    /// Bytes of pinned blocks that may still be carried forward or kept.
    pub(crate) pin_room: u64,
    /// Whether one more segment may be kept for its pinned blocks.
    pub(crate) may_keep: bool,
}

/// A live block of the segment that is judged.
#[derive(Clone, Copy)]
struct Candidate {
    id: BlockId,
    at: Location,
    hits: u8,
    pinned: bool,
}

impl Judge<'_> {
    /// What is to become of `sealed`. Blocks on the device.
    pub(crate) fn judge(&self, sealed: &Sealed) -> Verdict {
        let live = self.live(sealed);
        let segment_bytes = self.dir.rules.segment_bytes;
        let mut pins_refused = 0;
        let mut chosen = if self.rules.pins() { self.pinned(&live) } else { Vec::new() };
        let (pinned, most) = (bytes(&chosen), segment_bytes / PINNED_DIVISOR);
        if pinned > most && self.may_keep && pinned <= self.pin_room {
            return Verdict::Keep { pinned };
        }
        let most = most.min(self.pin_room).min(self.room);
        if pinned > most {
            let all = chosen.len();
            chosen = within(chosen, most);
            pins_refused = (all - chosen.len()) as u64;
        }
        chosen.iter_mut().for_each(|one| one.pinned = true);
        let mut hot: Vec<_> = live
            .into_iter()
            .map(|one| Candidate { hits: one.hits.saturating_add((self.wanted)(one.id).into()), ..one })
            .filter(|one| one.hits > 0 && !chosen.iter().any(|pinned| pinned.id == one.id))
            .collect();
        hot.sort_by_key(|one| std::cmp::Reverse(one.hits));
        let left = self.room.saturating_sub(bytes(&chosen));
        chosen.extend(within(hot, left.min(segment_bytes / HOT_DIVISOR)));
        // In the order they are written again: if there is too little room, it is for the pinned ones.
        chosen.sort_by_key(|one| (!one.pinned, one.at.start));
        Verdict::Forget { saved: self.read(&chosen), pins_refused }
    }

    fn live(&self, sealed: &Sealed) -> Vec<Candidate> {
        let here = |id: &BlockId| {
            let (at, hits) = self.index.peek(*id)?;
            let here = at.dir == self.dir.number && at.segment == sealed.segment && self.dir.is_current(&at);
            here.then_some(Candidate { id: *id, at, hits, pinned: false })
        };
        sealed.ids.iter().filter_map(here).collect()
    }

    /// Those whose keys say that they are pinned and not too old. Reads every head.
    fn pinned(&self, live: &[Candidate]) -> Vec<Candidate> {
        let mut in_order = live.to_vec();
        in_order.sort_by_key(|one| one.at.start);
        let mut pinned = Vec::new();
        self.each(
            &in_order,
            |one| one.at.data_off,
            |one, record| {
                let key = RecordHead::key(&record).and_then(key::decode);
                let pins = |key| self.rules.of(&key).is_some_and(|rule| rule.pin) && self.is_young(&key, &one.at);
                if key.is_some_and(pins) {
                    pinned.push(*one);
                }
            },
        );
        pinned
    }

    /// The blocks, verified, but for those that are damaged or too old.
    fn read(&self, chosen: &[Candidate]) -> Vec<Saved> {
        let mut saved = Vec::with_capacity(chosen.len());
        self.each(chosen, |one| one.at.data_off + one.at.len, |one, record| saved.extend(self.verify(one, &record)));
        saved
    }

    fn verify(&self, one: &Candidate, record: &Bytes) -> Option<Saved> {
        let Candidate { id, at, .. } = *one;
        let (head, table) = RecordHead::decode(record)?;
        let data = record.slice(at.data_off as usize..(at.data_off + at.len) as usize);
        let key = RecordHead::key(record)?.to_vec();
        let same = head.id == id && head.segment_seq as u32 == at.generation && head.len == at.len;
        if !same || !(data.is_empty() || table.matches(0, &data)) {
            return None;
        }
        if self.rules.expires() && !key::decode(&key).is_some_and(|key| self.is_young(&key, &at)) {
            return None;
        }
        let written = self.dir.written_at(&at);
        let written = if written == 0 { unix_seconds() } else { written };
        Some(Saved { id, key, data, written, pinned: if one.pinned { footprint(one) } else { 0 } })
    }

    /// Whether the block is not too old by the rules.
    fn is_young(&self, key: &BlockKey, at: &Location) -> bool {
        self.dir.written_at(at) >= self.rules.stored_since(key)
    }

    /// Shows the first `wanted` bytes of the record of each of `some`, best in order, to `see`. What cannot be read is left out.
    fn each(&self, some: &[Candidate], wanted: impl Fn(&Candidate) -> u32, mut see: impl FnMut(&Candidate, Bytes)) {
        let end = |one: &Candidate| one.at.start + wanted(one);
        let mut rest = some;
        while let Some(first) = rest.first() {
            let start = first.at.start - first.at.start % SECTOR;
            let near = |one: &&Candidate| one.at.start >= start && end(one) - start <= WINDOW_BYTES;
            let together = rest.iter().take_while(near).count().max(1);
            let (now, later) = rest.split_at(together);
            rest = later;
            let Some(stop) = now.iter().map(end).max() else { return };
            match self.fetch(first.at.segment, start, stop - start) {
                Ok(bytes) => now.iter().for_each(|one| {
                    see(one, bytes.slice((one.at.start - start) as usize..(end(one) - start) as usize));
                }),
                Err(error) => {
                    let dir = self.dir.path.display();
                    tracing::debug!(%dir, segment = first.at.segment, %error, "blocks to keep could not be read");
                }
            }
        }
    }

    fn fetch(&self, segment: u32, start: u32, len: u32) -> io::Result<Bytes> {
        let buf = self.pool.get(len as usize);
        Ok(Bytes::from_owner(self.dir.device.read_now(self.dir.offset(segment, start), buf)?))
    }
}

/// What a record takes at most when it is written again.
fn footprint(one: &Candidate) -> u64 {
    u64::from(one.at.data_off) + u64::from(one.at.len).next_multiple_of(SECTOR.into())
}

fn bytes(some: &[Candidate]) -> u64 {
    some.iter().map(footprint).sum()
}

/// As many of `some`, from the front, as fit in `limit` bytes.
fn within(some: Vec<Candidate>, limit: u64) -> Vec<Candidate> {
    let mut left = limit;
    let fits = |one: &Candidate| match left.checked_sub(footprint(one)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    some.into_iter().filter(fits).collect()
}

/// Forgets `sealed`, all that is still in it; says how many blocks that were.
///
/// When it returns no location in the segment is current and none of its blocks is in the index.
pub(crate) fn forget(sealed: &Sealed, dir: &Dir, index: &Index) -> u64 {
    // First stale, then forgotten, then overwritten: a reader that found a block here sees that it is gone.
    dir.set_writing(sealed.segment, 0);
    let forgotten = |id| index.remove_if(id, |at| at.dir == dir.number && at.segment == sealed.segment);
    sealed.ids.iter().filter(|&&id| forgotten(id)).count() as u64
}
