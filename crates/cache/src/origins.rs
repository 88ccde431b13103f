//! Which object store each origin is.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use shoal_object::ObjectStore;
use shoal_types::OriginId;

type Table = HashMap<OriginId, Arc<dyn ObjectStore>>;

/// The object stores this process may read blocks from; clones share one table.
#[derive(Clone, Default)]
pub struct Origins(Arc<ArcSwap<Table>>);

impl Origins {
    /// Makes `store` the place where blocks of `origin` come from, instead of the one added before.
    pub fn add(&self, origin: OriginId, store: Arc<dyn ObjectStore>) {
        self.0.rcu(|table| {
            let mut table = Table::clone(table);
            table.insert(origin, Arc::clone(&store));
            table
        });
    }

    /// The object store of `origin`, if it is known here.
    pub fn get(&self, origin: OriginId) -> Option<Arc<dyn ObjectStore>> {
        self.0.load().get(&origin).cloned()
    }

    /// Every known origin, in no particular order.
    pub fn ids(&self) -> Vec<OriginId> {
        self.0.load().keys().copied().collect()
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}
