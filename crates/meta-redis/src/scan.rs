//! Reads of whole tables: by the server's scans of keys and of hashes, whose cursors tell where a page begins.

use async_trait::async_trait;
use bytes::Bytes;
use redis::Pipeline;
use shoal_format::{AclRule, Attr, CHUNK_BYTES, Dentry, Ino};
use shoal_meta::{
    ChunkSlices, DelayedSlices, DeletedFile, DirUsage, MetaError, NewDentry, ScanPage, ScanRecords, Serial, SliceRef,
    Xattr,
};

use crate::keys::{ACLS, DELAYED, DELETED_FILES, DIR_USAGE, SLICE_REFS, parse_slice_field};
use crate::records::{Space, decode_delayed, decode_deleted, decode_slices};
use crate::view::{Care, View};

/// Keys or fields the server looks at in one step, at least.
const STEP_MIN: usize = 100;
/// Chunks of a file whose lists are asked for without looking first which there are: 1 GiB.
const FEW_CHUNKS: u32 = 16;

/// A page of something, with the cursor of the next.
struct Step<T> {
    found: Vec<T>,
    next: Option<Bytes>,
}

impl<T> Step<T> {
    fn new(cursor: Bytes, found: Vec<T>) -> Step<T> {
        Step { found, next: (cursor != "0").then_some(cursor) }
    }

    fn page<U>(self, records: Vec<U>) -> ScanPage<U> {
        ScanPage { records, next: self.next }
    }
}

fn cursor(from: &[u8]) -> &[u8] {
    if from.is_empty() { b"0" } else { from }
}

impl<V: View> Space<V> {
    /// Keys with a number behind `start`, with that number.
    async fn scan_keys(&self, start: &str, from: &[u8], limit: usize) -> Result<Step<(u64, String)>, MetaError> {
        let keys = &self.base().keys;
        let mut request = Pipeline::new();
        request.cmd("SCAN").arg(cursor(from)).arg("MATCH").arg(keys.numbered_pattern(start));
        request.arg("COUNT").arg(limit.max(STEP_MIN));
        let ((next, found),): ((Bytes, Vec<Bytes>),) = self.0.asking().ask(&request).await?;
        let text = |key: &Bytes| Some((keys.number_behind(start, key)?, String::from_utf8(key.to_vec()).ok()?));
        Ok(Step::new(next, found.iter().filter_map(text).collect()))
    }

    /// Fields of a hash, or members of a sorted set with their scores.
    async fn scan_pairs(
        &self,
        command: &str,
        name: &str,
        from: &[u8],
        limit: usize,
    ) -> Result<Step<(Bytes, Bytes)>, MetaError> {
        let mut request = Pipeline::new();
        request.cmd(command).arg(self.base().keys.single(name)).arg(cursor(from)).arg("COUNT").arg(limit.max(STEP_MIN));
        let ((next, pairs),): ((Bytes, Vec<(Bytes, Bytes)>),) = self.0.asking().ask(&request).await?;
        Ok(Step::new(next, pairs))
    }

    /// Values of strings with a number behind `start`.
    async fn scan_values(&self, start: &str, from: &[u8], limit: usize) -> Result<Step<(Ino, Bytes)>, MetaError> {
        let step = self.scan_keys(start, from, limit).await?;
        let keys: Vec<String> = step.found.iter().map(|(_, key)| key.clone()).collect();
        let values = if keys.is_empty() { Vec::new() } else { self.0.asking().strings(&keys).await? };
        let found = step.found.iter().zip(values).filter_map(|((ino, _), value)| Some((Ino(*ino), value?)));
        Ok(Step { found: found.collect(), next: step.next })
    }

    /// Everything in each of these hashes.
    async fn hashes(&self, hashes: &[(u64, String)]) -> Result<Vec<(Ino, Bytes, Bytes)>, MetaError> {
        let mut all = Vec::new();
        for (ino, key) in hashes {
            let asking = self.0.asking();
            asking
                .scan(key, |field, value| {
                    all.push((Ino(*ino), field, value));
                    std::ops::ControlFlow::Continue(())
                })
                .await?;
        }
        Ok(all)
    }
}

#[async_trait]
impl<V: View> ScanRecords for Space<V> {
    async fn scan_attrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Attr)>, MetaError> {
        let step = self.scan_values("i", from, limit).await?;
        let attrs: Result<_, MetaError> =
            step.found.iter().map(|(ino, attr)| Ok((*ino, Attr::decode(attr)?))).collect();
        attrs.map(|attrs| step.page(attrs))
    }

    async fn scan_dentries(&self, from: &[u8], limit: usize) -> Result<ScanPage<NewDentry>, MetaError> {
        let step = self.scan_keys("d", from, limit).await?;
        let names = self.hashes(&step.found).await?.into_iter();
        let dentries: Result<_, MetaError> = names
            .map(|(parent, name, dentry)| Ok(NewDentry { parent, name, dentry: Dentry::decode(&dentry)? }))
            .collect();
        dentries.map(|dentries| step.page(dentries))
    }

    async fn scan_chunks(&self, from: &[u8], limit: usize) -> Result<ScanPage<ChunkSlices>, MetaError> {
        let step = self.scan_keys("c", from, limit).await?;
        let keys: Vec<String> = step.found.iter().map(|(_, key)| key.clone()).collect();
        let mut chunks = Vec::with_capacity(keys.len());
        for ((ino, key), list) in step.found.iter().zip(self.0.asking().lists(&keys).await?) {
            let index = self.base().keys.chunk_index(Ino(*ino), key.as_bytes());
            if let Some(index) = index.filter(|_| !list.is_empty()) {
                chunks.push(ChunkSlices { ino: Ino(*ino), index, slices: decode_slices(&list)? });
            }
        }
        Ok(step.page(chunks))
    }

    async fn scan_symlinks(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Bytes)>, MetaError> {
        let step = self.scan_values("s", from, limit).await?;
        Ok(ScanPage { records: step.found, next: step.next })
    }

    async fn scan_xattrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<Xattr>, MetaError> {
        let step = self.scan_keys("x", from, limit).await?;
        let all = self.hashes(&step.found).await?.into_iter();
        Ok(step.page(all.map(|(ino, name, value)| Xattr { ino, name, value }).collect()))
    }

    async fn scan_slice_refs(&self, from: &[u8], limit: usize) -> Result<ScanPage<SliceRef>, MetaError> {
        let step = self.scan_pairs("HSCAN", SLICE_REFS, from, limit).await?;
        let mut refs = Vec::with_capacity(step.found.len());
        for (field, extra) in &step.found {
            let wrong = || self.base().damaged(format!("{SLICE_REFS} holds `{}`", field.escape_ascii()));
            let (id, size) = parse_slice_field(field).ok_or_else(wrong)?;
            let extra: i64 = self.base().number(SLICE_REFS, extra)?;
            refs.push(SliceRef { id, size, count: u32::try_from(extra.saturating_add(1)).unwrap_or(0) });
        }
        Ok(step.page(refs))
    }

    async fn scan_delayed(&self, from: &[u8], limit: usize) -> Result<ScanPage<DelayedSlices>, MetaError> {
        let step = self.scan_pairs("HSCAN", DELAYED, from, limit).await?;
        let delayed: Result<_, _> =
            step.found.iter().map(|(field, value)| decode_delayed(self.base(), field, value)).collect();
        delayed.map(|delayed| step.page(delayed))
    }

    async fn scan_deleted_files(&self, from: &[u8], limit: usize) -> Result<ScanPage<DeletedFile>, MetaError> {
        let step = self.scan_pairs("ZSCAN", DELETED_FILES, from, limit).await?;
        let file = |(member, score): &(Bytes, Bytes)| {
            let removed: f64 = self.base().number(DELETED_FILES, score)?;
            decode_deleted(self.base(), member, removed as i64)
        };
        let files: Result<_, MetaError> = step.found.iter().map(file).collect();
        files.map(|files| step.page(files))
    }

    async fn scan_sustained(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u64, Ino)>, MetaError> {
        let step = self.scan_keys("session", from, limit).await?;
        let mut held = Vec::new();
        for (sid, key) in &step.found {
            for ino in self.0.asking().members(key).await? {
                held.push((*sid, Ino(self.base().number(key, &ino)?)));
            }
        }
        Ok(step.page(held))
    }

    async fn scan_dir_usage(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, DirUsage)>, MetaError> {
        let step = self.scan_pairs("HSCAN", DIR_USAGE[2], from, limit).await?;
        let dirs: Vec<Bytes> = step.found.iter().map(|(dir, _)| dir.clone()).collect();
        let (base, asking) = (self.base(), self.0.asking());
        let lengths = asking.fields(&base.keys.single(DIR_USAGE[0]), &dirs).await?;
        let spaces = asking.fields(&base.keys.single(DIR_USAGE[1]), &dirs).await?;
        let mut usage = Vec::with_capacity(dirs.len());
        for ((dir, inodes), (length, space)) in step.found.iter().zip(lengths.into_iter().zip(spaces)) {
            let (Some(length), Some(space)) = (length, space) else { continue };
            let number = |name, text: &Bytes| base.number::<i64>(name, text);
            let (length, space) = (number(DIR_USAGE[0], &length)?, number(DIR_USAGE[1], &space)?);
            let of = DirUsage { length, space, inodes: number(DIR_USAGE[2], inodes)? };
            usage.push((Ino(base.number(DIR_USAGE[2], dir)?), of));
        }
        Ok(step.page(usage))
    }

    async fn scan_acls(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u32, AclRule)>, MetaError> {
        let step = self.scan_pairs("HSCAN", ACLS, from, limit).await?;
        let rule = |(id, rule): &(Bytes, Bytes)| Ok((self.base().number(ACLS, id)?, AclRule::decode(rule)?));
        let rules: Result<_, MetaError> = step.found.iter().map(rule).collect();
        rules.map(|rules| step.page(rules))
    }

    async fn last_serial(&self, serial: Serial) -> Result<u64, MetaError> {
        let last = self.number(self.base().keys.serial(serial), Care::None).await?;
        Ok(u64::try_from(last).unwrap_or(0))
    }

    async fn symlinks_of(&self, inos: &[Ino]) -> Result<Vec<(Ino, Bytes)>, MetaError> {
        let keys: Vec<String> = inos.iter().map(|ino| self.base().keys.symlink(*ino)).collect();
        let found = self.0.strings(&keys, Care::None).await?;
        Ok(inos.iter().zip(found).filter_map(|(ino, target)| Some((*ino, target?))).collect())
    }

    async fn xattrs_of(&self, inos: &[Ino]) -> Result<Vec<Xattr>, MetaError> {
        let mut all = Vec::new();
        // A page of inodes at a time: few have any.
        for inos in inos.chunks(1000) {
            let mut request = Pipeline::new();
            for ino in inos {
                request.cmd("HGETALL").arg(self.base().keys.xattrs(*ino));
            }
            let found: Vec<Vec<(Bytes, Bytes)>> = self.0.asking().ask(&request).await?;
            for (ino, pairs) in inos.iter().zip(found) {
                all.extend(pairs.into_iter().map(|(name, value)| Xattr { ino: *ino, name, value }));
            }
        }
        Ok(all)
    }

    /// Lists of chunks within the length of each file, and of the one behind it.
    async fn chunks_of(&self, inos: &[Ino]) -> Result<Vec<ChunkSlices>, MetaError> {
        let attrs = self.attrs_with(inos, Care::None).await?;
        let (mut wanted, mut keys) = (Vec::new(), Vec::new());
        for (ino, attr) in inos.iter().zip(attrs) {
            let length = attr.map_or(0, |attr| if attr.is_dir() { 0 } else { attr.length });
            let end = u32::try_from(length / CHUNK_BYTES).unwrap_or(u32::MAX).saturating_add(1);
            let indexes = match end {
                ..=FEW_CHUNKS => (0..end).collect(),
                _ => self.0.chunk_indexes(*ino, 0..end).await?,
            };
            keys.extend(indexes.iter().map(|index| self.base().keys.chunk(*ino, *index)));
            wanted.extend(indexes.into_iter().map(|index| (*ino, index)));
        }
        let mut chunks = Vec::new();
        for ((ino, index), list) in wanted.into_iter().zip(self.0.asking().lists(&keys).await?) {
            if !list.is_empty() {
                chunks.push(ChunkSlices { ino, index, slices: decode_slices(&list)? });
            }
        }
        Ok(chunks)
    }
}
