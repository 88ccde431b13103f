//! The node's id, kept with its blocks: the ring gives a node that comes back the share whose blocks it still holds.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use shoal_runtime::rng;
use shoal_types::NodeId;

/// File in the first cache directory that holds the id: 32 hexadecimal digits and a line feed.
const FILE: &str = "node-id";

/// The id in `dir`, made on first use; a new one each time for a node without a cache directory, which comes back empty.
pub(crate) fn load_or_make(dir: Option<&Path>) -> anyhow::Result<NodeId> {
    let Some(dir) = dir else { return Ok(NodeId(rng::id16())) };
    let path = dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{} is damaged; remove it to give the node a new identity", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = NodeId(rng::id16());
            let draft = dir.join(format!(".{FILE}.new"));
            write_durably(&draft, &format!("{id}\n"))
                .and_then(|()| std::fs::rename(&draft, &path))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// After a power cut the file is whole or absent: an empty one would keep the node from starting.
fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_with_the_directory() {
        let dir = tempfile::tempdir().expect("directory");
        let id = load_or_make(Some(dir.path())).expect("made");
        assert_eq!(load_or_make(Some(dir.path())).expect("kept"), id);
        std::fs::write(dir.path().join(FILE), "junk").expect("written");
        assert!(load_or_make(Some(dir.path())).is_err());
        assert_ne!(load_or_make(None).expect("made"), load_or_make(None).expect("made"));
    }
}
