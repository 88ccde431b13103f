//! What a running mount tells other commands of itself, through the virtual file `.config` in its root.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shoal_fuse::{CONFIG_NAME, INTERNAL_PREFIX};
use shoal_volume::RingOptions;

/// How long another command waits for a ring that the mount already uses.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mount's configuration. Readable by the mounting user only: the metadata URL may hold a password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MountState {
    /// Version of this shape.
    pub version: u32,
    pub meta_url: String,
    pub name: String,
    pub uuid: String,
    pub mountpoint: PathBuf,
    pub pid: u32,
    pub group: Option<String>,
    pub join: Vec<String>,
    pub certs: Option<PathBuf>,
    pub metrics: Option<String>,
    /// Directory of the volume that is its root; empty for all of it.
    #[serde(default)]
    pub subdir: String,
    /// Nothing is changed through it.
    #[serde(default)]
    pub read_only: bool,
    /// Where blocks wait to be stored, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<PathBuf>,
    /// Where it logs, if that is a file of its own.
    #[serde(default)]
    pub log: Option<PathBuf>,
}

/// Version of [`MountState`] written.
pub(crate) const VERSION: u32 = 1;

impl MountState {
    /// The mount that `path` lies in, and the path in its volume.
    pub(crate) fn of(path: &Path) -> anyhow::Result<(MountState, Vec<u8>)> {
        // The last part may be a symbolic link in the volume: it is meant itself, not its target.
        let full = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                std::fs::canonicalize(parent).with_context(|| format!("no such path: {}", path.display()))?.join(name)
            }
            _ => std::fs::canonicalize(path).with_context(|| format!("no such path: {}", path.display()))?,
        };
        std::fs::symlink_metadata(&full).with_context(|| format!("no such path: {}", path.display()))?;
        let prefixed = format!("{INTERNAL_PREFIX}{CONFIG_NAME}");
        for (root, name) in full.ancestors().flat_map(|root| [(root, CONFIG_NAME), (root, prefixed.as_str())]) {
            let config = root.join(name);
            // A file of that name that somebody else made must not lead us to a database of theirs.
            let ours = std::fs::metadata(&config).is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw());
            if !ours {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(config) else { continue };
            let Ok(state) = serde_json::from_str::<MountState>(&text) else { continue };
            let inside = below(root, &full)?;
            let inside = [state.subdir.trim_end_matches('/').as_bytes(), &inside].concat();
            return Ok((state, inside));
        }
        anyhow::bail!("{} is not in a Shoal mount of this user; name the volume with --meta META-URL", path.display())
    }

    /// The ring the mount uses, if it uses one.
    pub(crate) fn ring(&self) -> Option<RingOptions> {
        let certs = self.certs.clone()?;
        let ring = RingOptions { group: self.group.clone(), seeds: self.join.clone(), certs, patience: PATIENCE };
        (!self.join.is_empty()).then_some(ring)
    }
}

/// `path` as the bytes of an absolute path in a volume: the part of it below `root`.
fn below(root: &Path, path: &Path) -> anyhow::Result<Vec<u8>> {
    let rest =
        path.strip_prefix(root).with_context(|| format!("{} is not below {}", path.display(), root.display()))?;
    let mut bytes = b"/".to_vec();
    bytes.extend_from_slice(rest.as_os_str().as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_mount_are_absolute_in_the_volume() {
        assert_eq!(below(Path::new("/mnt"), Path::new("/mnt/a/b")).expect("below"), b"/a/b");
        assert_eq!(below(Path::new("/mnt"), Path::new("/mnt")).expect("below"), b"/");
        assert!(below(Path::new("/mnt"), Path::new("/other")).is_err());
    }
}
