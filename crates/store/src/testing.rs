//! Stores whose devices fail on command, and simulated disks.

mod disk;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use parking_lot::Mutex;
use shoal_runtime::metrics::Registry;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::io::device::{Device, Op, Request};
use crate::store::Store;

pub use disk::{Crash, Disk, Odds};

pub use crate::nvme::fake::{DiskMood, FakeDisk};

/// Switches of a faulty device; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    read_errno: AtomicI32,
    write_errno: AtomicI32,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    /// Whether new requests hang.
    hangs: AtomicBool,
    /// Requests that hang.
    hung: Mutex<Vec<(Arc<dyn Device>, Request)>>,
}

impl Faults {
    /// Reads fail with `errno` from now on; 0 ends that.
    pub fn fail_reads(&self, errno: i32) {
        self.0.read_errno.store(errno, Ordering::SeqCst);
    }

    /// Writes fail with `errno` from now on; 0 ends that.
    pub fn fail_writes(&self, errno: i32) {
        self.0.write_errno.store(errno, Ordering::SeqCst);
    }

    /// Nothing is answered from now on.
    pub fn hang(&self) {
        self.0.hangs.store(true, Ordering::SeqCst);
    }

    /// What hangs goes on hanging, what comes is answered.
    pub fn answer_new(&self) {
        self.0.hangs.store(false, Ordering::SeqCst);
    }

    /// Whatever hangs is carried out, and all that comes.
    pub fn release(&self) {
        self.answer_new();
        let hung = std::mem::take(&mut *self.0.hung.lock());
        for (device, request) in hung {
            device.submit(request);
        }
    }

    /// Reads asked of the devices so far, and their bytes.
    pub fn reads(&self) -> (u64, u64) {
        (self.0.reads.load(Ordering::SeqCst), self.0.read_bytes.load(Ordering::SeqCst))
    }

    /// Writes asked of the devices so far.
    pub fn writes(&self) -> u64 {
        self.0.writes.load(Ordering::SeqCst)
    }
}

/// Opens a store whose directories obey `faults`, one for each in the order of the configuration.
///
/// Panics if there are fewer faults than directories.
pub async fn open(config: StoreConfig, registry: &Registry, faults: &[Faults]) -> Result<Store, StoreError> {
    let faults = faults.to_vec();
    let wrap = Arc::new(move |number: usize, inner| {
        let device: Arc<dyn Device> = Arc::new(FaultDevice { inner, faults: faults[number].clone() });
        device
    });
    Store::open_wrapped(config, registry, Some(wrap)).await
}

/// Opens a store whose directories lie on `disks`, one for each in the order of the configuration.
///
/// Panics if there are fewer disks than directories.
pub async fn open_simulated(config: StoreConfig, registry: &Registry, disks: &[Disk]) -> Result<Store, StoreError> {
    let disks = disks.to_vec();
    let paths: Vec<_> = config.dirs.iter().map(|dir| dir.path.clone()).collect();
    let wrap = Arc::new(move |number: usize, _| disks[number].device(&paths[number]));
    Store::open_wrapped(config, registry, Some(wrap)).await
}

/// Opens a store that keeps its blocks on `disk` in the place of cache directories, of which `config` has none: for simulations, as
/// it has no thread and touches no file.
pub async fn open_fake(config: StoreConfig, registry: &Registry, disk: FakeDisk) -> Result<Store, StoreError> {
    let faked = config.clone();
    Store::open_changed(config, registry, None, move |nvme| nvme.use_fake(disk, &faked)).await
}

#[derive(Debug)]
struct FaultDevice {
    inner: Arc<dyn Device>,
    faults: Faults,
}

impl Device for FaultDevice {
    fn submit(&self, request: Request) {
        let switches = &self.faults.0;
        let errno = match request.cargo.op() {
            Op::Read => {
                switches.reads.fetch_add(1, Ordering::SeqCst);
                switches.read_bytes.fetch_add(request.cargo.len() as u64, Ordering::SeqCst);
                switches.read_errno.load(Ordering::SeqCst)
            }
            Op::Write => {
                switches.writes.fetch_add(1, Ordering::SeqCst);
                switches.write_errno.load(Ordering::SeqCst)
            }
        };
        if errno != 0 {
            return (request.done)(Err(io::Error::from_raw_os_error(errno)), request.cargo);
        }
        if switches.hangs.load(Ordering::SeqCst) {
            return switches.hung.lock().push((Arc::clone(&self.inner), request));
        }
        self.inner.submit(request);
    }
}
