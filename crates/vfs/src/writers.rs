//! What all files that are written share: memory, turns at the object store, and the way out when memory is short.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use shoal_format::Ino;
use shoal_meta::Session;
use shoal_object::{ObjectStore, TierStores};
use shoal_runtime::budget::{Budget, Permit};
use shoal_stage::Stage;
use tokio::sync::{Notify, Semaphore};

use crate::inode::Inode;

/// Compactions at once, as real clients.
const COMPACTIONS_MAX: usize = 10;
/// Least memory for writes, in blocks: one write of the kernel and a block on its way must always fit.
const BLOCKS_MIN: u64 = 4;
/// Of memory for writes, the part for encoded copies of blocks on their way.
const ENCODED_SHARE: u64 = 3;

/// What writing to a volume needs.
pub struct WriteParts {
    /// This client among the volume's.
    pub session: Session,
    /// Where blocks are put, by the tier of their file.
    pub tiers: TierStores,
    /// Bytes of memory for what is written and not stored yet; at least four blocks are used.
    pub memory: u64,
    /// Blocks on their way to the object store at once.
    pub uploads_max: usize,
    /// Where blocks are put first, if they are staged.
    pub stage: Option<Stage>,
}

/// [`WriteParts::uploads_max`] of real clients.
pub const UPLOADS_MAX: usize = 20;

/// What writing needs beside the volume's blocks.
pub(crate) struct Writers {
    pub session: Session,
    pub tiers: TierStores,
    pub stage: Option<Stage>,
    /// Turns at the object store.
    pub turns: Semaphore,
    /// For encoded copies of blocks on their way.
    pub encoded: Budget,
    /// For bytes that are written and not stored.
    memory: Budget,
    /// Bytes on their way to the object store: they will come back to `memory`.
    uploading: AtomicU64,
    /// Nothing is on its way any more.
    idle: Notify,
    /// Chunks that are being compacted.
    compacting: Mutex<BTreeSet<(Ino, u32)>>,
    /// A compaction has ended.
    compacted: Notify,
    /// Files with pending writes.
    files: Mutex<BTreeMap<Ino, Arc<Inode>>>,
}

impl Writers {
    pub(crate) fn new(parts: WriteParts, block_size: u64) -> Writers {
        let WriteParts { session, tiers, memory, uploads_max, stage } = parts;
        let memory = memory.max(BLOCKS_MIN * block_size);
        let encoded = memory / ENCODED_SHARE;
        Writers {
            session,
            tiers,
            stage,
            turns: Semaphore::new(uploads_max.clamp(1, Semaphore::MAX_PERMITS)),
            encoded: Budget::new(encoded),
            memory: Budget::new(memory - encoded),
            uploading: AtomicU64::new(0),
            idle: Notify::new(),
            compacting: Mutex::default(),
            compacted: Notify::new(),
            files: Mutex::default(),
        }
    }

    /// The store itself: for what does not depend on a tier.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.tiers.of(0)
    }

    /// Memory for `len` bytes, if it is there.
    pub(crate) fn try_room(&self, len: u64) -> Option<Permit> {
        self.memory.try_acquire(len)
    }

    /// Memory for `len` bytes. `press` has to make files store what they hold open: it is called where no block on its way would
    /// free any. Cancel-safe.
    pub(crate) async fn room(&self, len: u64, press: impl Fn(Vec<Arc<Inode>>)) -> Permit {
        let mut acquire = pin!(self.memory.acquire(len));
        loop {
            let idle = self.idle.notified();
            if let Some(permit) = acquire.as_mut().now_or_never() {
                return permit;
            }
            if self.uploading.load(Ordering::SeqCst) == 0 {
                press(self.files());
            }
            tokio::select! {
                biased;
                permit = &mut acquire => return permit,
                () = idle => {}
            }
        }
    }

    pub(crate) fn upload_begins(&self, bytes: u64) {
        self.uploading.fetch_add(bytes, Ordering::SeqCst);
    }

    pub(crate) fn upload_ended(&self, bytes: u64) {
        if self.uploading.fetch_sub(bytes, Ordering::SeqCst) == bytes {
            self.idle.notify_waiters();
        }
    }

    /// Bytes that are written and not stored.
    pub(crate) fn used(&self) -> u64 {
        self.memory.used()
    }

    /// The turn to compact a chunk, if nobody has it and not too many are compacted.
    pub(crate) fn try_compact(writers: &Arc<Writers>, ino: Ino, index: u32) -> Option<Compacting> {
        let mut compacting = writers.compacting.lock();
        let free = compacting.len() < COMPACTIONS_MAX && compacting.insert((ino, index));
        free.then(|| Compacting { writers: Arc::clone(writers), chunk: (ino, index) })
    }

    /// The turn to compact a chunk, waited for. Cancel-safe.
    pub(crate) async fn compact_turn(writers: &Arc<Writers>, ino: Ino, index: u32) -> Compacting {
        loop {
            let ended = writers.compacted.notified();
            if let Some(turn) = Writers::try_compact(writers, ino, index) {
                return turn;
            }
            ended.await;
        }
    }

    /// Waits until nothing is compacted any more: what ends on the way leaves objects that no record names.
    pub(crate) async fn compactions_ended(&self) {
        loop {
            let ended = self.compacted.notified();
            if self.compacting.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// The files that have pending writes.
    pub(crate) fn files(&self) -> Vec<Arc<Inode>> {
        self.files.lock().values().cloned().collect()
    }

    pub(crate) fn enlist(&self, inode: &Arc<Inode>) {
        self.files.lock().insert(inode.ino, Arc::clone(inode));
    }

    /// Takes `inode` off the list, unless another object took its place there.
    pub(crate) fn delist(&self, inode: &Arc<Inode>) {
        let mut files = self.files.lock();
        if files.get(&inode.ino).is_some_and(|listed| Arc::ptr_eq(listed, inode)) {
            files.remove(&inode.ino);
        }
    }
}

/// The turn to compact one chunk, until dropped.
pub(crate) struct Compacting {
    writers: Arc<Writers>,
    chunk: (Ino, u32),
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.writers.compacting.lock().remove(&self.chunk);
        self.writers.compacted.notify_waiters();
    }
}
