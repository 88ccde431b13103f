//! The change log: a list, and the number of entries ever appended (spec section 20).

use async_trait::async_trait;
use bytes::Bytes;
use redis::Pipeline;
use shoal_meta::{ChangeLogRecords, ChangeLogTxn, LoggedChange, MetaError};

use crate::keys::{LOG, LOG_LAST};
use crate::overlay::Cell;
use crate::records::Space;
use crate::txn::Overlaid;
use crate::view::View;

/// Where the log stands: the version of its last entry, and how many entries it has.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    last: u64,
    len: u64,
}

impl Extent {
    /// The version before that of the first entry.
    fn before_first(self) -> u64 {
        self.last.saturating_sub(self.len)
    }
}

impl<V: View> Space<V> {
    /// The log's extent and, in the same moment, up to `count` of its entries from index `start` on.
    async fn log(&self, start: u64, count: usize) -> Result<(Extent, Vec<Bytes>), MetaError> {
        let (log, last) = (self.base().keys.single(LOG), self.base().keys.single(LOG_LAST));
        let end = start.saturating_add(count as u64).min(i64::MAX as u64);
        let mut request = Pipeline::new();
        request.atomic().cmd("GET").arg(last).cmd("LLEN").arg(&log);
        match end {
            0 => request.cmd("LRANGE").arg(&log).arg(1).arg(0),
            end => request.cmd("LRANGE").arg(&log).arg(start).arg(end - 1),
        };
        let (last, len, entries): (Option<u64>, u64, Vec<Bytes>) = self.0.asking().ask(&request).await?;
        Ok((Extent { last: last.unwrap_or(0), len }, entries))
    }
}

#[async_trait]
impl<V: View> ChangeLogRecords for Space<V> {
    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<LoggedChange>, MetaError> {
        let (mut extent, _) = self.log(0, 0).await?;
        loop {
            let start = after.saturating_sub(extent.before_first());
            let (now, entries) = self.log(start, limit).await?;
            // Where entries were removed meanwhile, others have moved to their places.
            if now.before_first() == extent.before_first() {
                let version = |n: usize| now.before_first() + start + n as u64 + 1;
                let text = |entry: &Bytes| String::from_utf8_lossy(entry).into_owned();
                let entries = entries.iter().enumerate();
                return Ok(entries
                    .map(|(n, entry)| LoggedChange { version: version(n), entry: text(entry) })
                    .collect());
            }
            extent = now;
        }
    }

    async fn newest_change(&self) -> Result<u64, MetaError> {
        let (extent, _) = self.log(0, 0).await?;
        Ok(if extent.len == 0 { 0 } else { extent.last })
    }
}

#[async_trait]
impl ChangeLogTxn for Space<Overlaid> {
    async fn append_change(&self, entry: &str) -> Result<(), MetaError> {
        let (log, last) = (self.base().keys.single(LOG), self.base().keys.single(LOG_LAST));
        let mut state = self.0.state();
        state.lists.append(log, [Bytes::copy_from_slice(entry.as_bytes())]);
        state.add(Cell::Value(last), 1).map_err(|error| self.0.no_number(error))
    }

    async fn remove_changes(&self, version: u64) -> Result<(), MetaError> {
        let (extent, first) = self.log(0, 1).await?;
        let count = version.saturating_sub(extent.before_first()).min(extent.len);
        if let (1.., Some(first)) = (count, first.into_iter().next()) {
            self.0.state().trim(self.base().keys.single(LOG), first, count);
        }
        Ok(())
    }
}
