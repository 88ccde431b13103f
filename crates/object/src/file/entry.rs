//! A file seen as an object: its length, ETag and time, and which names are not objects yet.

use std::{fs, io, os::unix::fs::MetadataExt};

use crate::ObjectMeta;

/// What temporary files start with, as in JuiceFS (volume format 3.4).
pub(super) const TEMP_PREFIX: &str = ".jfs.";

/// True for the names puts use before their rename.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMP_PREFIX) && name.contains(".tmp.")
}

/// Length, ETag and time of a regular file. Errors: `NotFound` for a directory, which is no object.
pub(super) fn object_meta(found: &fs::Metadata) -> io::Result<ObjectMeta> {
    if !found.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let modified = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    let etag = format!("\"{:x}-{:x}-{modified:x}\"", found.ino(), found.len());
    Ok(ObjectMeta { len: found.len(), etag: Some(etag), modified: found.modified().ok() })
}
