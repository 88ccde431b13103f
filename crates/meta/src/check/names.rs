//! Paths of inodes that are known by number.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shoal_format::Ino;

use crate::engine::Records;
use crate::error::MetaError;
use crate::meta::Meta;
use crate::name::TRASH;

/// Names read at once.
const PAGE: usize = 4096;
/// Deepest path; a longer one is a cycle.
const DEPTH_MAX: usize = 4096;

/// Every path of each of `inos`, by inode; an inode without a name has none. Each directory that has one of them is read once.
pub async fn paths_of(meta: &Meta, inos: &BTreeSet<Ino>) -> Result<BTreeMap<Ino, Vec<Vec<u8>>>, MetaError> {
    let records = meta.engine().records();
    let mut wanted: BTreeMap<Ino, BTreeSet<Ino>> = BTreeMap::new();
    let mut paths: BTreeMap<Ino, Vec<Vec<u8>>> = inos.iter().map(|ino| (*ino, Vec::new())).collect();
    let mut dirs = Dirs { records, known: BTreeMap::from([(Ino::ROOT, Some(Vec::new()))]) };
    dirs.known.insert(Ino::TRASH, Some([b"/", TRASH].concat()));
    for ino in inos {
        for parent in parents(records, *ino).await? {
            wanted.entry(parent).or_default().insert(*ino);
        }
    }
    for (dir, inos) in wanted {
        let Some(above) = dirs.path(dir).await? else { continue };
        for (ino, name) in names_in(records, dir, &inos).await? {
            paths.entry(ino).or_default().push([&above[..], b"/", &name].concat());
        }
    }
    Ok(paths)
}

async fn parents(records: &dyn Records, ino: Ino) -> Result<Vec<Ino>, MetaError> {
    match records.attr(ino).await? {
        None => Ok(Vec::new()),
        Some(attr) if attr.parent != Ino::NONE => Ok(vec![attr.parent]),
        Some(_) => Ok(records.parents(ino).await?.into_iter().map(|parent| parent.parent).collect()),
    }
}

/// The names by which `dir` knows some of `inos`.
async fn names_in(records: &dyn Records, dir: Ino, inos: &BTreeSet<Ino>) -> Result<Vec<(Ino, Bytes)>, MetaError> {
    let (mut found, mut after) = (Vec::new(), Bytes::new());
    loop {
        let page = records.entries(dir, &after, PAGE).await?;
        found
            .extend(page.iter().filter(|entry| inos.contains(&entry.ino)).map(|entry| (entry.ino, entry.name.clone())));
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.name.clone(),
            _ => return Ok(found),
        }
    }
}

/// Paths of directories, as far as they were asked for.
struct Dirs<'a> {
    records: &'a dyn Records,
    /// `None` for a directory that no name leads to.
    known: BTreeMap<Ino, Option<Vec<u8>>>,
}

impl Dirs<'_> {
    async fn path(&mut self, dir: Ino) -> Result<Option<Vec<u8>>, MetaError> {
        let mut below = Vec::new();
        let mut here = dir;
        while !self.known.contains_key(&here) {
            below.push(here);
            let attr = self.records.attr(here).await?.filter(|_| below.len() < DEPTH_MAX);
            match attr {
                Some(attr) => here = attr.parent,
                None => {
                    self.known.insert(here, None);
                }
            }
        }
        let mut path = self.known.get(&here).cloned().flatten();
        let top = here;
        for dir in below.into_iter().rev().filter(|dir| *dir != top) {
            let name = match &path {
                Some(_) => names_in(self.records, here, &BTreeSet::from([dir])).await?.pop(),
                None => None,
            };
            path = path.zip(name).map(|(above, (_, name))| [&above[..], b"/", &name].concat());
            self.known.insert(dir, path.clone());
            here = dir;
        }
        Ok(path)
    }
}
