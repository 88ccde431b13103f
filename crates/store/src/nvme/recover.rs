//! Rebuilds the index of a directory from its segments: two pages of each full one, a walk over record heads in the others.
//!
//! Reads only heads: data is checked on each read. Several threads read, so that the device always has something to do; what they find is
//! put into the index by age, so that the newest place of a block wins.

use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

use super::ages::Ages;
use super::contents::{Contents, Source};
use super::dir::Claimed;
use super::index::{Index, Location};
use super::layout::{FooterEntry, Place, SECTOR};
use super::segment::{Open, Segments};
use crate::io::buffer::Pool;

/// What a directory held.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Segments,
    /// The segment to continue with, if the last one had room.
    pub(crate) open: Option<Open>,
    /// Number of the current writing of each segment that has one.
    pub(crate) writings: Vec<(u32, u64)>,
    /// When what lies in each segment was written.
    pub(crate) ages: Vec<(u32, Ages)>,
    /// The next free number.
    pub(crate) next_seq: u64,
}

/// Added to the highest number found, at least and at most: above whatever a crash may have left behind unseen, and by chance, because what
/// a loss of power leaves of one life lies above the same highest number as the next: a footer of then must not speak for the segment that
/// is written now. The numbers last for millions of restarts.
const SEQ_GAPS: Range<u64> = 1 << 20..1 << 40;

/// Reads what `dir`, number `number` of the store, holds and puts it into `index`. Blocks.
pub(crate) fn recover(dir: &Claimed, number: u16, index: &Index, pool: &Pool) -> Recovered {
    let mut segments = Segments::default();
    let mut found = Vec::new();
    for (segment, contents) in read_all(dir, pool) {
        match contents {
            Ok(Some(one)) => found.push(one),
            Ok(None) => segments.free.push_back(segment),
            Err(error) => {
                let dir = dir.config.path.display();
                tracing::warn!(%dir, segment, %error, "a part of the cache cannot be read and is left unused");
            }
        }
    }
    found.sort_by_key(|one| one.seq);
    let highest = found.iter().map(|one| one.last_seq.max(one.seq)).max();
    // A new directory starts at a random number, so that a slab of an earlier life never matches by chance.
    let random = shoal_runtime::rng::random_u64();
    let gap = SEQ_GAPS.start + random % (SEQ_GAPS.end - SEQ_GAPS.start);
    let next_seq = highest.map_or(random >> 2 | 1, |seq| seq.saturating_add(gap));
    let writings = found.iter().map(|one| (one.segment, one.seq)).collect();
    let last = found.len();
    let mut open = None;
    let mut ages = Vec::new();
    for (order, one) in found.into_iter().enumerate() {
        publish(&one, number, index);
        let mut of = Ages::default();
        one.entries.iter().for_each(|entry| of.note(entry.place.start, entry.written));
        ages.push((one.segment, of));
        let resumed = Open {
            segment: one.segment,
            seq: one.seq,
            end: one.end.unwrap_or(0).next_multiple_of(SECTOR),
            last_seq: one.last_seq,
            has_head: true,
            entries: one.entries,
        };
        if order + 1 == last && one.end.is_some() {
            open = Some(resumed);
        } else {
            segments.sealed.push_back(resumed.seal().0);
        }
    }
    Recovered { segments, open, writings, ages, next_seq }
}

/// Threads that read segments: as many reads as a device needs to be busy.
const READERS: usize = 8;

/// What every segment of `dir` holds, in their order.
fn read_all(dir: &Claimed, pool: &Pool) -> Vec<(u32, io::Result<Option<Contents>>)> {
    let read_some = |first: usize| {
        let read = |offset, len| dir.slab.read(pool, offset, len);
        let source = Source { read: &read, dir_id: dir.id.0, segment_bytes: dir.geometry.segment_bytes };
        let some = (0..dir.geometry.segments).skip(first).step_by(READERS);
        some.map(|segment| (segment, source.contents(segment))).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let reader = |first| {
            let named = thread::Builder::new().name("store-recover".into());
            named.spawn_scoped(scope, move || read_some(first)).expect("the operating system grants a thread")
        };
        let readers: Vec<_> = (0..READERS).map(reader).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    all.sort_by_key(|(segment, _)| *segment);
    all
}

fn publish(of: &Contents, dir: u16, index: &Index) {
    for FooterEntry { id, place, .. } in &of.entries {
        let Place { start, data_off, len } = *place;
        let generation = of.seq as u32;
        index.put(*id, Location { dir, segment: of.segment, generation, start, data_off, len });
    }
}
