//! The stores of a volume's tiers: one bucket, written with several storage classes (volume format, section 3.6).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{ObjectError, ObjectStore};

/// A store for each tier. Cheap to clone.
///
/// What is read, listed or deleted is the same through all of them; they differ in the storage class of what is put.
#[derive(Debug, Clone)]
pub struct TierStores {
    default: Arc<dyn ObjectStore>,
    others: Arc<BTreeMap<u8, Arc<dyn ObjectStore>>>,
}

impl TierStores {
    /// `default` for tier 0, and for every tier that `others` does not name.
    pub fn new(default: Arc<dyn ObjectStore>, others: BTreeMap<u8, Arc<dyn ObjectStore>>) -> TierStores {
        TierStores { default, others: Arc::new(others) }
    }

    /// The same with another store for tier 0.
    pub fn with_default(&self, default: Arc<dyn ObjectStore>) -> TierStores {
        TierStores { default, others: self.others.clone() }
    }

    /// The store to put blocks of a file of `tier` into.
    pub fn of(&self, tier: u8) -> &Arc<dyn ObjectStore> {
        self.others.get(&tier).unwrap_or(&self.default)
    }

    /// [`ObjectStore::sync`] of all of them.
    pub async fn sync(&self) -> Result<(), ObjectError> {
        self.default.sync().await?;
        for store in self.others.values() {
            store.sync().await?;
        }
        Ok(())
    }
}
