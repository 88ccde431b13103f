//! Reads of records.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Dentry, Ino, SliceRecord};
use shoal_meta::{
    ChunkSlices, Counter, DelayedSlices, DeletedFile, DirEntry, DirUsage, Entry, IdKind, MetaError, ParentCount,
    Records, RemovalRecords, SessionRecord, SessionRecords,
};

use crate::commit::number;
use crate::keys::{ACLS, DELAYED, DELETED_FILES, DIR_USAGE, SESSION_INFOS, SESSIONS, SETTING};
use crate::listing::Name;
use crate::view::{Base, Care, View};

/// Records as they are seen through a view.
pub(crate) struct Space<V>(pub(crate) V);

impl<V: View> Space<V> {
    pub(crate) fn base(&self) -> &Base {
        self.0.base()
    }

    /// The value of one string.
    pub(crate) async fn string(&self, key: String, care: Care) -> Result<Option<Bytes>, MetaError> {
        Ok(self.0.strings(&[key], care).await?.pop().flatten())
    }

    /// The number in one string; zero where it was never written.
    pub(crate) async fn number(&self, key: String, care: Care) -> Result<i64, MetaError> {
        match self.string(key.clone(), care).await? {
            Some(text) => self.base().number(&key, &text),
            None => Ok(0),
        }
    }

    /// The value of one field of a hash.
    pub(crate) async fn field(&self, key: &str, field: Bytes, care: Care) -> Result<Option<Bytes>, MetaError> {
        Ok(self.0.fields(key, &[field], care).await?.pop().flatten())
    }

    /// Attributes of inodes, in their order.
    pub(crate) async fn attrs_with(&self, inos: &[Ino], care: Care) -> Result<Vec<Option<Attr>>, MetaError> {
        let keys: Vec<String> = inos.iter().map(|ino| self.base().keys.attr(*ino)).collect();
        let found = self.0.strings(&keys, care).await?;
        found.into_iter().map(|bytes| bytes.map(|bytes| Ok(Attr::decode(&bytes)?)).transpose()).collect()
    }

    /// A hash from numbers to numbers.
    async fn numbers(&self, key: &str) -> Result<BTreeMap<u64, i64>, MetaError> {
        let mut pairs = Vec::new();
        self.0.scan(key, Care::None, |field, value| collect(&mut pairs, field, value)).await?;
        let base = self.base();
        pairs.iter().map(|(field, value)| Ok((base.number(key, field)?, base.number(key, value)?))).collect()
    }

    /// Names of `dir` greater than `after`, in order: those of a listing that stopped there, or read now.
    async fn names(&self, dir: Ino, after: &[u8]) -> Result<VecDeque<Name>, MetaError> {
        if let Some(rest) = (!V::IN_TXN).then(|| self.base().listings.resume(dir, after)).flatten() {
            return Ok(rest);
        }
        let (mut pairs, key) = (Vec::new(), self.base().keys.dentries(dir));
        self.0.scan(&key, Care::Held, |name, dentry| collect(&mut pairs, name, dentry)).await?;
        let mut names = Vec::with_capacity(pairs.len());
        for (name, dentry) in pairs.into_iter().filter(|(name, _)| &name[..] > after) {
            names.push((name, Dentry::decode(&dentry)?));
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names.into())
    }

    /// `names` with attributes. Names without are damaged, or gone since they were read; the latter are left out.
    async fn with_attrs(&self, dir: Ino, names: &[Name]) -> Result<Vec<DirEntry>, MetaError> {
        let inos: Vec<Ino> = names.iter().map(|(_, dentry)| dentry.ino).collect();
        let attrs = self.attrs_with(&inos, Care::None).await?;
        let lost = names.iter().zip(&attrs).filter(|(_, attr)| attr.is_none());
        let lost: Vec<Bytes> = lost.map(|((name, _), _)| name.clone()).collect();
        let mut gone = Vec::new();
        if !lost.is_empty() {
            let still = self.0.fields(&self.base().keys.dentries(dir), &lost, Care::None).await?;
            gone = lost.into_iter().zip(still).filter_map(|(name, still)| still.is_none().then_some(name)).collect();
        }
        let entries = names.iter().zip(attrs).filter(|((name, _), _)| !gone.contains(name));
        let entry = |((name, dentry), attr): (&Name, _)| DirEntry {
            name: name.clone(),
            ino: dentry.ino,
            kind: dentry.kind,
            attr,
        };
        Ok(entries.map(entry).collect())
    }

    /// The lists of the chunks with these indexes.
    pub(crate) async fn lists_of(&self, ino: Ino, indexes: &[u32]) -> Result<Vec<ChunkSlices>, MetaError> {
        let keys: Vec<String> = indexes.iter().map(|index| self.base().keys.chunk(ino, *index)).collect();
        let mut chunks = Vec::with_capacity(indexes.len());
        for (index, list) in indexes.iter().zip(self.0.lists(&keys).await?) {
            if !list.is_empty() {
                chunks.push(ChunkSlices { ino, index: *index, slices: decode_slices(&list)? });
            }
        }
        Ok(chunks)
    }
}

/// Real clients write one record an element; a list is what all elements hold together.
pub(crate) fn decode_slices(list: &[Bytes]) -> Result<Vec<SliceRecord>, MetaError> {
    Ok(SliceRecord::decode_list(&list.concat())?)
}

/// A record of slices whose references are dropped later, by its field.
pub(crate) fn decode_delayed(base: &Base, field: &[u8], value: &[u8]) -> Result<DelayedSlices, MetaError> {
    let name = std::str::from_utf8(field).ok().and_then(|text| text.split_once('_'));
    let name = name.and_then(|(id, at)| Some((id.parse().ok()?, at.parse().ok()?)));
    match (name, DelayedSlices::decode(value)) {
        (Some((id, at)), Some(slices)) => Ok(DelayedSlices { id, at, slices }),
        _ => Err(base.damaged(format!("{DELAYED} holds `{}`, which is no list", field.escape_ascii()))),
    }
}

/// A deleted file by its member of the sorted set.
pub(crate) fn decode_deleted(base: &Base, member: &[u8], removed: i64) -> Result<DeletedFile, MetaError> {
    let parsed = std::str::from_utf8(member).ok().and_then(|text| text.split_once(':'));
    let parsed = parsed.and_then(|(ino, length)| Some((ino.parse().ok()?, length.parse().ok()?)));
    let wrong = || base.damaged(format!("{DELETED_FILES} holds `{}`", member.escape_ascii()));
    let (ino, length) = parsed.ok_or_else(wrong)?;
    Ok(DeletedFile { ino: Ino(ino), length, removed })
}

/// Takes a pair of a scan.
pub(crate) fn collect(pairs: &mut Vec<(Bytes, Bytes)>, field: Bytes, value: Bytes) -> ControlFlow<()> {
    pairs.push((field, value));
    ControlFlow::Continue(())
}

#[async_trait]
impl<V: View> Records for Space<V> {
    async fn setting(&self) -> Result<Option<String>, MetaError> {
        let json = self.string(self.base().keys.single(SETTING), Care::Exact).await?;
        let text = json.map(|json| String::from_utf8(json.into())).transpose();
        text.map_err(|_| self.base().damaged("the setting is no text"))
    }

    async fn counter(&self, counter: Counter) -> Result<i64, MetaError> {
        self.number(self.base().keys.counter(counter), Care::None).await
    }

    /// Redis holds the highest id handed out (spec section 12). The root is inode 1.
    async fn next_id(&self, kind: IdKind) -> Result<u64, MetaError> {
        let last = self.number(self.base().keys.last_id(kind), Care::None).await?;
        Ok(next_id(kind, last))
    }

    async fn attr(&self, ino: Ino) -> Result<Option<Attr>, MetaError> {
        let attr = self.attrs(&[ino]).await?.pop().flatten();
        if attr.is_none() && ino == Ino::ROOT && !V::IN_TXN {
            return Err(MetaError::NoVolume { at: self.base().at().to_owned() });
        }
        Ok(attr)
    }

    async fn attrs(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.attrs_with(inos, Care::Held).await
    }

    async fn entry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>, MetaError> {
        let Some((dentry, attr)) = self.0.lookup(parent, name).await? else { return Ok(None) };
        let attr = attr.map(|attr| Attr::decode(&attr)).transpose()?;
        Ok(Some(Entry { dentry: Dentry::decode(&dentry)?, attr }))
    }

    async fn entries(&self, dir: Ino, after: &[u8], limit: usize) -> Result<Vec<DirEntry>, MetaError> {
        let (mut found, mut names) = (Vec::new(), self.names(dir, after).await?);
        // Fewer than `limit` would mean the end, so names that are gone make room for more.
        while found.len() < limit && !names.is_empty() {
            let page: Vec<Name> = names.drain(..names.len().min(limit - found.len())).collect();
            found.extend(self.with_attrs(dir, &page).await?);
        }
        if let (false, Some(last)) = (V::IN_TXN, found.last()) {
            self.base().listings.keep(dir, last.name.clone(), names);
        }
        Ok(found)
    }

    async fn symlink(&self, ino: Ino) -> Result<Option<Bytes>, MetaError> {
        self.string(self.base().keys.symlink(ino), Care::None).await
    }

    async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.field(&self.base().keys.xattrs(ino), Bytes::copy_from_slice(name), Care::Held).await
    }

    async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        let mut pairs = Vec::new();
        let key = self.base().keys.xattrs(ino);
        self.0.scan(&key, Care::None, |name, _| collect(&mut pairs, name, Bytes::new())).await?;
        let mut names: Vec<Bytes> = pairs.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn slices(&self, ino: Ino, index: u32) -> Result<Vec<SliceRecord>, MetaError> {
        Ok(self.lists_of(ino, &[index]).await?.pop().map(|chunk| chunk.slices).unwrap_or_default())
    }

    async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError> {
        let indexes = self.0.chunk_indexes(ino, range).await?;
        self.lists_of(ino, &indexes).await
    }

    async fn acl(&self, id: u32) -> Result<Option<AclRule>, MetaError> {
        let rule = self.field(&self.base().keys.single(ACLS), number(id), Care::None).await?;
        Ok(rule.map(|rule| AclRule::decode(&rule)).transpose()?)
    }

    async fn acls(&self, after: u32) -> Result<Vec<(u32, AclRule)>, MetaError> {
        let mut pairs = Vec::new();
        self.0.scan(&self.base().keys.single(ACLS), Care::None, |id, rule| collect(&mut pairs, id, rule)).await?;
        let mut rules = Vec::with_capacity(pairs.len());
        for (id, rule) in pairs {
            rules.push((self.base().number(ACLS, &id)?, AclRule::decode(&rule)?));
        }
        rules.retain(|(id, _)| *id > after);
        rules.sort_unstable_by_key(|(id, _)| *id);
        Ok(rules)
    }

    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError> {
        let mut counts = [0; 3];
        for (count, name) in counts.iter_mut().zip(DIR_USAGE) {
            let key = self.base().keys.single(name);
            let Some(text) = self.field(&key, number(dir), Care::None).await? else { return Ok(None) };
            *count = self.base().number(name, &text)?;
        }
        let [length, space, inodes] = counts;
        Ok(Some(DirUsage { length, space, inodes }))
    }

    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError> {
        let counts = self.numbers(&self.base().keys.parents(ino)).await?;
        let present = counts.into_iter().filter(|(_, count)| *count > 0);
        Ok(present.map(|(parent, count)| ParentCount { ino, parent: Ino(parent), count }).collect())
    }
}

/// The lowest id that was never handed out, after `last`, the highest that was.
pub(crate) fn next_id(kind: IdKind, last: i64) -> u64 {
    let reserved = match kind {
        IdKind::Inode => Ino::ROOT.0,
        IdKind::Slice => 0,
    };
    u64::try_from(last).unwrap_or(0).max(reserved) + 1
}

/// Member of a deleted file in its sorted set.
pub(crate) fn deleted_member(file: &DeletedFile) -> String {
    format!("{}:{}", file.ino, file.length)
}

#[async_trait]
impl<V: View> RemovalRecords for Space<V> {
    async fn deleted_files(&self, before: i64, limit: usize) -> Result<Vec<DeletedFile>, MetaError> {
        let ranked = self.0.ranked(&self.base().keys.single(DELETED_FILES), before, limit).await?;
        let mut files = Vec::with_capacity(ranked.len());
        for (member, removed) in ranked {
            files.push(decode_deleted(self.base(), &member, removed)?);
        }
        files.sort_by_key(|file| (file.removed, file.ino));
        Ok(files)
    }
}

#[async_trait]
impl<V: View> SessionRecords for Space<V> {
    async fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError> {
        let keys = &self.base().keys;
        let ranked = self.0.ranked(&keys.single(SESSIONS), i64::MAX, usize::MAX).await?;
        let sids: Vec<Bytes> = ranked.iter().map(|(sid, _)| sid.clone()).collect();
        let infos = self.0.fields(&keys.single(SESSION_INFOS), &sids, Care::None).await?;
        let mut sessions = Vec::with_capacity(ranked.len());
        for ((sid, expire), info) in ranked.into_iter().zip(infos) {
            let sid = self.base().number(SESSIONS, &sid)?;
            sessions.push(SessionRecord { sid, expire, info: info.unwrap_or_default() });
        }
        sessions.sort_by_key(|session| session.sid);
        Ok(sessions)
    }

    async fn expired_sessions(&self, before: i64, limit: usize) -> Result<Vec<u64>, MetaError> {
        let ranked = self.0.ranked(&self.base().keys.single(SESSIONS), before, limit).await?;
        let sids: Result<Vec<u64>, MetaError> =
            ranked.iter().map(|(sid, _)| self.base().number(SESSIONS, sid)).collect();
        sids.map(|mut sids| {
            sids.sort_unstable();
            sids
        })
    }

    async fn sustained(&self, sid: u64) -> Result<Vec<Ino>, MetaError> {
        let key = self.base().keys.sustained(sid);
        let members = self.0.members(&key).await?;
        let inos: Result<Vec<Ino>, MetaError> =
            members.iter().map(|ino| self.base().number(&key, ino).map(Ino)).collect();
        inos.map(|mut inos| {
            inos.sort_unstable();
            inos
        })
    }
}
