//! A store whose devices fail on command.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use shoal_runtime::metrics::Registry;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::io::device::{Device, Op, Request};
use crate::store::Store;

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

#[derive(Debug)]
struct FaultDevice {
    inner: Arc<dyn Device>,
    faults: Faults,
}

impl Device for FaultDevice {
    fn submit(&self, request: Request) {
        let switches = &self.faults.0;
        let errno = match request.op {
            Op::Read => {
                switches.reads.fetch_add(1, Ordering::SeqCst);
                switches.read_bytes.fetch_add(request.buf.len() as u64, Ordering::SeqCst);
                switches.read_errno.load(Ordering::SeqCst)
            }
            Op::Write => {
                switches.writes.fetch_add(1, Ordering::SeqCst);
                switches.write_errno.load(Ordering::SeqCst)
            }
        };
        if errno != 0 {
            return (request.done)(Err(io::Error::from_raw_os_error(errno)), request.buf);
        }
        self.inner.submit(request);
    }
}
