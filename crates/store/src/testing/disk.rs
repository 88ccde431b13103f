//! A disk that is simulated above the slab file: transfers end in any order, faults are rolled for each, and a crash leaves of the writes under
//! way what a crash leaves.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use shoal_runtime::task;

use crate::io::device::{Device, Op, Request};
use crate::nvme::SLAB_FILE;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SECTOR: usize = 4096;
/// Completed writes that a loss of power may still undo in part.
const UNSYNCED_MAX: usize = 16;

/// How often transfers go wrong, each in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Odds {
    /// Reads that fail.
    pub read_errors: u32,
    /// Reads that end early, as of a file that was cut short.
    pub short_reads: u32,
    /// Reads that give one wrong bit.
    pub read_flips: u32,
    /// Writes that fail, some of them after a part was written.
    pub write_errors: u32,
    /// Writes for which there is no space.
    pub no_space: u32,
    /// Writes that store one wrong bit and say nothing.
    pub write_flips: u32,
    /// Not odds: microseconds that a transfer takes, at most, so that several are under way.
    pub delay: u32,
}

/// What ends the life of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: a write that ended is there; of each that did not, nothing, all, or some sectors.
    Process,
    /// The power goes: some sectors of the last writes that ended may be as they were before, too.
    Power,
}

/// A disk whose troubles are commanded; clones share it.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    rng: u64,
    odds: Odds,
    hangs: bool,
    /// Nothing reaches the file any more.
    crashed: bool,
    file: Option<File>,
    pending: Vec<Request>,
    /// What was where the last completed writes went, oldest first.
    unsynced: Vec<(u64, Vec<u8>)>,
    /// The device that is served; another one ends the thread of the one before.
    life: u64,
}

impl Disk {
    /// A disk without troubles, whose dice are seeded.
    pub fn new(seed: u64) -> Disk {
        let state = State {
            rng: seed | 1,
            odds: Odds::default(),
            hangs: false,
            crashed: false,
            file: None,
            pending: Vec::new(),
            unsynced: Vec::new(),
            life: 0,
        };
        Disk(Arc::new(Inner { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Troubles from now on.
    pub fn set_odds(&self, odds: Odds) {
        self.0.state.lock().odds = odds;
    }

    /// Nothing is answered from now on.
    pub fn hang(&self) {
        self.0.state.lock().hangs = true;
    }

    /// Everything that waits is carried out, and all that comes.
    pub fn release(&self) {
        self.0.state.lock().hangs = false;
        self.0.changed.notify_all();
    }

    /// Ends this life: nothing that is written from now on arrives, everything fails, until a store is opened on the disk again.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.0.state.lock();
        if let Some(file) = state.file.take() {
            let pending: Vec<_> = state.pending.iter().filter(|request| request.cargo.op() == Op::Write).collect();
            let writes: Vec<_> = pending.iter().map(|request| (request.offset, request.cargo.to_vec())).collect();
            for (offset, bytes) in writes {
                state.leave(&file, offset, &bytes);
            }
            if crash == Crash::Power {
                for (offset, before) in std::mem::take(&mut state.unsynced) {
                    state.leave(&file, offset, &before);
                }
            }
        }
        (state.crashed, state.hangs) = (true, false);
        drop(state);
        self.0.changed.notify_all();
    }

    /// A device for the slab in `dir`: the disk starts anew.
    pub(super) fn device(&self, dir: &Path) -> Arc<dyn Device> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(SLAB_FILE)).expect("the slab is there");
        let life = {
            let mut state = self.0.state.lock();
            state.life += 1;
            (state.crashed, state.hangs, state.file) = (false, false, Some(file));
            state.unsynced.clear();
            state.life
        };
        let inner = Arc::clone(&self.0);
        task::thread("store-sim", move || inner.serve(life));
        Arc::new(Handle { disk: self.clone(), life })
    }
}

/// A device dropped last ends its thread.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    life: u64,
}

impl Device for Handle {
    fn submit(&self, request: Request) {
        self.disk.0.state.lock().pending.push(request);
        self.disk.0.changed.notify_all();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.0.state.lock();
        // A store may be opened on the disk before the one before is gone.
        if state.life == self.life {
            state.life += 1;
        }
        self.disk.0.changed.notify_all();
    }
}

impl Inner {
    /// Serves transfers in random order until the device is gone.
    fn serve(&self, life: u64) {
        let mut state = self.state.lock();
        loop {
            while state.pending.is_empty() || state.hangs {
                if state.life != life {
                    return;
                }
                self.changed.wait_for(&mut state, Duration::from_millis(50));
            }
            if state.odds.delay > 0 {
                let most = state.odds.delay.into();
                let delay = state.below(most);
                self.changed.wait_for(&mut state, Duration::from_micros(delay));
                if state.pending.is_empty() || state.hangs {
                    continue;
                }
            }
            let waiting = state.pending.len() as u64;
            let pick = state.below(waiting) as usize;
            let Request { offset, mut cargo, done, .. } = state.pending.swap_remove(pick);
            let result = match cargo.fillable() {
                _ if state.crashed => Err(io::Error::from_raw_os_error(EIO)),
                Some(buf) => state.read(offset, buf),
                None => state.write(offset, &cargo),
            };
            parking_lot::MutexGuard::unlocked(&mut state, || done(result, cargo));
        }
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn rolls(&mut self, odds: u32) -> bool {
        odds > 0 && self.below(1000) < u64::from(odds)
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.rolls(self.odds.read_errors) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if self.rolls(self.odds.short_reads) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        file.read_exact_at(buf, offset)?;
        if self.rolls(self.odds.read_flips) {
            self.flip(buf);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.rolls(self.odds.no_space) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let file = self.file.take().ok_or(io::ErrorKind::NotConnected)?;
        let result = self.write_to(&file, offset, bytes);
        self.file = Some(file);
        result
    }

    fn write_to(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.rolls(self.odds.write_errors) {
            self.leave(file, offset, bytes);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let mut before = vec![0; bytes.len()];
        file.read_exact_at(&mut before, offset)?;
        if self.rolls(self.odds.write_flips) {
            let mut flipped = bytes.to_vec();
            self.flip(&mut flipped);
            file.write_all_at(&flipped, offset)?;
        } else {
            file.write_all_at(bytes, offset)?;
        }
        if self.unsynced.len() == UNSYNCED_MAX {
            self.unsynced.remove(0);
        }
        self.unsynced.push((offset, before));
        Ok(())
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << self.below(8);
    }

    /// Writes nothing, all, the first part, or any sectors of `bytes`.
    fn leave(&mut self, file: &File, offset: u64, bytes: &[u8]) {
        let way = self.below(4);
        let cut = self.below((bytes.len() / SECTOR) as u64 + 1) as usize;
        for (n, sector) in bytes.chunks(SECTOR).enumerate() {
            let arrives = match way {
                0 => false,
                1 => true,
                2 => n < cut,
                _ => self.below(2) == 0,
            };
            if arrives {
                file.write_all_at(sector, offset + (n * SECTOR) as u64).expect("the slab's file system works");
            }
        }
    }
}
