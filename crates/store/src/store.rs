//! The store: RAM in front of cache directories.
use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_types::{BlockKey, BlockRange, Tier};

use crate::config::StoreConfig;
use crate::error::StoreError;

/// A node's local tiers; clones share them.
#[derive(Clone, Debug)]
pub struct Store {}

/// Bytes of a block that the store had.
#[derive(Debug, Clone)]
pub struct Found {
    /// Exactly the asked range, clamped to the block.
    pub bytes: Bytes,
    /// Bytes in the whole block.
    pub block_len: u32,
    /// Where they were.
    pub tier: Tier,
}

/// What the store holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes of blocks in RAM.
    pub ram_used: u64,
    /// The most bytes the RAM tier holds.
    pub ram_limit: u64,
    /// Bytes of live blocks in cache directories, their headers included.
    pub nvme_used: u64,
    /// The most bytes Shoal's files may take, of directories in service.
    pub nvme_limit: u64,
    /// Blocks in cache directories.
    pub blocks: u64,
    /// Blocks dropped for space since the store was opened.
    pub evictions: u64,
    /// Each cache directory, in the order of the configuration.
    pub dirs: Vec<DirStats>,
}

/// What one cache directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirStats {
    /// The directory.
    pub path: std::path::PathBuf,
    /// Bytes of live blocks, their headers included.
    pub used: u64,
    /// The most bytes Shoal's files in it may take.
    pub limit: u64,
    /// Live blocks.
    pub blocks: u64,
    /// False once it failed.
    pub in_service: bool,
}

impl Store {
    /// Opens the store.
    pub async fn open(_config: StoreConfig, _registry: &Registry) -> Result<Store, StoreError> {
        unimplemented!()
    }
    /// Bytes of `key` in `range`.
    pub async fn read(&self, _key: &BlockKey, _range: BlockRange) -> Result<Option<Found>, StoreError> {
        unimplemented!()
    }
    /// Bytes of `key` in `range` if RAM has them.
    pub fn read_ram(&self, _key: &BlockKey, _range: BlockRange) -> Option<Found> {
        unimplemented!()
    }
    /// The nearest tier that has `key`.
    pub fn contains(&self, _key: &BlockKey) -> Option<Tier> {
        unimplemented!()
    }
    /// Stores a block.
    pub async fn insert(&self, _key: &BlockKey, _stored: Bytes) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// What the store holds now.
    pub fn stats(&self) -> StoreStats {
        unimplemented!()
    }
    /// Finishes writes and lets the directories go.
    pub async fn close(&self) {
        unimplemented!()
    }
}
