//! Lists of a directory tree in the byte order of the keys, a page at a time; blocking.
//!
//! A directory's names are sorted with the slash its keys would have (`a-b` before `a/x`), so a walk down is a walk in
//! key order; subtrees before `after` or outside `prefix` are not entered. Memory: the names of one directory per level.

use std::{fs, io, path::Path};

use super::entry::{is_temporary, object_meta};
use crate::ObjectEntry;

/// The first `limit` objects below `root` with `prefix` after `after`. A directory that disappears counts as empty.
pub(super) fn list_dir(root: &Path, prefix: &str, after: Option<&str>, limit: usize) -> io::Result<Vec<ObjectEntry>> {
    let mut walk = Walk { prefix, after: after.unwrap_or_default(), limit, found: Vec::new() };
    // Names above the prefix's last slash are given: start there.
    let base = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    walk.dir(&root.join(base), base)?;
    Ok(walk.found)
}

struct Walk<'a> {
    prefix: &'a str,
    /// Empty for none: no key is empty.
    after: &'a str,
    limit: usize,
    found: Vec<ObjectEntry>,
}

impl Walk<'_> {
    /// Visits the directory `path`, whose keys start with `base` (empty or with a slash at its end).
    fn dir(&mut self, path: &Path, base: &str) -> io::Result<()> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(path) {
            Err(error) if is_gone(&error) => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            // Names that are not UTF-8 cannot be keys.
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.file_type()? {
                kind if kind.is_dir() => names.push(name + "/"),
                _ if is_temporary(&name) => {}
                _ => names.push(name),
            }
        }
        names.sort_unstable();
        for name in names {
            if self.found.len() == self.limit {
                return Ok(());
            }
            let key = format!("{base}{name}");
            if key.ends_with('/') {
                let inside = key.starts_with(self.prefix) || self.prefix.starts_with(&key);
                let ahead = key.as_str() > self.after || self.after.starts_with(&key);
                if inside && ahead {
                    self.dir(&path.join(&name), &key)?;
                }
            } else if key.starts_with(self.prefix) && key.as_str() > self.after {
                self.file(&path.join(&name), key)?;
            }
        }
        Ok(())
    }

    /// Links are followed to files, never to directories: a tree cannot become a loop.
    fn file(&mut self, path: &Path, key: String) -> io::Result<()> {
        match fs::metadata(path).and_then(|found| object_meta(&found)) {
            Ok(meta) => self.found.push(ObjectEntry { key, meta }),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
