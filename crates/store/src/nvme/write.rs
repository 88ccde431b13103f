//! The writer of one directory: a thread that appends queued blocks to the open segment, many small ones in one write.
//!
//! It copies blocks into page-aligned buffers, checksumming on the way, and hands them to the device; up to four writes are under way.
//! A block becomes readable when its write completed, never before. The thread may block on the device; nobody else does.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use shoal_runtime::budget::Permit;
use shoal_runtime::clock;
use shoal_types::BlockId;
use tokio::sync::{mpsc, oneshot};

use super::dir::{Dir, Outage};
use super::evict::take_segment;
use super::flights::Flights;
use super::index::{Index, Location};
use super::layout::{Footer, Place, RecordHead, SECTOR, SegmentHead, Stamp};
use super::recover::Recovered;
use super::segment::{Open, Segments};
use super::table::{PageTable, Tables};
use crate::io::buffer::{Buf, Pool, align_up};
use crate::io::device::{Op, Request};
use crate::metrics::StoreMetrics;

/// A batch is closed once it has this many bytes: large enough for the device's full speed, small enough to be written soon.
const BATCH_BYTES: u32 = 1 << 20;

/// Jobs that wait for the writer; the byte budget of the queue bounds large blocks, this bounds small ones.
pub(crate) const QUEUE_JOBS: usize = 4096;

/// A block to write.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: BlockId,
    /// The encoded key.
    pub(crate) key: Vec<u8>,
    pub(crate) data: Bytes,
    /// Told when the block is on the device.
    pub(crate) reply: oneshot::Sender<Result<(), Refusal>>,
    /// The job's share of the queue's bytes.
    pub(crate) _permit: Permit,
}

/// Why a block was not written.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// It does not fit in a segment, which holds this many bytes.
    TooLarge(u64),
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
}

/// The thread's state.
pub(crate) struct Writer {
    dir: Arc<Dir>,
    shared: Shared,
    jobs: mpsc::Receiver<Job>,
    /// A job that did not fit the batch before.
    held: Option<Job>,
    segments: Segments,
    open: Option<Open>,
    next_seq: u64,
    flights: Arc<Flights>,
    /// Footers that wait for the last write to their segment.
    sealing: Vec<(u32, Footer)>,
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

impl Writer {
    /// A writer for `dir` that continues where `recovered` ended.
    pub(crate) fn new(dir: Arc<Dir>, recovered: Recovered, jobs: mpsc::Receiver<Job>, shared: Shared) -> Writer {
        for (segment, seq) in recovered.writings {
            dir.set_writing(segment, seq);
        }
        let Recovered { segments, open, next_seq, .. } = recovered;
        let (flights, sealing) = (Arc::default(), Vec::new());
        Writer { dir, shared, jobs, held: None, segments, open, next_seq, flights, sealing }
    }

    /// Writes until every sender of jobs is gone and all writes ended, then lets the directory go.
    pub(crate) fn run(mut self) {
        while let Some(job) = self.next() {
            self.write_footers();
            if let Some(batch) = self.fill_batch(job) {
                self.submit(batch);
            }
        }
        self.flights.settle_all();
        self.dir.close();
    }

    fn next(&mut self) -> Option<Job> {
        if let Some(job) = self.held.take() {
            return Some(job);
        }
        if let Ok(job) = self.jobs.try_recv() {
            return Some(job);
        }
        for (segment, _) in &self.sealing {
            self.flights.settle(*segment);
        }
        self.write_footers();
        self.jobs.blocking_recv()
    }

    /// Places `first`, and then what waits, until the batch or the segment is full. `None` if `first` was refused.
    fn fill_batch(&mut self, first: Job) -> Option<Batch> {
        if let Some(outage) = self.dir.outage() {
            return refuse(first, Refusal::Outage(outage));
        }
        let mut batch = self.start_batch(first)?;
        while batch.end - batch.start < BATCH_BYTES
            && let Ok(job) = self.jobs.try_recv()
        {
            match self.place(&job) {
                Some(place) => batch.push(job, place),
                None => {
                    self.held = Some(job);
                    break;
                }
            }
        }
        if let Some(open) = &mut self.open {
            open.pad();
            open.last_seq = batch.first_seq + batch.jobs.len() as u64 - 1;
        }
        self.next_seq += batch.jobs.len() as u64;
        Some(batch)
    }

    /// A batch with one job, in a new segment if the open one is full. `None` if the job was refused.
    fn start_batch(&mut self, job: Job) -> Option<Batch> {
        let block_bytes_max = self.dir.rules.block_bytes_max();
        if job.data.len() as u64 > block_bytes_max {
            return refuse(job, Refusal::TooLarge(block_bytes_max));
        }
        let mut place = self.place(&job);
        if place.is_none() {
            if let Err(outage) = self.next_segment() {
                return refuse(job, Refusal::Outage(outage));
            }
            place = self.place(&job);
        }
        let (Some(place), Some(open)) = (place, &mut self.open) else {
            return refuse(job, Refusal::TooLarge(block_bytes_max));
        };
        let start = if open.has_head { place.start - place.start % SECTOR } else { 0 };
        open.has_head = true;
        let (segment, segment_seq, first_seq) = (open.segment, open.seq, self.next_seq);
        let mut batch = Batch { segment, segment_seq, start, end: start, first_seq, jobs: Vec::new() };
        batch.push(job, place);
        Some(batch)
    }

    fn place(&mut self, job: &Job) -> Option<Place> {
        self.open.as_mut()?.place(job.id, job.key.len(), job.data.len() as u32, self.dir.rules)
    }

    /// Seals the open segment and opens another, evicting the oldest if none is free.
    fn next_segment(&mut self) -> Result<(), Outage> {
        if let Some(full) = self.open.take() {
            let segment = full.segment;
            let (sealed, footer) = full.seal();
            self.segments.sealed.push_back(sealed);
            self.sealing.push((segment, footer));
        }
        let taken = take_segment(&mut self.segments, &self.dir, &self.shared.index, &self.flights);
        let Some((segment, evicted)) = taken else {
            return Err(self.dir.fail(io::Error::other("no part of the directory can be read")));
        };
        self.shared.metrics.evicted(evicted);
        self.dir.count_evicted(evicted);
        // A footer that was not written by now belongs to what is overwritten.
        self.sealing.retain(|(sealing, _)| *sealing != segment);
        self.dir.set_writing(segment, self.next_seq);
        self.open = Some(Open::new(segment, self.next_seq));
        self.next_seq += 1;
        Ok(())
    }

    /// Writes the footers whose segments have no write under way.
    fn write_footers(&mut self) {
        let (ready, waiting) = std::mem::take(&mut self.sealing).into_iter().partition(|(s, _)| !self.flights.busy(*s));
        self.sealing = waiting;
        for (segment, footer) in ready {
            let mut buf = self.shared.pool.get(Footer::bytes_for(footer.entries.len()) as usize);
            footer.encode(&mut buf);
            let at = self.dir.rules.segment_bytes as u32 - buf.len() as u32;
            let dir = Arc::clone(&self.dir);
            self.send(segment, at, buf, move |result| {
                if let Err(error) = result {
                    dir.fail(error);
                }
            });
        }
    }

    /// Copies the batch into one buffer and hands it to the device.
    fn submit(&mut self, batch: Batch) {
        let started = clock::now();
        let mut buf = self.shared.pool.get(align_up((batch.end - batch.start) as usize));
        let (segment, start) = (batch.segment, batch.start);
        let (written, replies) = batch.write(&mut buf, &self.dir);
        let (dir, shared, bytes) = (Arc::clone(&self.dir), self.shared.clone(), buf.len());
        self.send(segment, start, buf, move |result| match result {
            Ok(()) => {
                shared.metrics.wrote(bytes, clock::now() - started);
                shared.publish(&dir, written, replies);
            }
            Err(error) => {
                let refusal = Refusal::Outage(dir.fail(error));
                replies.into_iter().for_each(|reply| drop(reply.send(Err(refusal.clone()))));
            }
        });
    }

    fn send(&self, segment: u32, at: u32, buf: Buf, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.flights.begin(segment);
        let flight = Flight { flights: Arc::clone(&self.flights), segment };
        let done = Box::new(move |result, buf| {
            drop(buf);
            done(result);
            drop(flight);
        });
        self.dir.device.submit(Request { op: Op::Write, offset: self.dir.offset(segment, at), buf, done });
    }
}

/// Counts a write down when it ends, and also when a dying device drops it.
struct Flight {
    flights: Arc<Flights>,
    segment: u32,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.end(self.segment);
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
    fn publish(&self, dir: &Dir, written: Vec<Written>, replies: Vec<Reply>) {
        for Written { id, at, table } in written {
            self.index.put(id, at);
            if let Some(table) = table {
                self.tables.put(id, at, table);
            }
        }
        // A directory that failed meanwhile was emptied, perhaps before these blocks came.
        let result = match dir.outage() {
            None => Ok(()),
            Some(outage) => {
                self.index.remove_dir(dir.number);
                Err(Refusal::Outage(outage))
            }
        };
        replies.into_iter().for_each(|reply| drop(reply.send(result.clone())));
    }
}

impl Batch {
    fn push(&mut self, job: Job, place: Place) {
        self.end = place.end();
        self.jobs.push((job, place));
    }

    /// Fills `buf` with the batch's records, lets the blocks go, and gives what to publish and whom to tell.
    fn write(self, buf: &mut [u8], dir: &Dir) -> (Vec<Written>, Vec<Reply>) {
        let mut at = 0;
        if self.start == 0 {
            let head = SegmentHead { dir_id: dir.id.0, index: self.segment, seq: self.segment_seq };
            at = SECTOR as usize;
            head.encode(&mut buf[..at]);
        }
        let mut written = Vec::with_capacity(self.jobs.len());
        let mut replies = Vec::with_capacity(self.jobs.len());
        for ((job, place), seq) in self.jobs.into_iter().zip(self.first_seq..) {
            let (start, end) = ((place.start - self.start) as usize, (place.end() - self.start) as usize);
            // Recycled buffers hold old bytes: gaps are zeroed, so that no old head is found in one.
            buf[at..start].fill(0);
            let stamp = Stamp { id: job.id, segment_seq: self.segment_seq, seq };
            let table =
                RecordHead::write(&mut buf[start..end], place, dir.rules.page_bytes, stamp, &job.key, &job.data);
            at = end;
            let Place { start, data_off, len } = place;
            let generation = self.segment_seq as u32;
            written.push(Written {
                id: job.id,
                at: Location { dir: dir.number, segment: self.segment, generation, start, data_off, len },
                table: (!place.is_packed()).then(|| Arc::new(table)),
            });
            replies.push(job.reply);
        }
        buf[at..].fill(0);
        (written, replies)
    }
}
