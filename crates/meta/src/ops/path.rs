//! A path from the root, component by component.

use shoal_format::{Attr, Ino};

use super::lookup::lookup;
use crate::engine::Records;
use crate::error::MetaError;

/// Components of a path; empty ones and `.` are left out.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

/// The inode at `path`, a leading `/` or not. `..` goes back one component and stops at the root; symbolic links are not
/// followed, and a path through one (or through any other file) finds nothing.
pub(crate) async fn resolve_path(records: &dyn Records, path: &[u8]) -> Result<Option<(Ino, Attr)>, MetaError> {
    let Some(root) = records.attr(Ino::ROOT).await? else { return Ok(None) };
    let mut above = Vec::new();
    let mut here = (Ino::ROOT, root);
    for name in components(path) {
        if !here.1.is_dir() {
            return Ok(None);
        }
        if name == b".." {
            here = above.pop().unwrap_or(here);
            continue;
        }
        let Some(child) = lookup(records, here.0, name).await? else { return Ok(None) };
        above.push(std::mem::replace(&mut here, child));
    }
    Ok(Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_components_and_dots_vanish() {
        let parts: Vec<&[u8]> = components(b"//a/./b\xff/../c/").collect();
        assert_eq!(parts, [&b"a"[..], b"b\xff", b"..", b"c"]);
        assert_eq!(components(b"/").count(), 0);
    }
}
