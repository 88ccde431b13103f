//! Reads every block now and then, below all else, so that damage is found before somebody asks for the block.
//!
//! One thread for all directories, at most so many bytes a second, and only while nothing else is with the device, though not for ever: a
//! disk that is never idle is scrubbed slowly. What is damaged or cannot be read is forgotten, so that it is fetched anew.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shoal_runtime::task;
use shoal_types::BlockId;

use super::bell::Bell;
use super::contents::Source;
use super::dir::Dir;
use super::index::{Index, Location};
use super::layout::{FooterEntry, Place, RecordHead, SECTOR};
use crate::io::buffer::{Buf, Pool};
use crate::metrics::StoreMetrics;

/// Bytes read at once: small enough that a reader who comes meanwhile hardly waits. At least a page.
const STEP_BYTES: u32 = 256 << 10;
/// A device that is busy is left alone for so long before the next step.
const YIELD_MAX: Duration = Duration::from_secs(1);
/// How often a busy device is looked at.
const YIELD_STEP: Duration = Duration::from_millis(5);
/// Between two passes over all directories.
const REST: Duration = Duration::from_secs(1);

/// What is scrubbed.
pub(crate) struct Scrub {
    pub(crate) dirs: Vec<Arc<Dir>>,
    pub(crate) index: Arc<Index>,
    pub(crate) pool: Pool,
    pub(crate) metrics: Arc<StoreMetrics>,
    /// Bytes a second, not 0.
    pub(crate) rate: u64,
}

/// Ends the scrubbing when dropped.
#[derive(Debug)]
pub(crate) struct Scrubber(Arc<Bell>);

/// The bell rang.
struct Stopped;

impl Scrubber {
    /// Starts to scrub.
    pub(crate) fn start(scrub: Scrub) -> Scrubber {
        let bell = Arc::new(Bell::default());
        let scrubber = Scrubber(Arc::clone(&bell));
        task::thread("store-scrub", move || {
            while scrub.pass(&bell).is_ok() && !bell.rang_within(REST) {
                scrub.metrics.scrubbed_all();
            }
        });
        scrubber
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Scrub {
    fn pass(&self, bell: &Bell) -> Result<(), Stopped> {
        for dir in &self.dirs {
            for segment in 0..dir.segments() {
                if dir.works() && dir.has_writing(segment) {
                    self.segment(dir, segment, bell)?;
                }
            }
        }
        Ok(())
    }

    fn segment(&self, dir: &Dir, segment: u32, bell: &Bell) -> Result<(), Stopped> {
        self.wait(dir, u64::from(SECTOR), bell)?;
        let read = |offset, len| dir.device.read_now(offset, self.pool.get(len));
        let source = Source { read: &read, dir_id: dir.id.0, segment_bytes: dir.rules.segment_bytes };
        // Without its contents a segment cannot be scrubbed; its blocks are still checked when they are read.
        let Ok(Some(contents)) = source.contents(segment) else { return Ok(()) };
        for FooterEntry { id, place, .. } in contents.entries {
            let here = |at: &Location| at.dir == dir.number && at.segment == segment && at.start == place.start;
            let Some(at) = self.index.get(id).filter(here).filter(|at| dir.is_current(at)) else { continue };
            let intact = Check { scrub: self, dir, id, at, bell }.run()?;
            // Overwritten meanwhile, or a device that has other troubles: no sign of damage.
            if !intact && dir.works() && dir.is_current(&at) && self.index.remove_if(id, |now| *now == at) {
                self.metrics.scrub_found();
                tracing::debug!(dir = %dir.path.display(), segment, start = at.start, "scrubbing found a damaged block, which is dropped");
            }
        }
        Ok(())
    }

    /// Waits for the turn to read `bytes` more.
    fn wait(&self, dir: &Dir, bytes: u64, bell: &Bell) -> Result<(), Stopped> {
        let mut time = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let mut yielded = Duration::ZERO;
        loop {
            if bell.rang_within(time) {
                return Err(Stopped);
            }
            if yielded >= YIELD_MAX || dir.device.is_idle() {
                return Ok(());
            }
            time = YIELD_STEP;
            yielded += YIELD_STEP;
        }
    }
}

/// The check of one block.
struct Check<'a> {
    scrub: &'a Scrub,
    dir: &'a Dir,
    id: BlockId,
    at: Location,
    bell: &'a Bell,
}

impl Check<'_> {
    /// Whether the block is intact. A device that does not answer in time says nothing about it.
    fn run(&self) -> Result<bool, Stopped> {
        let Location { start, data_off, len, .. } = self.at;
        let skip = start % SECTOR;
        let packed = Place { start, data_off, len }.is_packed();
        let first = self.read(start - skip, skip + data_off + if packed { len } else { 0 })?;
        let Some(first) = readable(first) else { return Ok(true) };
        let Some(first) = first else { return Ok(false) };
        let record = &first[skip as usize..];
        let Some((head, table)) = RecordHead::decode(record) else { return Ok(false) };
        if head.id != self.id || head.len != len || head.segment_seq as u32 != self.at.generation {
            return Ok(false);
        }
        if packed {
            return Ok(len == 0 || table.matches(0, &record[data_off as usize..(data_off + len) as usize]));
        }
        let step = STEP_BYTES.max(table.page_bytes());
        for from in (0..len).step_by(step as usize) {
            let bytes = step.min(len - from);
            let Some(part) = readable(self.read(start + data_off + from, bytes)?) else { return Ok(true) };
            if !part.is_some_and(|part| table.matches(from / table.page_bytes(), &part[..bytes as usize])) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read(&self, start: u32, len: u32) -> Result<io::Result<Buf>, Stopped> {
        self.scrub.wait(self.dir, len.into(), self.bell)?;
        let buf = self.scrub.pool.get(len as usize);
        let result = self.dir.device.read_now(self.dir.offset(self.at.segment, start), buf);
        self.scrub.metrics.scrubbed(len);
        Ok(result)
    }
}

/// What was read: nothing of a device that is late, `None` of a place that cannot be read.
fn readable(result: io::Result<Buf>) -> Option<Option<Buf>> {
    match result {
        Ok(buf) => Some(Some(buf)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
        Err(_) => Some(None),
    }
}
