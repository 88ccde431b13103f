//! Checksums of a block that become known once: on the way to the device, from it, or at once where there is no device.

use std::sync::{Arc, OnceLock};

use shoal_types::{PageSums, PageTable};

/// A block's page checksums, unknown at first; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums(Arc<OnceLock<Arc<PageTable>>>);

impl Sums {
    /// Checksums that are known.
    pub(crate) fn known(table: Arc<PageTable>) -> Sums {
        Sums(Arc::new(OnceLock::from(table)))
    }

    /// Makes them known; what is known already stays, for it is the same.
    pub(crate) fn set(&self, table: &Arc<PageTable>) {
        let _ = self.0.set(Arc::clone(table));
    }

    /// Those of the block's bytes from `start` on, if they are known.
    pub(crate) fn from(&self, start: u32) -> Option<PageSums> {
        self.0.get().map(|table| PageSums::new(Arc::clone(table), start))
    }
}
