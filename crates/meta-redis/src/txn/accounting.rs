//! Writes of counters and statistics.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::Ino;
use shoal_meta::{AccountingTxn, Counter, DirUsage, MetaError};

use super::Overlaid;
use crate::commit::number;
use crate::keys::DIR_USAGE;
use crate::overlay::Cell;
use crate::records::Space;
use crate::view::{Care, View};

/// In the order of [`DIR_USAGE`].
fn counts(usage: &DirUsage) -> [i64; 3] {
    [usage.length, usage.space, usage.inodes]
}

impl Space<Overlaid> {
    fn add_fields<const N: usize>(&self, hashes: [&str; N], field: Bytes, deltas: [i64; N]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for (name, delta) in hashes.iter().zip(deltas).filter(|(_, delta)| *delta != 0) {
            let cell = Cell::Field(self.base().keys.single(name), field.clone());
            state.add(cell, delta).map_err(|error| self.0.no_number(error))?;
        }
        Ok(())
    }
}

#[async_trait]
impl AccountingTxn for Space<Overlaid> {
    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError> {
        let cell = Cell::Value(self.base().keys.counter(counter));
        self.0.state().add(cell, delta).map_err(|error| self.0.no_number(error))
    }

    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for (dir, usage) in usage {
            for (name, count) in DIR_USAGE.iter().zip(counts(usage)) {
                state.put(Cell::Field(self.base().keys.single(name), number(dir)), number(count));
            }
        }
        Ok(())
    }

    async fn forget_dir_usage(&self) -> Result<(), MetaError> {
        let mut state = self.0.state();
        DIR_USAGE.iter().for_each(|name| state.clear(self.base().keys.single(name)));
        Ok(())
    }

    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError> {
        // All three are written together; the last says whether there are any.
        let fields: Vec<Bytes> = usage.iter().map(|(dir, _)| number(dir)).collect();
        let known = self.0.fields(&self.base().keys.single(DIR_USAGE[2]), &fields, Care::Held).await?;
        let mut unknown = Vec::new();
        for ((dir, usage), known) in usage.iter().zip(known) {
            match known {
                Some(_) => self.add_fields(DIR_USAGE, number(dir), counts(usage))?,
                None => unknown.push(*dir),
            }
        }
        Ok(unknown)
    }
}
