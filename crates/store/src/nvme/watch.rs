//! The device of one directory, watched: every transfer is known from its start to its end, so that a device which errs or hangs is
//! taken out of service alone and nobody waits for it.
//!
//! * **Late reads.** A read that takes longer than its patience is given up: a miss now is better than a hit some day. Its buffer and
//!   its share of the bounds stay with the device until that returns them.
//! * **Outage.** Failures in a row, or a transfer older than the hang limit, take the directory out: everyone who waits is answered, new
//!   transfers are refused. It comes back when nothing is left with the device and a probe was written and read back (`keeper`).
//! * **Order.** A write counts once everything before it in its segment is on the device: recovery walks a segment from the front and
//!   stops at the first hole, so what was acknowledged must not lie behind one. A failed write fails those behind it.
//!
//! Time is counted in ticks of the keeper's thread: no clock is read for a transfer, and a process that was stopped for a minute does
//! not take its disks for hung.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::oneshot;

use crate::io::buffer::Buf;
use crate::io::device::{Cargo, Device, Done, Op, Request, Way, ended};
use crate::metrics::DirMetrics;

/// Failed reads in a row that take the directory out: one bad sector must not cost a whole device.
const READ_ERRORS_MAX: u32 = 8;
/// Failed writes in a row that take the directory out: a device remaps bad sectors on writes, so failing ones mean more.
const WRITE_ERRORS_MAX: u32 = 3;
/// Writes with the device at once: raw 4 MiB writes were no faster at depth 8 than at 1; a few hide the copying in between.
const WRITES_MAX: u32 = 4;

/// How long transfers may take, in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// A read older than this is given up.
    pub(crate) read_ticks: u64,
    /// A transfer older than this means that the device hangs.
    pub(crate) hang_ticks: u64,
}

/// Why a directory is out of service.
#[derive(Debug, Clone)]
pub(crate) enum Outage {
    Failed(Arc<io::Error>),
    Closed,
}

impl Outage {
    /// The outage as what a transfer meets.
    fn error(&self) -> io::Error {
        match self {
            Outage::Failed(error) => copy(error),
            Outage::Closed => io::Error::other("the cache directory is closed"),
        }
    }
}

/// An `io::Error` cannot be cloned: its number or its text is what matters.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// Told how a write ended; must be short and never block.
pub(crate) type Written = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A watched device; clones share it.
#[derive(Clone)]
pub(crate) struct Watched {
    device: Arc<dyn Device>,
    inner: Arc<Inner>,
}

/// What is known of the device. Knows not the device itself, which may drop a transfer and with it the last handle of this.
struct Inner {
    path: PathBuf,
    patience: Patience,
    metrics: DirMetrics,
    /// False once there is an outage.
    works: AtomicBool,
    tick: AtomicU64,
    table: Mutex<Table>,
    /// A write ended or the directory left service.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    outage: Option<Outage>,
    read_errors: u32,
    write_errors: u32,
    /// Transfers with the device, by slot.
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
    writes: u32,
    /// Segments with writes that were not answered.
    segments: HashMap<u32, Queue>,
    /// Segments with a hole: nothing that is written behind it counts.
    broken: HashSet<u32>,
    /// Keeps other processes out until the directory is closed and no write is on its way any more.
    lock: Option<File>,
}

/// A transfer with the device.
struct Flight {
    since: u64,
    what: What,
}

enum What {
    /// A read; nobody waits for it any more once it was given up.
    Read(Option<oneshot::Sender<io::Result<Buf>>>),
    /// A write to a segment.
    Write(u32),
}

/// The writes of one segment.
#[derive(Default)]
struct Queue {
    /// In the order they were started.
    pending: VecDeque<Pending>,
    /// How many are being answered at this moment.
    answering: usize,
}

/// A write that does not count yet.
struct Pending {
    slot: u32,
    /// Known before the last piece is sent; gone once it was answered.
    done: Option<Written>,
    /// Why it will not count, if the directory left service meanwhile.
    given_up: Option<Outage>,
    /// How it ended, if it did.
    result: Option<io::Result<()>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.inner.path).field("device", &self.device).finish_non_exhaustive()
    }
}

impl Watched {
    /// Watches `device`, which drives the slab in `path`, a directory that `lock` keeps other processes out of.
    pub(crate) fn new(
        device: Arc<dyn Device>,
        path: PathBuf,
        lock: File,
        patience: Patience,
        metrics: DirMetrics,
    ) -> Watched {
        metrics.in_service(true);
        let inner = Inner {
            path,
            patience,
            metrics,
            works: AtomicBool::new(true),
            tick: AtomicU64::new(0),
            table: Mutex::new(Table { lock: Some(lock), ..Table::default() }),
            changed: Condvar::new(),
        };
        Watched { device, inner: Arc::new(inner) }
    }

    /// Whether the directory is in service.
    pub(crate) fn works(&self) -> bool {
        self.inner.works.load(Ordering::Acquire)
    }

    /// Why the directory is out of service, if it is.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.inner.table.lock().outage.clone()
    }

    /// Starts to fill `buf` from `offset`. The device keeps `hold` with the buffer, longer than the future lives if need be.
    ///
    /// `TimedOut` if the device takes longer than the patience for reads.
    pub(crate) fn read<H: Send + 'static>(
        &self,
        offset: u64,
        buf: Buf,
        hold: H,
    ) -> impl Future<Output = io::Result<Buf>> + use<H> {
        let told = self.start_read(Way::Runtime, offset, buf, hold);
        async { told.await.unwrap_or_else(|_| Err(ended())) }
    }

    /// Fills `buf` from `offset` and blocks the thread until it is done, or given up.
    pub(crate) fn read_now(&self, offset: u64, buf: Buf) -> io::Result<Buf> {
        self.start_read(Way::Thread, offset, buf, ()).blocking_recv().unwrap_or_else(|_| Err(ended()))
    }

    fn start_read<H: Send + 'static>(
        &self,
        way: Way,
        offset: u64,
        buf: Buf,
        hold: H,
    ) -> oneshot::Receiver<io::Result<Buf>> {
        let (tell, told) = oneshot::channel();
        let slot = {
            let mut table = self.inner.table.lock();
            if let Some(outage) = &table.outage {
                let _ = tell.send(Err(outage.error()));
                return told;
            }
            table.add(self.inner.tick.load(Ordering::Relaxed), What::Read(Some(tell)))
        };
        let ticket = Ticket { inner: Arc::clone(&self.inner), op: Op::Read, slot: Some(slot) };
        let done = Box::new(move |result: io::Result<()>, cargo: Cargo| {
            ticket.end_read(result.and_then(|()| cargo.into_buf().ok_or_else(ended)));
            drop(hold);
        });
        self.device.submit(Request { way, offset, cargo: Cargo::Fill(buf), done });
        told
    }

    /// The right to write to `segment`, after waiting for a turn; the error says why there is none.
    pub(crate) fn begin_write(&self, segment: u32) -> io::Result<Ticket> {
        let mut table = self.inner.table.lock();
        while table.outage.is_none() && table.writes >= WRITES_MAX {
            self.inner.changed.wait(&mut table);
        }
        if let Some(error) = table.refusal(segment) {
            table.broken.insert(segment);
            return Err(error);
        }
        let slot = table.add_write(segment, self.inner.tick.load(Ordering::Relaxed));
        Ok(Ticket { inner: Arc::clone(&self.inner), op: Op::Write, slot: Some(slot) })
    }

    /// Writes `cargo` at `offset`; for one who has the right to.
    pub(crate) fn write(&self, offset: u64, cargo: Cargo, done: Done) {
        self.device.submit(Request { way: Way::Thread, offset, cargo, done });
    }

    /// Whether a write to `segment` is under way or being answered.
    pub(crate) fn busy(&self, segment: u32) -> bool {
        self.inner.table.lock().segments.contains_key(&segment)
    }

    /// Whether there is a hole in what was written to `segment`.
    pub(crate) fn is_broken(&self, segment: u32) -> bool {
        self.inner.table.lock().broken.contains(&segment)
    }

    /// Forgets the hole in `segment`: it is about to be written anew, or gets a footer that names what is intact.
    pub(crate) fn mend(&self, segment: u32) {
        self.inner.table.lock().broken.remove(&segment);
    }

    /// Waits until no write to `segment` is under way or being answered, or the directory is out of service.
    pub(crate) fn settle(&self, segment: u32) {
        let mut table = self.inner.table.lock();
        while table.outage.is_none() && table.segments.contains_key(&segment) {
            self.inner.changed.wait(&mut table);
        }
    }

    /// Waits until no write is under way or being answered, or the directory is out of service.
    pub(crate) fn settle_all(&self) {
        let mut table = self.inner.table.lock();
        while table.outage.is_none() && !table.segments.is_empty() {
            self.inner.changed.wait(&mut table);
        }
    }

    /// Takes the directory out of service because of `error`: its blocks are misses until it is back.
    pub(crate) fn fail(&self, error: io::Error) {
        self.inner.fail(error);
    }

    /// Takes the directory out of service for good and answers everyone.
    pub(crate) fn close(&self) {
        let told = {
            let mut table = self.inner.table.lock();
            table.outage = Some(Outage::Closed);
            self.inner.works.store(false, Ordering::Release);
            let told = table.take_all();
            table.unlock();
            told
        };
        self.inner.changed.notify_all();
        told.answer(&Outage::Closed);
    }

    /// One tick passed: gives up what took too long.
    pub(crate) fn tick(&self) {
        let now = self.inner.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let Patience { read_ticks, hang_ticks } = self.inner.patience;
        let mut late = Vec::new();
        let mut oldest = 0;
        for flight in self.inner.table.lock().slots.iter_mut().flatten() {
            // A transfer that started just before a tick is not a tick old yet.
            let age = now.saturating_sub(flight.since + 1);
            oldest = oldest.max(age);
            if let What::Read(told) = &mut flight.what
                && age >= read_ticks
            {
                late.extend(told.take());
            }
        }
        for told in late {
            let _ = told.send(Err(io::Error::new(io::ErrorKind::TimedOut, "the device did not answer in time")));
        }
        if oldest >= hang_ticks && self.works() {
            self.fail(io::Error::new(io::ErrorKind::TimedOut, "the device does not answer"));
        }
    }

    /// Whether the device owes nothing.
    pub(crate) fn is_idle(&self) -> bool {
        let table = self.inner.table.lock();
        table.free.len() == table.slots.len()
    }

    /// Starts a transfer past all accounting, for a directory that is out of service; `None` if the device dies.
    pub(crate) fn probe(&self, op: Op, offset: u64, buf: Buf) -> oneshot::Receiver<io::Result<Buf>> {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |result: io::Result<()>, cargo: Cargo| {
            let _ = tell.send(result.and_then(|()| cargo.into_buf().ok_or_else(ended)));
        });
        let cargo = match op {
            Op::Read => Cargo::Fill(buf),
            Op::Write => Cargo::Store(buf),
        };
        self.device.submit(Request { way: Way::Thread, offset, cargo, done });
        told
    }

    /// Puts a failed directory back into service.
    pub(crate) fn restore(&self) {
        {
            let mut table = self.inner.table.lock();
            if !matches!(table.outage, Some(Outage::Failed(_))) {
                return;
            }
            table.outage = None;
            (table.read_errors, table.write_errors) = (0, 0);
            self.inner.works.store(true, Ordering::Release);
        }
        self.inner.metrics.in_service(true);
        self.inner.metrics.returned();
        tracing::info!(dir = %self.inner.path.display(), "cache directory answers again and is back in service");
    }
}

fn hole() -> io::Error {
    io::Error::other("an earlier write to the same part of the cache failed")
}

impl Table {
    fn add(&mut self, since: u64, what: What) -> u32 {
        let flight = Some(Flight { since, what });
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = flight;
                slot
            }
            None => {
                self.slots.push(flight);
                self.slots.len() as u32 - 1
            }
        }
    }

    fn add_write(&mut self, segment: u32, since: u64) -> u32 {
        let slot = self.add(since, What::Write(segment));
        self.writes += 1;
        self.segments.entry(segment).or_default().pending.push_back(Pending {
            slot,
            done: None,
            given_up: None,
            result: None,
        });
        slot
    }

    /// Why nothing may be written to `segment` now.
    fn refusal(&self, segment: u32) -> Option<io::Error> {
        let outage = self.outage.as_ref().map(Outage::error);
        outage.or_else(|| self.broken.contains(&segment).then(hole))
    }

    fn what(&mut self, slot: u32) -> Option<&mut What> {
        Some(&mut self.slots.get_mut(slot as usize)?.as_mut()?.what)
    }

    /// The write in `slot`, while it is with the device.
    fn pending(&mut self, slot: u32) -> Option<&mut Pending> {
        let Some(&mut What::Write(segment)) = self.what(slot) else { return None };
        let queue = self.segments.get_mut(&segment)?;
        queue.pending.iter_mut().find(|one| one.slot == slot && one.result.is_none())
    }

    /// Forgets the transfer in `slot`.
    fn remove(&mut self, slot: u32) {
        if self.slots[slot as usize].take().is_some() {
            self.free.push(slot);
        }
    }

    /// Notes how a write ended, and gives the writes of its segment that have an outcome now.
    fn write_ended(&mut self, segment: u32, slot: u32, result: io::Result<()>) -> Vec<(Written, io::Result<()>)> {
        self.writes -= 1;
        self.unlock();
        let mut outcomes = Vec::new();
        if let Some(pending) = self.pending(slot) {
            pending.result = Some(result);
        }
        let Some(queue) = self.segments.get_mut(&segment) else { return outcomes };
        while queue.pending.front().is_some_and(|front| front.result.is_some()) {
            let Some(Pending { done, result: Some(result), .. }) = queue.pending.pop_front() else { break };
            let result = match result {
                Ok(()) if self.broken.contains(&segment) => Err(hole()),
                Ok(()) => Ok(()),
                Err(error) => {
                    self.broken.insert(segment);
                    Err(error)
                }
            };
            outcomes.extend(done.map(|done| (done, result)));
        }
        queue.answering += outcomes.len();
        self.settle(segment, 0);
        outcomes
    }

    /// Notes that `answered` writes of a segment were answered, and forgets the segment if it has nothing more.
    fn settle(&mut self, segment: u32, answered: usize) {
        if let Some(queue) = self.segments.get_mut(&segment) {
            queue.answering -= answered;
            if queue.pending.is_empty() && queue.answering == 0 {
                self.segments.remove(&segment);
            }
        }
    }

    /// Lets other processes in, if nothing of ours is on its way any more.
    fn unlock(&mut self) {
        if self.writes == 0
            && matches!(self.outage, Some(Outage::Closed))
            && let Some(lock) = self.lock.take()
        {
            // Closing is not enough: a child of this process that has not called exec yet holds the lock too.
            let _ = flock(&lock, FlockOperation::Unlock);
        }
    }

    /// Counts how a transfer ended; gives the error if there were too many in a row.
    fn account(&mut self, what: Op, error: Option<&io::Error>) -> Option<io::Error> {
        let (in_a_row, max) = match what {
            Op::Read => (&mut self.read_errors, READ_ERRORS_MAX),
            Op::Write => (&mut self.write_errors, WRITE_ERRORS_MAX),
        };
        match error {
            None => *in_a_row = 0,
            Some(_) => *in_a_row += 1,
        }
        error.filter(|_| *in_a_row >= max).map(copy)
    }

    /// Everyone who waits for a transfer; the transfers themselves stay.
    fn take_all(&mut self) -> Waiting {
        let mut waiting = Waiting::default();
        for flight in self.slots.iter_mut().flatten() {
            if let What::Read(told) = &mut flight.what {
                waiting.reads.extend(told.take());
            }
        }
        for (segment, queue) in &mut self.segments {
            self.broken.insert(*segment);
            for pending in &mut queue.pending {
                pending.given_up.clone_from(&self.outage);
                waiting.writes.extend(pending.done.take());
            }
        }
        waiting
    }
}

/// Who waits for transfers of a directory that leaves service.
#[derive(Default)]
struct Waiting {
    reads: Vec<oneshot::Sender<io::Result<Buf>>>,
    writes: Vec<Written>,
}

impl Waiting {
    fn answer(self, outage: &Outage) {
        for told in self.reads {
            let _ = told.send(Err(outage.error()));
        }
        for done in self.writes {
            done(Err(outage.error()));
        }
    }
}

/// A transfer under way; ends exactly once, also when a dying device drops it.
pub(crate) struct Ticket {
    inner: Arc<Inner>,
    op: Op,
    slot: Option<u32>,
}

impl Ticket {
    /// Says what to do once the write counts or has failed, also if it has failed already.
    pub(crate) fn then(&self, done: Written) {
        let mut table = self.inner.table.lock();
        let Some(pending) = self.slot.and_then(|slot| table.pending(slot)) else { return };
        match pending.given_up.clone() {
            None => pending.done = Some(done),
            Some(outage) => {
                drop(table);
                done(Err(outage.error()));
            }
        }
    }

    /// The write ended.
    pub(crate) fn end_write(mut self, result: io::Result<()>) {
        if let Some(slot) = self.slot.take() {
            self.inner.write_ended(slot, result);
        }
    }

    fn end_read(mut self, result: io::Result<Buf>) {
        if let Some(slot) = self.slot.take() {
            self.inner.read_ended(slot, result);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            match self.op {
                Op::Read => self.inner.read_ended(slot, Err(ended())),
                Op::Write => self.inner.write_ended(slot, Err(ended())),
            }
        }
    }
}

impl Inner {
    /// The read in `slot` ended.
    fn read_ended(&self, slot: u32, result: io::Result<Buf>) {
        let mut table = self.table.lock();
        let Some(What::Read(told)) = table.what(slot) else { return };
        let told = told.take();
        table.remove(slot);
        let too_many = table.account(Op::Read, result.as_ref().err());
        drop(table);
        // Nobody waits any more: the buffer returns to its pool.
        told.map(|told| told.send(result));
        if let Some(error) = too_many {
            self.fail(error);
        }
    }

    /// The write in `slot` ended.
    fn write_ended(&self, slot: u32, result: io::Result<()>) {
        let mut table = self.table.lock();
        let Some(&mut What::Write(segment)) = table.what(slot) else { return };
        let too_many = table.account(Op::Write, result.as_ref().err());
        let outcomes = table.write_ended(segment, slot, result);
        table.remove(slot);
        drop(table);
        let answered = outcomes.len();
        outcomes.into_iter().for_each(|(done, result)| done(result));
        self.table.lock().settle(segment, answered);
        self.changed.notify_all();
        if let Some(error) = too_many {
            self.fail(error);
        }
    }

    fn fail(&self, error: io::Error) {
        let (outage, told) = {
            let mut table = self.table.lock();
            if table.outage.is_some() {
                return;
            }
            let outage = table.outage.insert(Outage::Failed(Arc::new(error))).clone();
            self.works.store(false, Ordering::Release);
            (outage, table.take_all())
        };
        self.changed.notify_all();
        self.metrics.in_service(false);
        self.metrics.left();
        if let Outage::Failed(error) = &outage {
            tracing::error!(dir = %self.path.display(), %error, "cache directory failed and is out of service; its blocks are misses until it answers again");
        }
        told.answer(&outage);
    }
}
