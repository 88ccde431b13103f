//! Some names of a directory with everything a dump says of them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::try_join;
use parking_lot::Mutex;
use shoal_format::{AclRule, Attr, CHUNK_BYTES, FileType, Ino};
use shoal_runtime::task;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::text;
use crate::error::MetaError;
use crate::meta::Meta;
use crate::name::show_name;
use crate::record::{ChunkSlices, DirEntry, Xattr};

/// Names read at once.
const NAMES: usize = 256;
/// Chunks of a file that are read with its name; those of longer files are read when it is their turn.
pub(super) const CHUNKS_HELD: u64 = 4096;

/// A name, and what is known of its inode.
pub(super) struct Item {
    pub(super) name: Bytes,
    pub(super) ino: Ino,
    pub(super) attr: Attr,
    /// Members of the entry between its attribute and its chunks, each with its value.
    pub(super) members: Vec<(&'static str, String)>,
    /// Chunk lists, unless the file is longer than [`CHUNKS_HELD`].
    pub(super) chunks: Vec<ChunkSlices>,
}

/// A part of a directory's listing.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// The name behind which the next page begins.
    pub(super) after: Option<Bytes>,
}

/// Reads pages, as many at once as there are turns.
#[derive(Clone)]
pub(super) struct Pages {
    meta: Meta,
    turns: Arc<Semaphore>,
    acls: Arc<Mutex<HashMap<u32, Option<String>>>>,
}

impl Pages {
    pub(super) fn new(meta: &Meta, threads: usize) -> Pages {
        let threads = threads.clamp(1, Semaphore::MAX_PERMITS);
        Pages { meta: meta.clone(), turns: Arc::new(Semaphore::new(threads)), acls: Arc::default() }
    }

    /// Begins to read the names of `dir` behind `after`.
    pub(super) fn start(&self, dir: Ino, after: Bytes) -> JoinHandle<Result<Page, MetaError>> {
        let pages = self.clone();
        task::spawn("dump-page", async move {
            // Never closed.
            let _turn = pages.turns.acquire().await;
            pages.read(dir, &after).await
        })
    }

    async fn read(&self, dir: Ino, after: &[u8]) -> Result<Page, MetaError> {
        let entries = self.meta.engine().records().entries(dir, after, NAMES).await?;
        let after = entries.last().filter(|_| entries.len() == NAMES).map(|entry| entry.name.clone());
        let found = entries.into_iter().map(|entry| {
            let attr = entry.attr.clone().unwrap_or_else(|| absent(dir, &entry));
            (entry.name, entry.ino, attr)
        });
        Ok(Page { items: self.items(found.collect()).await?, after })
    }

    /// The tree's root, which has no name.
    pub(super) async fn root(&self, name: &'static [u8], ino: Ino, attr: Attr) -> Result<Item, MetaError> {
        let mut items = self.items(vec![(Bytes::from_static(name), ino, attr)]).await?;
        items.pop().ok_or_else(|| MetaError::no_inode(ino))
    }

    pub(super) async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError> {
        self.meta.chunks(ino, range).await
    }

    async fn items(&self, found: Vec<(Bytes, Ino, Attr)>) -> Result<Vec<Item>, MetaError> {
        let records = self.meta.engine().records();
        let of = |wanted: &dyn Fn(&Attr) -> bool| -> Vec<Ino> {
            let mut inos: Vec<Ino> = found.iter().filter(|(_, _, attr)| wanted(attr)).map(|(_, ino, _)| *ino).collect();
            // One inode may have several names here.
            inos.sort_unstable();
            inos.dedup();
            inos
        };
        let links = of(&|attr| attr.kind == FileType::Symlink);
        let files =
            of(&|attr| attr.kind == FileType::Regular && (1..=CHUNKS_HELD * CHUNK_BYTES).contains(&attr.length));
        let all = of(&|_| true);
        let (links, xattrs, chunks) =
            try_join!(records.symlinks_of(&links), records.xattrs_of(&all), records.chunks_of(&files))?;
        let links: HashMap<Ino, Bytes> = links.into_iter().collect();
        let mut named: HashMap<Ino, Vec<Xattr>> = HashMap::new();
        xattrs.into_iter().for_each(|xattr| named.entry(xattr.ino).or_default().push(xattr));
        named.values_mut().for_each(|xattrs| xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name)));
        let mut lists: HashMap<Ino, Vec<ChunkSlices>> = HashMap::new();
        chunks.into_iter().for_each(|list| lists.entry(list.ino).or_default().push(list));
        let mut items = Vec::with_capacity(found.len());
        for (name, ino, attr) in found {
            let members = self.members(ino, &attr, links.get(&ino), named.get(&ino)).await?;
            let chunks = lists.get(&ino).cloned().unwrap_or_default();
            items.push(Item { name, ino, attr, members, chunks });
        }
        Ok(items)
    }

    async fn members(
        &self,
        ino: Ino,
        attr: &Attr,
        target: Option<&Bytes>,
        xattrs: Option<&Vec<Xattr>>,
    ) -> Result<Vec<(&'static str, String)>, MetaError> {
        let mut members = Vec::new();
        match target {
            Some(target) => {
                let mut text = Vec::new();
                text::escape(target, &mut text);
                members.push(("symlink", format!("\"{}\"", String::from_utf8_lossy(&text))));
            }
            None if attr.kind == FileType::Symlink => tracing::warn!(%ino, "a symbolic link has no target"),
            None => {}
        }
        if let Some(xattrs) = xattrs {
            let lossy = |xattr: &&Xattr| std::str::from_utf8(&xattr.name).is_err();
            if let Some(xattr) = xattrs.iter().find(lossy) {
                let name = show_name(&xattr.name);
                tracing::warn!(%ino, name, "an extended attribute has a name that is no text, which JSON changes");
            }
            members.push(("xattrs", text::xattrs(xattrs)));
        }
        for (name, id) in [("posix_acl_access", attr.access_acl), ("posix_acl_default", attr.default_acl)] {
            if let Some(rule) = self.acl(ino, id).await? {
                members.push((name, rule));
            }
        }
        Ok(members)
    }

    async fn acl(&self, ino: Ino, id: u32) -> Result<Option<String>, MetaError> {
        if id == 0 {
            return Ok(None);
        }
        let known = self.acls.lock().get(&id).cloned();
        if let Some(rule) = known {
            return Ok(rule);
        }
        let rule = self.meta.engine().records().acl(id).await?;
        if rule.is_none() {
            tracing::warn!(%ino, id, "an inode names an ACL rule that does not exist");
        }
        let rule = rule.as_ref().map(|rule: &AclRule| text::acl(rule));
        self.acls.lock().insert(id, rule.clone());
        Ok(rule)
    }
}

/// What real clients dump of a name whose inode does not exist.
fn absent(dir: Ino, entry: &DirEntry) -> Attr {
    let (name, ino) = (show_name(&entry.name), entry.ino);
    tracing::warn!(%dir, name, %ino, "a name stands for an inode that does not exist");
    Attr { length: 0, nlink: 1, ..Attr::new(entry.kind, 0, dir, Default::default()) }
}
