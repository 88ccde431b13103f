//! The seam to stored blocks, as far as metadata decides about them.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::MetaError;

/// Where the blocks of slices are.
#[async_trait]
pub trait SliceStore: Debug + Send + Sync {
    /// Returns once every block stored by this process before outlives a loss of power. Errors: a disk refuses.
    async fn sync(&self) -> Result<(), MetaError>;

    /// Deletes every block of slice `id` of `size` bytes. Blocks that are gone are none; after an error any of them may be left.
    async fn delete_slice(&self, id: u64, size: u32) -> Result<(), MetaError>;
}
