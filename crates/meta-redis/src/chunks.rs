//! Which chunks of a file have a list: the schema has no record of that, so keys are tried.

use std::ops::Range;

use bytes::Bytes;
use redis::Pipeline;
use shoal_format::Ino;
use shoal_meta::MetaError;

use crate::view::Asking;

/// Keys tried in one request.
pub(crate) const WINDOW: u32 = 1024;
/// Up to so many keys, asking for each is no dearer than asking first whether there is any.
const FEW: u32 = 16;
/// A range of more chunks than this (64 TiB) is looked for among all keys of the database instead.
const TRIED_MAX: u32 = 1 << 20;
/// Keys the server looks at in one step of that.
const SCAN_STEP: usize = 10_000;

impl Asking<'_> {
    /// Indexes in `range` of a file's chunks that have a list, in order.
    pub(crate) async fn chunk_indexes(&self, ino: Ino, range: Range<u32>) -> Result<Vec<u32>, MetaError> {
        if range.len() > TRIED_MAX as usize {
            return self.scan_chunks(ino, range).await;
        }
        let (mut found, mut start) = (Vec::new(), range.start);
        while start < range.end {
            let end = range.end.min(start.saturating_add(WINDOW));
            found.extend(self.window(ino, start..end).await?);
            start = end;
        }
        Ok(found)
    }

    async fn window(&self, ino: Ino, range: Range<u32>) -> Result<Vec<u32>, MetaError> {
        let keys: Vec<String> = range.clone().map(|index| self.base.keys.chunk(ino, index)).collect();
        if keys.len() > FEW as usize {
            let mut request = Pipeline::new();
            request.cmd("EXISTS").arg(&keys);
            let (count,): (u64,) = self.ask(&request).await?;
            if count == 0 {
                return Ok(Vec::new());
            }
        }
        let mut request = Pipeline::new();
        for key in &keys {
            request.cmd("EXISTS").arg(key);
        }
        let exist: Vec<bool> = self.ask(&request).await?;
        Ok(range.zip(exist).filter_map(|(index, exists)| exists.then_some(index)).collect())
    }

    async fn scan_chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<u32>, MetaError> {
        let (mut found, mut cursor) = (Vec::new(), Bytes::from_static(b"0"));
        loop {
            let mut request = Pipeline::new();
            request.cmd("SCAN").arg(&cursor[..]).arg("MATCH").arg(self.base.keys.chunks_pattern(ino));
            request.arg("COUNT").arg(SCAN_STEP);
            let ((next, keys),): ((Bytes, Vec<Bytes>),) = self.ask(&request).await?;
            let indexes = keys.iter().filter_map(|key| self.base.keys.chunk_index(ino, key));
            found.extend(indexes.filter(|index| range.contains(index)));
            cursor = next;
            if &cursor[..] == b"0" {
                found.sort_unstable();
                found.dedup();
                return Ok(found);
            }
        }
    }
}
