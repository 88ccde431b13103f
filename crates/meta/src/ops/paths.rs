//! Every path of an inode, by the directories above it.

use bytes::Bytes;
use shoal_format::{Attr, Ino};

use super::readdir::PAGE;
use crate::engine::Records;
use crate::error::MetaError;
use crate::name::TRASH;

/// Deepest path that is followed; a longer one is a cycle in damaged metadata.
const DEPTH_MAX: usize = 4096;

/// The paths of inode `ino` from the root, in byte order. None for one without a name. Directories on the way are listed to find
/// names, so this takes long where they are large.
pub(crate) async fn paths_of(records: &dyn Records, ino: Ino, attr: &Attr) -> Result<Vec<Bytes>, MetaError> {
    if ino == Ino::ROOT {
        return Ok(vec![Bytes::from_static(b"/")]);
    }
    if ino == Ino::TRASH {
        return Ok(vec![Bytes::from([b"/", TRASH].concat())]);
    }
    let parents: Vec<Ino> = match attr.parent {
        Ino::NONE => records.parents(ino).await?.into_iter().map(|record| record.parent).collect(),
        parent => vec![parent],
    };
    let mut paths = Vec::new();
    for parent in parents {
        let Some(above) = dir_path(records, parent).await? else { continue };
        for name in names_in(records, parent, ino).await? {
            paths.push(joined(&above, &name));
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// The path of a directory; `None` if it is not reached from the root.
async fn dir_path(records: &dyn Records, dir: Ino) -> Result<Option<Bytes>, MetaError> {
    let (mut ino, mut names) = (dir, Vec::new());
    while ino != Ino::ROOT && ino != Ino::TRASH {
        if names.len() > DEPTH_MAX {
            return Err(MetaError::Corrupt { what: format!("directory {dir} lies in a cycle of directories") });
        }
        let Some(attr) = records.attr(ino).await? else { return Ok(None) };
        let Some(name) = names_in(records, attr.parent, ino).await?.into_iter().next() else { return Ok(None) };
        names.push(name);
        ino = attr.parent;
    }
    let top = if ino == Ino::TRASH { Bytes::from([b"/", TRASH].concat()) } else { Bytes::from_static(b"/") };
    Ok(Some(names.iter().rev().fold(top, |path, name| joined(&path, name))))
}

async fn names_in(records: &dyn Records, parent: Ino, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
    let (mut names, mut after) = (Vec::new(), Bytes::new());
    loop {
        let page = records.entries(parent, &after, PAGE).await?;
        names.extend(page.iter().filter(|entry| entry.ino == ino).map(|entry| entry.name.clone()));
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.name.clone(),
            _ => return Ok(names),
        }
    }
}

fn joined(above: &[u8], name: &[u8]) -> Bytes {
    let slash: &[u8] = if above == b"/" { b"" } else { b"/" };
    Bytes::from([above, slash, name].concat())
}
