//! What was written to one file and is not in the volume yet: slices in the order they were begun.
//!
//! Pure: time comes in as an argument, uploads and commits are done by the caller. A write goes into a young slice of its chunk
//! or begins one (spec section 28.1). Slices are committed in the order they were begun, over the whole file, so that a file grows
//! as its writer wrote it and a crash leaves a state the file once had between two commits.

use std::collections::BTreeMap;
use std::time::Instant;

use shoal_format::{CHUNK_BYTES, SliceRecord, Time};
use shoal_runtime::budget::Permit;

use super::slice::{Held, Slice, Upload};

/// Slices of one chunk that may still be written to; the fifth freezes the first (spec section 28.1).
const OPEN_MAX: usize = 4;
/// Slices that one file may have pending: 4 KiB written at random a thousand times. More wait for a commit.
const SLICES_MAX: usize = 1024;
/// Slices one commit takes at most: with the list they go to just short of where its writer waits for a compaction, fewer records
/// than MySQL takes.
const COMMIT_MAX: usize = 128;

/// What is written and not committed of one file.
#[derive(Debug)]
pub(crate) struct Pending {
    block_size: u32,
    /// By number, which is the order they were begun in.
    slices: BTreeMap<u64, Slice>,
    /// Numbers of a chunk's slices, oldest first; frozen ones first.
    chunks: BTreeMap<u32, Vec<u64>>,
    next: u64,
}

/// A stretch of pending bytes inside a read.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Where its first byte goes in the answer.
    pub at: usize,
    /// The bytes, or where they are.
    pub held: Held,
}

/// What the front of the queue is ready for.
#[derive(Debug)]
pub(crate) enum Front {
    /// These slices may be committed together.
    Commit(Vec<Ready>),
    /// This slice can never be; it is out of the queue.
    Failed(Ready),
    /// Nothing before this time, unless something else happens.
    Wait(Option<Instant>),
    /// Nothing is pending.
    Empty,
}

/// A slice whose blocks are all stored, or that was given up.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub number: u64,
    pub chunk: u32,
    pub record: SliceRecord,
    /// Time of the last write into it.
    pub mtime: Time,
}

impl Ready {
    fn of(slice: &Slice) -> Ready {
        Ready { number: slice.number, chunk: slice.chunk, record: slice.record(), mtime: slice.mtime }
    }
}

impl Pending {
    pub(crate) fn new(block_size: u32) -> Pending {
        Pending { block_size, slices: BTreeMap::new(), chunks: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// True if a new slice would be one too many: writers wait for a commit.
    pub(crate) fn is_full(&self) -> bool {
        self.slices.len() >= SLICES_MAX
    }

    /// Number of the oldest pending slice; every slice below it is done.
    pub(crate) fn done_below(&self) -> u64 {
        self.slices.keys().next().copied().unwrap_or(self.next)
    }

    /// Number that the next slice gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// One past the last pending byte of the file, and when it was written to last; `None` if nothing is pending.
    pub(crate) fn end_and_time(&self) -> Option<(u64, Time)> {
        let ends = self.slices.values().map(|slice| u64::from(slice.chunk) * CHUNK_BYTES + slice.end());
        let times = self.slices.values().map(|slice| slice.mtime);
        Some((ends.max()?, times.max()?))
    }

    /// Takes `data` in at `pos` of `chunk`, which it must not leave. `memory` pays for it; what is left of it comes back when
    /// this returns. Gives the blocks that are full now.
    pub(crate) fn write(
        &mut self,
        chunk: u32,
        pos: u32,
        data: &[u8],
        memory: &mut Permit,
        (now, mtime): (Instant, Time),
    ) -> Vec<Upload> {
        let number = self.writable(chunk, pos, data.len() as u32).unwrap_or_else(|| self.begin(chunk, pos, now));
        let slice = self.slices.get_mut(&number).expect("it was found or begun");
        (slice.mtime, slice.touched) = (mtime, now);
        let mut uploads = slice.put(pos, data, memory);
        let numbers = &self.chunks[&chunk];
        if let Some(last) = numbers.len().checked_sub(OPEN_MAX + 1) {
            uploads.extend(self.freeze_until(chunk, numbers[last]));
        }
        if u64::from(pos) + data.len() as u64 == CHUNK_BYTES {
            // It cannot grow; the slices before it must not be written to behind its back.
            uploads.extend(self.freeze_until(chunk, number));
        }
        uploads
    }

    /// The youngest slice of the chunk that takes a write at `pos`, if nothing younger lies in the way.
    fn writable(&self, chunk: u32, pos: u32, len: u32) -> Option<u64> {
        for number in self.chunks.get(&chunk)?.iter().rev() {
            let slice = &self.slices[number];
            if slice.takes(pos) {
                return Some(*number);
            }
            if slice.overlaps(pos, len) {
                return None;
            }
        }
        None
    }

    fn begin(&mut self, chunk: u32, pos: u32, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.slices.insert(number, Slice::new(number, (chunk, pos), self.block_size, now));
        self.chunks.entry(chunk).or_default().push(number);
        number
    }

    /// Freezes what is old enough at `now`; gives the blocks to store.
    pub(crate) fn freeze_due(&mut self, now: Instant) -> Vec<Upload> {
        let is_due = |number: &&u64| self.slices[number].due().is_some_and(|due| due <= now);
        let youngest_due = |(chunk, numbers): (&u32, &Vec<u64>)| Some((*chunk, *numbers.iter().rev().find(is_due)?));
        let due: Vec<(u32, u64)> = self.chunks.iter().filter_map(youngest_due).collect();
        due.into_iter().flat_map(|(chunk, number)| self.freeze_until(chunk, number)).collect()
    }

    /// Freezes everything; gives the blocks to store.
    pub(crate) fn freeze_all(&mut self) -> Vec<Upload> {
        self.slices.values_mut().filter_map(Slice::freeze).collect()
    }

    fn freeze_until(&mut self, chunk: u32, last: u64) -> Vec<Upload> {
        let numbers = self.chunks.get(&chunk).into_iter().flatten().take_while(|number| **number <= last);
        numbers.filter_map(|number| self.slices.get_mut(number)?.freeze()).collect()
    }

    /// A block was stored.
    pub(crate) fn stored(&mut self, number: u64, block: u32, now: Instant) {
        if let Some(slice) = self.slices.get_mut(&number) {
            slice.stored(block, now);
        }
    }

    /// A block can never be stored: its slice is given up.
    pub(crate) fn give_up(&mut self, number: u64) {
        if let Some(slice) = self.slices.get_mut(&number) {
            slice.failed = true;
        }
    }

    /// What the oldest slices are ready for. Those to be committed stay until [`Pending::forget`].
    pub(crate) fn front(&mut self) -> Front {
        let Some(first) = self.slices.first_entry() else { return Front::Empty };
        if first.get().failed {
            let (number, slice) = first.remove_entry();
            self.unlist(slice.chunk, number);
            return Front::Failed(Ready::of(&slice));
        }
        let ready: Vec<Ready> = self
            .slices
            .values()
            .take_while(|slice| !slice.failed && slice.is_stored())
            .take(COMMIT_MAX)
            .map(Ready::of)
            .collect();
        if !ready.is_empty() {
            return Front::Commit(ready);
        }
        Front::Wait(self.slices.values().filter_map(Slice::due).min())
    }

    /// These slices are in the volume, or were refused for good.
    pub(crate) fn forget(&mut self, done: &[Ready]) {
        for ready in done {
            self.slices.remove(&ready.number);
            self.unlist(ready.chunk, ready.number);
        }
    }

    fn unlist(&mut self, chunk: u32, number: u64) {
        if let Some(numbers) = self.chunks.get_mut(&chunk) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.chunks.remove(&chunk);
            }
        }
    }

    /// Pending bytes of `start..end` of the chunk, older ones first; the byte at `start` goes to `at` of the answer.
    pub(crate) fn overlay(&self, chunk: u32, start: u32, end: u32, at: usize, out: &mut Vec<Overlay>) {
        for number in self.chunks.get(&chunk).into_iter().flatten() {
            self.slices[number]
                .held(start, end, |pos, held| out.push(Overlay { at: at + (pos - start) as usize, held }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shoal_runtime::budget::Budget;
    use shoal_runtime::{clock, rng};

    use super::*;

    const BLOCK: u32 = 16;

    struct Bed {
        pending: Pending,
        budget: Budget,
        now: Instant,
        /// What is on its way.
        uploads: Vec<Upload>,
        next_id: u64,
    }

    impl Bed {
        fn new() -> Bed {
            let (pending, budget) = (Pending::new(BLOCK), Budget::new(1 << 20));
            Bed { pending, budget, now: clock::now(), uploads: Vec::new(), next_id: 1 }
        }

        fn write(&mut self, chunk: u32, pos: u32, data: &[u8]) -> usize {
            let mut memory = self.budget.try_acquire(data.len() as u64).expect("enough memory");
            let time = Time { secs: 7, nanos: pos };
            let uploads = self.pending.write(chunk, pos, data, &mut memory, (self.now, time));
            let count = uploads.len();
            self.uploads.extend(uploads);
            count
        }

        fn freeze_all(&mut self) {
            self.uploads.extend(self.pending.freeze_all());
        }

        /// Stores block `nth` of those on their way.
        fn store(&mut self, nth: usize) -> Upload {
            let upload = self.uploads.remove(nth);
            if upload.id.get().is_none() {
                upload.id.set(self.next_id).expect("it has none");
                self.next_id += 1;
            }
            self.pending.stored(upload.number, upload.block, self.now);
            upload
        }

        fn store_all(&mut self) {
            while !self.uploads.is_empty() {
                self.store(0);
            }
        }

        /// Commits what is ready; gives the records.
        fn commit(&mut self) -> Vec<(u32, SliceRecord)> {
            let Front::Commit(ready) = self.pending.front() else { return Vec::new() };
            self.pending.forget(&ready);
            ready.into_iter().map(|slice| (slice.chunk, slice.record)).collect()
        }
    }

    #[test]
    fn a_stream_is_one_slice_whose_full_blocks_go_at_once() {
        let mut bed = Bed::new();
        let sent: Vec<usize> = (0..10).map(|n| bed.write(0, n * 10, &[n as u8; 10])).collect();
        assert_eq!(sent, [0, 1, 0, 1, 1, 0, 1, 1, 0, 1]);
        assert_eq!(bed.commit(), [], "it is still written to");
        bed.freeze_all();
        assert_eq!(
            bed.uploads.iter().map(|upload| upload.bytes.len()).collect::<Vec<_>>(),
            [16, 16, 16, 16, 16, 16, 4]
        );
        bed.store_all();
        assert_eq!(bed.commit(), [(0, SliceRecord::whole(0, 1, 100))]);
        assert!(bed.pending.is_empty());
        assert_eq!(bed.budget.used(), 0, "memory comes back with the blocks");
    }

    #[test]
    fn an_overwrite_of_what_is_on_its_way_is_another_slice() {
        let mut bed = Bed::new();
        bed.write(0, 0, &[1; 20]);
        bed.write(0, 17, &[2; 5]);
        assert_eq!(bed.budget.used(), 22, "bytes written twice are held once");
        bed.write(0, 3, &[3; 5]);
        bed.freeze_all();
        bed.store_all();
        assert_eq!(bed.commit(), [(0, SliceRecord::whole(0, 1, 22)), (0, SliceRecord::whole(3, 2, 5))]);
    }

    #[test]
    fn a_younger_slice_in_the_way_is_never_written_under() {
        let mut bed = Bed::new();
        bed.write(0, 0, &[1; 10]);
        bed.write(0, 50, &[2; 10]);
        bed.write(0, 10, &[3; 10]);
        assert_eq!(bed.pending.next(), 2, "the first slice grows beside the second");
        bed.write(0, 20, &[4; 40]);
        assert_eq!(bed.pending.next(), 3, "it may not grow under the second");
        bed.freeze_all();
        bed.store_all();
        let records = bed.commit();
        assert_eq!(records.len(), 3);
        assert_eq!((records[2].1.pos, records[2].1.len), (20, 40));
    }

    #[test]
    fn slices_are_committed_in_the_order_they_were_begun() {
        let mut bed = Bed::new();
        bed.write(1, 0, &[1; 16]);
        bed.write(0, 0, &[2; 16]);
        bed.freeze_all();
        bed.store(1);
        assert_eq!(bed.commit(), [], "the first is not stored");
        bed.store(0);
        assert_eq!(bed.commit().iter().map(|(chunk, _)| *chunk).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn age_and_younger_slices_freeze() {
        let mut bed = Bed::new();
        let begin = bed.now;
        bed.write(0, 0, &[1; 3]);
        for n in 1..=OPEN_MAX as u32 {
            assert_eq!(bed.uploads.len(), 0);
            bed.write(0, n * 100, &[1; 3]);
        }
        assert_eq!(bed.uploads.len(), 1, "the fifth slice froze the first");
        bed.uploads.clear();

        let mut bed = Bed::new();
        bed.write(0, 0, &[1; 3]);
        bed.now = begin + Duration::from_millis(900);
        bed.write(1, 0, &[1; 3]);
        assert!(bed.pending.freeze_due(begin + Duration::from_millis(999)).is_empty());
        let Front::Wait(Some(until)) = bed.pending.front() else { panic!("nothing is stored") };
        let frozen = bed.pending.freeze_due(until);
        assert_eq!(
            frozen.iter().map(|upload| upload.number).collect::<Vec<_>>(),
            [0],
            "nobody wrote to it for a second"
        );
        for tenth in 10..60 {
            bed.now = begin + Duration::from_millis(tenth * 100);
            bed.write(1, 3, &[2; 3]);
            assert!(tenth >= 59 || bed.pending.freeze_due(bed.now).is_empty(), "{tenth}");
        }
        assert_eq!(
            bed.pending.freeze_due(begin + Duration::from_millis(5900)).len(),
            1,
            "at five seconds, busy or not"
        );
    }

    #[test]
    fn a_slice_that_cannot_be_stored_lets_the_next_ones_pass() {
        let mut bed = Bed::new();
        bed.write(0, 0, &[1; 20]);
        bed.write(0, 100, &[2; 4]);
        bed.freeze_all();
        bed.store(2);
        bed.pending.give_up(0);
        assert!(matches!(bed.pending.front(), Front::Failed(slice) if slice.number == 0));
        assert_eq!(bed.commit(), [(0, SliceRecord::whole(100, 1, 4))]);
        assert!(matches!(bed.pending.front(), Front::Empty));
    }

    #[test]
    fn the_end_of_a_chunk_ends_its_slice() {
        let mut bed = Bed::new();
        bed.write(0, CHUNK_BYTES as u32 - 10, &[1; 10]);
        assert_eq!(bed.uploads.len(), 1);
        bed.store_all();
        assert_eq!(bed.commit(), [(0, SliceRecord::whole(CHUNK_BYTES as u32 - 10, 1, 10))]);
        assert_eq!(bed.pending.end_and_time(), None);
    }

    /// Random writes, freezes, stores and commits: what was committed, with what is pending over it, is what was written.
    #[test]
    fn pending_bytes_over_committed_ones_are_what_was_written() {
        const LEN: usize = 300;
        let seed = rng::random_u64();
        println!("seed {seed}");
        let mut state = seed | 1;
        let mut dice = move |n: usize| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 33) as usize % n
        };
        let (mut bed, mut model, mut volume) = (Bed::new(), vec![0u8; LEN], vec![0u8; LEN]);
        let mut objects: BTreeMap<(u64, u32), Vec<u8>> = BTreeMap::new();
        for step in 0..3000 {
            match dice(8) {
                0..4 => {
                    let (pos, len) = (dice(LEN), 1 + dice(40));
                    let data = vec![1 + dice(255) as u8; len.min(LEN - pos)];
                    model[pos..pos + data.len()].copy_from_slice(&data);
                    bed.write(0, pos as u32, &data);
                }
                4 if !bed.uploads.is_empty() => {
                    let upload = bed.store(dice(bed.uploads.len()));
                    let object = ((*upload.id.get().expect("stored"), upload.block), upload.bytes.to_vec());
                    assert!(objects.insert(object.0, object.1).is_none(), "an object was written twice");
                }
                5 if dice(10) == 0 => bed.freeze_all(),
                6 => {
                    bed.now += Duration::from_millis(300);
                    let uploads = bed.pending.freeze_due(bed.now);
                    bed.uploads.extend(uploads);
                }
                _ => {
                    for (_, record) in bed.commit() {
                        for at in 0..record.len {
                            let object = &objects[&(record.id, at / BLOCK)];
                            volume[(record.pos + at) as usize] = object[(at % BLOCK) as usize];
                        }
                    }
                }
            }
            let (start, len) = (dice(LEN), 1 + dice(LEN));
            let end = LEN.min(start + len);
            let (mut seen, mut over) = (volume[start..end].to_vec(), Vec::new());
            bed.pending.overlay(0, start as u32, end as u32, 0, &mut over);
            for Overlay { at, held } in over {
                match held {
                    Held::Bytes(bytes) => seen[at..at + bytes.len()].copy_from_slice(&bytes),
                    Held::Stored { id, block, block_len, off, len } => {
                        let object = &objects[&(id, block)];
                        assert_eq!(object.len(), block_len as usize);
                        seen[at..at + len as usize].copy_from_slice(&object[off as usize..(off + len) as usize]);
                    }
                }
            }
            assert_eq!(seen, model[start..end], "step {step}, seed {seed}");
        }
    }
}
