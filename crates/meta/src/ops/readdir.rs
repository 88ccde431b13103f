//! Listing a directory with attributes, page by page.

use shoal_format::Ino;

use crate::engine::Records;
use crate::error::MetaError;
use crate::record::DirEntry;

/// Dentries read at once: some hundred KiB of rows, so that a huge directory neither fills memory twice nor holds a read
/// view of the database for long.
pub(crate) const PAGE: usize = 4096;

/// Every dentry of `dir`, in byte order of the names.
///
/// A directory that changes meanwhile is listed as POSIX allows: names that were there throughout appear once.
pub(crate) async fn readdir(records: &dyn Records, dir: Ino) -> Result<Vec<DirEntry>, MetaError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|entry: &DirEntry| entry.name.clone()).unwrap_or_default();
        let page = readdir_page(records, dir, &after, PAGE).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Up to `limit` dentries of `dir` with names greater than `after`. `NotFound` and `Invalid` for an inode that is no directory.
pub(crate) async fn readdir_page(
    records: &dyn Records,
    dir: Ino,
    after: &[u8],
    limit: usize,
) -> Result<Vec<DirEntry>, MetaError> {
    let page = records.entries(dir, after, limit).await?;
    if page.is_empty() && after.is_empty() {
        // Only an empty first page can mean that there is no such directory.
        match records.attr(dir).await? {
            None => return Err(MetaError::no_inode(dir)),
            Some(attr) if !attr.is_dir() => return Err(MetaError::NotDirectory { what: format!("inode {dir}") }),
            Some(_) => {}
        }
    }
    Ok(page)
}
