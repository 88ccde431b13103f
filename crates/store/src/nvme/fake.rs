//! Cache directories reduced to what they promise, for simulations: what was stored is there, in this life and the next, unless the
//! disk loses it. No file, no thread; every wait is the runtime's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_runtime::clock;
use shoal_types::{BlockId, BlockKey, PageTable};
use tokio::sync::watch;

use super::scan::{ScanCursor, StoredBlock};
use crate::config::StoreConfig;

/// Blocks on a disk that survives the process; clones are the same disk.
#[derive(Clone)]
pub struct FakeDisk {
    blocks: Arc<Mutex<Blocks>>,
    mood: Arc<watch::Sender<DiskMood>>,
}

/// How a [`FakeDisk`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskMood {
    /// Every transfer takes this long.
    Answers(Duration),
    /// Every transfer fails: what is read is lost, what is written is refused.
    Fails,
    /// Nothing is answered.
    Hangs,
}

#[derive(Default)]
struct Blocks {
    by_id: BTreeMap<BlockId, Block>,
    by_number: BTreeMap<u32, BlockId>,
    stored: u32,
}

struct Block {
    key: BlockKey,
    bytes: Bytes,
    table: Arc<PageTable>,
    number: u32,
    hits: u8,
}

/// A block that was read.
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    pub(crate) table: Arc<PageTable>,
    pub(crate) hits: u8,
}

impl FakeDisk {
    /// An empty disk that answers within a millisecond.
    pub fn new() -> FakeDisk {
        let mood = watch::Sender::new(DiskMood::Answers(Duration::from_millis(1)));
        FakeDisk { blocks: Arc::default(), mood: Arc::new(mood) }
    }

    /// Behaves in another way from now on; what hangs goes on.
    pub fn turns(&self, mood: DiskMood) {
        self.mood.send_replace(mood);
    }

    fn answers(&self) -> bool {
        matches!(*self.mood.borrow(), DiskMood::Answers(_))
    }

    /// True once a transfer may be carried out; false if it fails, or is not answered within `patience`.
    async fn transfer(&self, patience: Duration) -> bool {
        let mood = *self.mood.borrow();
        match mood {
            DiskMood::Answers(takes) => {
                clock::sleep(takes.min(patience)).await;
                takes <= patience
            }
            DiskMood::Fails => false,
            DiskMood::Hangs => {
                let mut mood = self.mood.subscribe();
                let answers = mood.wait_for(|mood| matches!(mood, DiskMood::Answers(_)));
                clock::timeout(patience, answers).await.is_ok()
            }
        }
    }

    /// As of a directory that is out of service while its device does not answer.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.answers() && self.blocks.lock().by_id.contains_key(&id)
    }

    /// All of a block. One that cannot be read is lost; one that takes too long is only missed.
    pub(crate) async fn read(&self, id: BlockId, config: &StoreConfig) -> Option<Read> {
        if !self.blocks.lock().by_id.contains_key(&id) {
            return None;
        }
        let came = self.transfer(config.read_patience).await;
        let mut blocks = self.blocks.lock();
        if !came {
            if *self.mood.borrow() == DiskMood::Fails {
                blocks.forget(id);
            }
            return None;
        }
        let block = blocks.by_id.get_mut(&id)?;
        block.hits = block.hits.saturating_add(1);
        Some(Read { bytes: block.bytes.clone(), table: block.table.clone(), hits: block.hits })
    }

    /// Stores a block; its checksums, or `None` if the disk does not take it.
    pub(crate) async fn write(&self, key: &BlockKey, bytes: Bytes, config: &StoreConfig) -> Option<Arc<PageTable>> {
        if !self.transfer(config.hang_after).await {
            return None;
        }
        let table = Arc::new(PageTable::of(&bytes, config.page_bytes));
        let mut blocks = self.blocks.lock();
        blocks.forget(key.id());
        blocks.stored += 1;
        let number = blocks.stored;
        blocks.by_number.insert(number, key.id());
        let block = Block { key: key.clone(), bytes, table: table.clone(), number, hits: 0 };
        blocks.by_id.insert(key.id(), block);
        Some(table)
    }

    /// At most `max` blocks from `cursor` on in the order they were stored, and where to go on.
    pub(crate) fn scan(&self, cursor: Option<ScanCursor>, max: usize) -> (Vec<StoredBlock>, Option<ScanCursor>) {
        let blocks = self.blocks.lock();
        if !self.answers() {
            return (Vec::new(), None);
        }
        let from = cursor.map_or(0, ScanCursor::place);
        let mut ids = blocks.by_number.range(from..);
        let page = ids.by_ref().take(max).map(|(_, id)| &blocks.by_id[id]);
        let page = page.map(|block| StoredBlock { key: block.key.clone(), len: block.bytes.len() as u32 }).collect();
        (page, ids.next().map(|(number, _)| ScanCursor::at(*number)))
    }
}

impl Default for FakeDisk {
    fn default() -> FakeDisk {
        FakeDisk::new()
    }
}

impl Blocks {
    fn forget(&mut self, id: BlockId) {
        if let Some(block) = self.by_id.remove(&id) {
            self.by_number.remove(&block.number);
        }
    }
}

impl std::fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeDisk({:?}, {} blocks)", *self.mood.borrow(), self.blocks.lock().by_id.len())
    }
}
