//! The writer of one directory: a thread that appends queued blocks to the open segment, many small ones in one write.
//!
//! It copies blocks into page-aligned buffers, checksumming on the way, and hands them to the device; up to four batches are under way. A
//! large block goes in pieces: the device writes one while the next is copied, and the piece with the head, which needs all checksums, last.
//! One that lies in memory of the store's pool goes from there: it is hashed while the device writes it, and never copied.
//! A block becomes readable when its writes completed, never before. The thread may block on the device; nobody else does.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use shoal_runtime::budget::Permit;
use shoal_runtime::clock;
use shoal_types::checksum::crc32c;
use shoal_types::{BlockId, ByteSize, PageTable};
use tokio::sync::{mpsc, oneshot};

use super::ages::Ages;
use super::dir::Dir;
use super::evict::{Judge, Saved, Verdict, Wanted, forget};
use super::index::{Index, Location};
use super::landing::Landing;
use super::layout::{Footer, FooterEntry, Place, RecordHead, SECTOR, SegmentHead, Stamp, copy_pages};
use super::recover::Recovered;
use super::rules::{RuleBook, Rules};
use super::segment::{Open, Sealed, Segments};
use super::slab::Slab;
use super::space::SEGMENTS_MIN;
use super::table::Tables;
use super::watch::Outage;
use crate::io::buffer::{Buf, Pool, align_up};
use crate::io::device::{Cargo, Lent};
use crate::metrics::StoreMetrics;
use crate::sums::Sums;

/// A batch is closed once it has this many bytes: large enough for the device's full speed, small enough to be written soon.
const BATCH_BYTES: u32 = 1 << 20;

/// Bytes of a piece of a large block: large enough for the device's full speed, small enough that it starts soon. A multiple of pages up to
/// its size; a block of larger pages goes whole.
const PIECE_BYTES: usize = 512 << 10;

/// A block of at least this many bytes is written from where it lies, if that is in memory of the pool: two pieces or more.
pub(crate) const LENT_MIN: usize = 2 * PIECE_BYTES;

/// Segments that stay free, so that there is somewhere to carry blocks to before their segment is forgotten.
const SPARE: usize = 1;

/// The share of a directory's bytes that pinned blocks may take beyond their time: 1/2.
const PINNED_DIVISOR: u64 = 2;

/// The share of a directory's segments that may stay for their pinned blocks: 1/2.
const KEPT_DIVISOR: usize = 2;

/// Tasks that wait for the writer; the byte budget of the queue bounds large blocks, this bounds small ones.
pub(crate) const QUEUE_TASKS: usize = 4096;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Write a block.
    Write(Job),
    /// Give segments back to the file system, or take some: the directory's goal changed.
    Fit,
}

/// A block to write.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: BlockId,
    /// The encoded key.
    pub(crate) key: Vec<u8>,
    pub(crate) data: Bytes,
    /// Where the page checksums go, which are computed on the way to the device.
    pub(crate) sums: Sums,
    /// When the block was stored first: Unix time in seconds.
    pub(crate) written: u32,
    /// Told when the block is on the device.
    pub(crate) reply: oneshot::Sender<Result<(), Refusal>>,
    /// The job's share of the queue's bytes; a block that is carried forward was let in long ago.
    pub(crate) _permit: Option<Permit>,
}

/// Why a block was not written.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// It does not fit in a segment, which holds this many bytes.
    TooLarge(u64),
    /// The device refused it.
    Failed(Arc<io::Error>),
    /// The directory is out of service.
    Outage(Outage),
}

/// What the writers of all directories share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) index: Arc<Index>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) pool: Pool,
    pub(crate) metrics: Arc<StoreMetrics>,
    pub(crate) rules: Arc<RuleBook>,
    /// Whether RAM has a block.
    pub(crate) wanted: Arc<Wanted>,
}

/// The thread's state.
pub(crate) struct Writer {
    dir: Arc<Dir>,
    shared: Shared,
    tasks: mpsc::Receiver<Task>,
    slab: Slab,
    /// Segments that the file system has.
    parked: Vec<u32>,
    /// A job that did not fit the batch before.
    held: Option<Job>,
    segments: Segments,
    open: Option<Open>,
    next_seq: u64,
    /// Footers that wait for the last write to their segment.
    sealing: Vec<(u32, Footer)>,
    /// Pinned blocks that were carried forward or kept, by segment.
    pinned: HashMap<u32, Pinned>,
}

/// Pinned blocks in one segment that would have left without their pins.
#[derive(Default)]
struct Pinned {
    bytes: u64,
    /// The version of the rules that keeps the segment as it is.
    kept: Option<u64>,
}

/// Blocks placed side by side in the open segment.
struct Batch {
    segment: u32,
    segment_seq: u64,
    /// Byte of the segment where the batch starts; 0 if it brings the segment's head.
    start: u32,
    end: u32,
    /// Record numbers count up from here.
    first_seq: u64,
    jobs: Vec<(Job, Place)>,
}

impl Drop for Writer {
    /// Without its writer a directory is closed, also if that panicked.
    fn drop(&mut self) {
        self.dir.close();
    }
}

impl Writer {
    /// A writer for `dir` that continues where `recovered` ended.
    pub(crate) fn new(
        dir: Arc<Dir>,
        slab: Slab,
        recovered: Recovered,
        tasks: mpsc::Receiver<Task>,
        shared: Shared,
    ) -> Writer {
        for (segment, seq) in recovered.writings {
            dir.set_writing(segment, seq);
        }
        for (segment, ages) in recovered.ages {
            dir.set_ages(segment, ages);
        }
        let Recovered { segments, open, next_seq, .. } = recovered;
        let mut writer = Writer {
            dir,
            shared,
            tasks,
            slab,
            parked: Vec::new(),
            held: None,
            segments,
            open,
            next_seq,
            sealing: Vec::new(),
            pinned: HashMap::new(),
        };
        if writer.dir.goal() < writer.dir.segments() {
            // Which of the empty ones are reserved is not known: none is taken to be.
            writer.parked.extend(writer.segments.free.drain(..).rev());
        }
        writer.dir.set_reserved(writer.dir.segments() - writer.parked.len() as u32);
        writer.dir.set_full(writer.segments.free.len() <= SPARE);
        writer
    }

    /// Writes until every sender of jobs is gone and all writes ended, then lets the directory go. Does not wait for a device that hangs.
    pub(crate) fn run(mut self) {
        self.fit();
        while let Some(job) = self.next() {
            self.write_footers();
            if let Some(batch) = self.fill_batch(job) {
                self.submit(batch);
            }
        }
        self.dir.device.settle_all();
    }

    fn next(&mut self) -> Option<Job> {
        if let Some(job) = self.held.take() {
            return Some(job);
        }
        loop {
            let task = match self.tasks.try_recv() {
                Ok(task) => task,
                Err(_) => {
                    for (segment, _) in &self.sealing {
                        self.dir.device.settle(*segment);
                    }
                    self.write_footers();
                    self.tasks.blocking_recv()?
                }
            };
            match task {
                Task::Write(job) => return Some(job),
                Task::Fit => self.fit(),
            }
        }
    }

    /// Reserves segments or gives some back, until there are as many as the directory should have.
    fn fit(&mut self) {
        let goal = self.dir.goal().max(SEGMENTS_MIN) as usize;
        let all = self.dir.segments() as usize;
        let before = all - self.parked.len();
        while all - self.parked.len() < goal
            && let Some(segment) = self.parked.pop()
        {
            let bytes = self.dir.rules.segment_bytes;
            if let Err(error) = self.slab.reserve(self.dir.offset(segment, 0), bytes) {
                tracing::debug!(dir = %self.dir.path.display(), %error, "no room for a segment");
                self.parked.push(segment);
                break;
            }
            self.segments.free.push_back(segment);
        }
        while all - self.parked.len() > goal && self.park() {}
        let now = all - self.parked.len();
        self.dir.set_reserved(now as u32);
        self.dir.set_full(self.segments.free.len() <= SPARE);
        if now != before {
            let (dir, size) = (self.dir.path.display(), ByteSize(self.dir.limit()));
            match now > before {
                true => tracing::info!(%dir, %size, "the file system has room again: the cache grew"),
                false => tracing::warn!(%dir, %size, "the file system is short of room: the cache shrank"),
            }
        }
    }

    /// Bytes left in the open segment.
    fn open_room(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| self.dir.rules.segment_bytes.saturating_sub(open.end.into()))
    }

    /// Gives a segment back to the file system, the oldest if none is to spare; false if that cannot be done.
    fn park(&mut self) -> bool {
        if self.segments.free.len() <= SPARE && !self.make_room(self.open_room()) {
            return false;
        }
        let Some(segment) = self.segments.free.pop_back() else { return false };
        self.dir.device.settle(segment);
        match self.slab.release(self.dir.offset(segment, 0), self.dir.rules.segment_bytes) {
            Ok(()) => {
                self.parked.push(segment);
                true
            }
            Err(error) => {
                tracing::warn!(dir = %self.dir.path.display(), %error, "the file system takes no space back from the cache");
                self.segments.free.push_back(segment);
                false
            }
        }
    }

    /// Places `first`, and then what waits, until the batch or the segment is full. `None` if `first` was refused.
    fn fill_batch(&mut self, first: Job) -> Option<Batch> {
        if let Some(outage) = self.dir.device.outage() {
            return refuse(first, Refusal::Outage(outage));
        }
        let mut batch = self.start_batch(first)?;
        while batch.end - batch.start < BATCH_BYTES
            && let Ok(task) = self.tasks.try_recv()
        {
            let Task::Write(job) = task else {
                // The keeper asks again.
                continue;
            };
            match self.place(&job) {
                Some(place) => batch.push(job, place),
                None => {
                    self.held = Some(job);
                    break;
                }
            }
        }
        self.end_batch(&batch);
        Some(batch)
    }

    /// Takes the batch's numbers, and has the next one start at a sector.
    fn end_batch(&mut self, batch: &Batch) {
        if let Some(open) = &mut self.open {
            open.pad();
            open.last_seq = batch.first_seq + batch.jobs.len() as u64 - 1;
        }
        self.next_seq += batch.jobs.len() as u64;
    }

    /// A batch with one job, in a new segment if the open one is full. `None` if the job was refused.
    fn start_batch(&mut self, job: Job) -> Option<Batch> {
        let block_bytes_max = self.dir.rules.block_bytes_max();
        if job.data.len() as u64 > block_bytes_max {
            return refuse(job, Refusal::TooLarge(block_bytes_max));
        }
        let mut place = self.place(&job).filter(|_| !self.is_broken());
        // What is carried forward leaves room for the block; if that was too little after all, nothing is carried the second time.
        let alone = Place::after(SECTOR, job.key.len(), job.data.len() as u32, self.dir.rules.page_bytes);
        let block = u64::from(alone.end().next_multiple_of(SECTOR) + Footer::bytes_for(1));
        for reserve in [block, self.dir.rules.segment_bytes] {
            if place.is_none() {
                if let Err(outage) = self.next_segment(reserve) {
                    return refuse(job, Refusal::Outage(outage));
                }
                place = self.place(&job);
            }
        }
        match place {
            Some(place) => self.batch_of(job, place),
            None => refuse(job, Refusal::TooLarge(block_bytes_max)),
        }
    }

    /// A batch with one job that was placed in the open segment.
    fn batch_of(&mut self, job: Job, place: Place) -> Option<Batch> {
        let open = self.open.as_mut()?;
        let start = if open.has_head { place.start - place.start % SECTOR } else { 0 };
        open.has_head = true;
        let (segment, segment_seq, first_seq) = (open.segment, open.seq, self.next_seq);
        let mut batch = Batch { segment, segment_seq, start, end: start, first_seq, jobs: Vec::new() };
        batch.push(job, place);
        Some(batch)
    }

    /// Whether a write to the open segment failed, so that nothing behind it would be found again.
    fn is_broken(&self) -> bool {
        self.open.as_ref().is_some_and(|open| self.dir.device.is_broken(open.segment))
    }

    fn place(&mut self, job: &Job) -> Option<Place> {
        let place =
            self.open.as_mut()?.place(job.id, job.key.len(), job.data.len() as u32, job.written, self.dir.rules)?;
        if let Some(open) = &self.open {
            self.dir.note_written(open.segment, place.start, job.written);
        }
        Some(place)
    }

    /// Seals the open segment and opens another; forgets the oldest if no spare one is left, but keeps `reserve` bytes of the new one free of
    /// what is carried forward.
    fn next_segment(&mut self, reserve: u64) -> Result<(), Outage> {
        if let Some(full) = self.open.take() {
            self.seal(full);
        }
        if self.segments.free.is_empty() {
            // Only after a crash, or when the directory was made smaller, is there no spare segment to carry blocks to.
            self.make_room(0);
        }
        let Some(segment) = self.segments.free.pop_front() else {
            let error = io::Error::other("no part of the directory can be read");
            self.dir.device.fail(io::Error::other(error.to_string()));
            return Err(Outage::Failed(Arc::new(error)));
        };
        self.dir.device.settle(segment);
        self.dir.device.mend(segment);
        self.dir.set_ages(segment, Ages::default());
        self.dir.set_writing(segment, self.next_seq);
        self.shared.metrics.segment_begun();
        self.open = Some(Open::new(segment, self.next_seq));
        self.next_seq += 1;
        let room = self.dir.rules.segment_bytes.saturating_sub(reserve);
        while self.segments.free.len() < SPARE && self.make_room(room) {}
        self.dir.set_full(self.segments.free.len() <= SPARE);
        Ok(())
    }

    /// Forgets the oldest segment after what is worth it, `room` bytes at most, was carried to the open one, if there is one; false if none can
    /// be forgotten now.
    fn make_room(&mut self, room: u64) -> bool {
        let rules = self.shared.rules.current();
        for _ in 0..self.segments.sealed.len() {
            let Some(oldest) = self.segments.sealed.pop_front() else { break };
            let kept = self.pinned.get(&oldest.segment).and_then(|pinned| pinned.kept);
            if rules.pins() && !rules.expires() && kept == Some(rules.version) {
                self.segments.sealed.push_back(oldest);
                continue;
            }
            self.pinned.remove(&oldest.segment);
            match self.judge(&rules, &oldest, room) {
                Verdict::Keep { pinned } => {
                    self.pinned.insert(oldest.segment, Pinned { bytes: pinned, kept: Some(rules.version) });
                    self.segments.sealed.push_back(oldest);
                }
                Verdict::Forget { saved, pins_refused } => {
                    self.shared.metrics.pins_refused(pins_refused);
                    self.carry(saved);
                    if !self.dir.works() {
                        // What was carried may not have arrived: look again when the directory is back.
                        self.segments.sealed.push_front(oldest);
                        return false;
                    }
                    self.forget(&oldest);
                    return true;
                }
            }
        }
        false
    }

    fn judge(&self, rules: &Rules, oldest: &Sealed, room: u64) -> Verdict {
        let Shared { index, pool, wanted, .. } = &self.shared;
        let kept = self.pinned.values().filter(|pinned| pinned.kept.is_some()).count();
        let bytes: u64 = self.pinned.values().map(|pinned| pinned.bytes).sum();
        let pin_room = (self.dir.limit() / PINNED_DIVISOR).saturating_sub(bytes);
        let may_keep = kept < self.dir.segments() as usize / KEPT_DIVISOR;
        Judge { dir: &self.dir, index, pool, rules, wanted: &**wanted, room, pin_room, may_keep }.judge(oldest)
    }

    /// Writes blocks to the open segment and waits until they are there.
    fn carry(&mut self, saved: Vec<Saved>) {
        let Some(open) = self.open.as_ref().map(|open| open.segment) else { return };
        let mut batch: Option<Batch> = None;
        for Saved { id, key, data, written, pinned } in saved {
            let (reply, _) = oneshot::channel();
            let job = Job { id, key, data, sums: Sums::default(), written, reply, _permit: None };
            let Some(place) = self.place(&job) else { break };
            self.shared.metrics.carried(job.data.len());
            if pinned > 0 {
                self.pinned.entry(open).or_default().bytes += pinned;
            }
            match &mut batch {
                Some(batch) => batch.push(job, place),
                None => batch = self.batch_of(job, place),
            }
            if batch.as_ref().is_some_and(|batch| batch.end - batch.start >= BATCH_BYTES) {
                self.submit_carried(batch.take());
            }
        }
        self.submit_carried(batch);
        self.dir.device.settle(open);
    }

    fn submit_carried(&mut self, batch: Option<Batch>) {
        if let Some(batch) = batch {
            self.end_batch(&batch);
            self.submit(batch);
        }
    }

    /// Forgets a segment: it is free from now on.
    fn forget(&mut self, oldest: &Sealed) {
        let evicted = forget(oldest, &self.dir, &self.shared.index);
        self.shared.metrics.evicted(evicted);
        self.dir.count_evicted(evicted);
        // A footer that was not written by now would belong to what is overwritten.
        self.sealing.retain(|(sealing, _)| *sealing != oldest.segment);
        self.segments.free.push_back(oldest.segment);
        // A restart must not find the segment again: it would miss the spare one then.
        let mut head = self.shared.pool.get(SECTOR as usize);
        head.fill(0);
        self.write_alone(oldest.segment, 0, head);
    }

    /// A write that nobody waits for.
    fn write_alone(&self, segment: u32, at: u32, buf: Buf) {
        let landing = Landing::begin(&self.dir.device, segment, 1);
        landing.then(|_| {});
        self.send(&landing, segment, at, Cargo::Store(buf));
    }

    /// Ends a segment: one that holds nothing is free again, any other is full.
    fn seal(&mut self, full: Open) {
        let segment = full.segment;
        let (sealed, footer) = full.seal();
        if self.dir.device.is_broken(segment)
            && !self.dir.device.busy(segment)
            && self.live(segment, &footer).is_empty()
        {
            self.dir.set_writing(segment, 0);
            self.segments.free.push_front(segment);
            return;
        }
        self.segments.sealed.push_back(sealed);
        self.sealing.push((segment, footer));
    }

    /// The blocks of a segment that can be read.
    fn live(&self, segment: u32, footer: &Footer) -> Vec<FooterEntry> {
        let here = |entry: &&FooterEntry| {
            let at = self.shared.index.get(entry.id);
            at.is_some_and(|at| at.dir == self.dir.number && at.segment == segment && at.start == entry.place.start)
        };
        footer.entries.iter().filter(here).copied().collect()
    }

    /// Writes the footers whose segments have no write under way. They name what arrived, so a hole hides nothing behind it.
    fn write_footers(&mut self) {
        let device = &self.dir.device;
        let (ready, waiting) = std::mem::take(&mut self.sealing).into_iter().partition(|(s, _)| !device.busy(*s));
        self.sealing = waiting;
        for (segment, mut footer) in ready {
            footer.entries = self.live(segment, &footer);
            let mut buf = self.shared.pool.get(Footer::bytes_for(footer.entries.len()) as usize);
            footer.encode(&mut buf);
            let at = self.dir.rules.segment_bytes as u32 - buf.len() as u32;
            self.dir.device.mend(segment);
            // Without a footer a restart walks over the records.
            self.write_alone(segment, at, buf);
        }
    }

    /// Copies what cannot be lent into a buffer and hands the batch to the device, piece by piece.
    fn submit(&mut self, batch: Batch) {
        let started = clock::now();
        let (segment, start) = (batch.segment, batch.start);
        let (lent, lent_bytes) = batch.lent(&self.shared.pool, self.dir.rules.page_bytes);
        let bytes = align_up((batch.end - start) as usize);
        let buf = self.shared.pool.get(bytes - lent_bytes);
        let front = batch.front_bytes(self.dir.rules.page_bytes, lent_bytes);
        let pieces = 1 + lent.len() + buf.len().saturating_sub(front).div_ceil(PIECE_BYTES);
        let landing = Landing::begin(&self.dir.device, segment, pieces);
        for (at, lent) in lent {
            self.send(&landing, segment, at, Cargo::Lent(lent));
        }
        let mut copying = Copying::new(batch, self.dir.rules.page_bytes);
        copying.hash_lent(lent_bytes);
        let (mut first, mut rest) = buf.split(front);
        let mut at = start + (first.len() + lent_bytes) as u32;
        while let Some(behind) = rest {
            let (mut piece, behind) = behind.split(PIECE_BYTES);
            copying.piece(&mut piece, at);
            let next = at + piece.len() as u32;
            self.send(&landing, segment, at, Cargo::Store(piece));
            (at, rest) = (next, behind);
        }
        let (written, replies) = copying.finish(&mut first, &self.dir);
        let (dir, shared) = (Arc::clone(&self.dir), self.shared.clone());
        landing.then(move |result| match result {
            Ok(()) => {
                shared.metrics.wrote(bytes, clock::now() - started);
                shared.publish(written, replies);
            }
            Err(error) => {
                let error = Arc::new(error);
                let refusal = dir.device.outage().map_or(Refusal::Failed(error), Refusal::Outage);
                replies.into_iter().for_each(|reply| drop(reply.send(Err(refusal.clone()))));
            }
        });
        self.send(&landing, segment, start, Cargo::Store(first));
    }

    fn send(&self, landing: &Arc<Landing>, segment: u32, at: u32, cargo: Cargo) {
        landing.send(&self.dir.device, self.dir.offset(segment, at), at, cargo);
    }
}

fn refuse(job: Job, refusal: Refusal) -> Option<Batch> {
    // Who asked may be gone.
    let _ = job.reply.send(Err(refusal));
    None
}

/// A block that will be readable once its write completed.
struct Written {
    id: BlockId,
    at: Location,
    /// For blocks that are read in parts.
    table: Option<Arc<PageTable>>,
}

type Reply = oneshot::Sender<Result<(), Refusal>>;

impl Shared {
    /// Makes written blocks readable and answers those who wait.
    fn publish(&self, written: Vec<Written>, replies: Vec<Reply>) {
        for Written { id, at, table } in written {
            self.index.put(id, at);
            if let Some(table) = table {
                self.tables.put(id, at, table);
            }
        }
        replies.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
    }
}

impl Batch {
    fn push(&mut self, job: Job, place: Place) {
        self.end = place.end();
        self.jobs.push((job, place));
    }

    /// The batch's large block, which is its last if there is one.
    fn large(&self, page_bytes: u32) -> Option<&(Job, Place)> {
        let is_large =
            |place: &Place| place.len as usize >= LENT_MIN && page_bytes as usize <= PIECE_BYTES && !place.is_packed();
        self.jobs.last().filter(|(_, place)| is_large(place))
    }

    /// Pieces of the large block that the device can write from where they lie, with their places in the segment, and their bytes: all of
    /// the block's whole pages, or none.
    fn lent(&self, pool: &Pool, page_bytes: u32) -> (Vec<(u32, Lent)>, usize) {
        let Some((job, place)) = self.large(page_bytes).filter(|(job, _)| pool.holds(&job.data)) else {
            return (Vec::new(), 0);
        };
        let len = job.data.len() - job.data.len() % page_bytes as usize;
        let first = place.start + place.data_off;
        let piece = |from: usize| {
            let lent = Lent::new(job.data.slice(from..len.min(from + PIECE_BYTES)))?;
            Some((first + from as u32, lent))
        };
        match (0..len).step_by(PIECE_BYTES).map(piece).collect() {
            Some(pieces) => (pieces, len),
            None => (Vec::new(), 0),
        }
    }

    /// Bytes of the batch's first piece: up to the large block if `lent_bytes` of that are lent, else up to its first [`PIECE_BYTES`].
    fn front_bytes(&self, page_bytes: u32, lent_bytes: usize) -> usize {
        let copied = if lent_bytes > 0 { 0 } else { PIECE_BYTES };
        self.large(page_bytes)
            .map_or(usize::MAX, |(_, place)| (place.start + place.data_off - self.start) as usize + copied)
    }
}

/// Copies a batch to where it is written from, its first piece last: the heads in it need all checksums.
struct Copying {
    batch: Batch,
    page_bytes: u32,
    /// Checksums of each block's pages.
    crcs: Vec<Box<[u32]>>,
}

impl Copying {
    fn new(batch: Batch, page_bytes: u32) -> Copying {
        let pages = |place: &Place| place.len.div_ceil(page_bytes) as usize;
        let crcs = batch.jobs.iter().map(|(_, place)| vec![0; pages(place)].into_boxed_slice()).collect();
        Copying { batch, page_bytes, crcs }
    }

    /// Computes the checksums of the first `len` bytes of the last block, whole pages, which are written from where they lie.
    fn hash_lent(&mut self, len: usize) {
        let (Some((job, _)), Some(crcs)) = (self.batch.jobs.last(), self.crcs.last_mut()) else { return };
        let pages = job.data[..len].chunks(self.page_bytes as usize);
        pages.zip(crcs).for_each(|(page, crc)| *crc = crc32c(page));
    }

    /// Fills a piece behind the first: bytes of the last block from byte `at` of the segment on.
    fn piece(&mut self, piece: &mut [u8], at: u32) {
        let (Some((job, place)), Some(crcs)) = (self.batch.jobs.last(), self.crcs.last_mut()) else { return };
        let from = (at - place.start - place.data_off) as usize;
        let data = job.data.get(from..).unwrap_or_default();
        let len = data.len().min(piece.len());
        copy_pages(&mut piece[..len], &data[..len], self.page_bytes, &mut crcs[from / self.page_bytes as usize..]);
        piece[len..].fill(0);
    }

    /// Fills the first piece but for the heads in it.
    fn first(&mut self, first: &mut [u8]) {
        let mut at = 0;
        for ((job, place), crcs) in self.batch.jobs.iter().zip(&mut self.crcs) {
            let start = (place.start + place.data_off - self.batch.start) as usize;
            // Recycled buffers hold old bytes: gaps are zeroed, so that no old head is found in one.
            first[at..start].fill(0);
            // Of a block that is lent nothing lies here.
            let len = job.data.len().min(first.len() - start);
            at = start + len;
            copy_pages(&mut first[start..at], &job.data[..len], self.page_bytes, crcs);
        }
        first[at..].fill(0);
    }

    /// Fills the first piece after all others, lets the blocks go, and gives what to publish and whom to tell.
    fn finish(mut self, first: &mut [u8], dir: &Dir) -> (Vec<Written>, Vec<Reply>) {
        self.first(first);
        let Batch { segment, segment_seq, start: base, first_seq, jobs, .. } = self.batch;
        if base == 0 {
            SegmentHead { dir_id: dir.id.0, index: segment, seq: segment_seq }.encode(&mut first[..SECTOR as usize]);
        }
        let mut written = Vec::with_capacity(jobs.len());
        let mut replies = Vec::with_capacity(jobs.len());
        for (((job, place), crcs), seq) in jobs.into_iter().zip(self.crcs).zip(first_seq..) {
            let Place { start, data_off, len } = place;
            let head = &mut first[(start - base) as usize..(start - base + data_off) as usize];
            let stamp = Stamp { id: job.id, segment_seq, seq, written: job.written };
            let table = Arc::new(RecordHead::encode(head, place, self.page_bytes, stamp, &job.key, crcs));
            job.sums.set(&table);
            let generation = segment_seq as u32;
            written.push(Written {
                id: job.id,
                at: Location { dir: dir.number, segment, generation, start, data_off, len },
                table: (!place.is_packed()).then_some(table),
            });
            replies.push(job.reply);
        }
        (written, replies)
    }
}
