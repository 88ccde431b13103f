//! What a command's argument names: a volume, a path in it, or a path in a mount.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use shoal_runtime::metrics::Registry;
use shoal_volume::{Access, OpenOptions, RingOptions, Volume};

use crate::mount_state::MountState;
use crate::options::TargetArgs;

/// Splits `META-URL[:/path]`; the path is `/` where none is given.
///
/// The colon counts only behind the scheme, and the last `:/` wins, so that `sqlite3:///a/b.db:/dir` and `redis://host:6379/1` are
/// both read as meant.
pub(crate) fn split_path(target: &str) -> (&str, &str) {
    let start = target.find("://").map_or(0, |at| at + 3);
    match target[start..].rfind(":/") {
        Some(at) => (&target[..start + at], &target[start + at + 1..]),
        None => (target, "/"),
    }
}

/// A volume, and paths in it as bytes from its root.
pub(crate) struct Target {
    pub volume: Volume,
    pub ring: Option<RingOptions>,
    pub paths: Vec<Vec<u8>>,
}

/// Finds the volume and ring that `args` are about: those of the mount the paths lie in, or, with `--meta`, those of the flags.
pub(crate) async fn open(args: &TargetArgs, registry: &Registry) -> anyhow::Result<Target> {
    let located = locate(args.meta.as_deref(), &args.paths)?;
    let volume = Volume::open(&located.url, &OpenOptions::new(Access::Read), registry).await?;
    let ring = match (args.ring.ring()?, &located.mount) {
        (None, Some(mount)) => mount.ring(),
        (ring, _) => ring,
    };
    Ok(Target { volume, ring, paths: located.paths })
}

/// Where paths are.
pub(crate) struct Located {
    /// Metadata URL of their volume.
    pub url: String,
    /// As bytes from the volume's root.
    pub paths: Vec<Vec<u8>>,
    /// The mount they lie in; `None` if the volume was named.
    pub mount: Option<MountState>,
}

/// Finds the volume that `paths` lie in: that of their mount, or the one at `meta`. Errors: they lie in different ones, or in none.
pub(crate) fn locate(meta: Option<&str>, paths: &[PathBuf]) -> anyhow::Result<Located> {
    if let Some(url) = meta {
        let paths = paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        return Ok(Located { url: url.to_owned(), paths, mount: None });
    }
    let mut found: Option<MountState> = None;
    let mut inside = Vec::new();
    for path in paths {
        let (state, path_inside) = MountState::of(path)?;
        if let Some(other) = &found {
            ensure!(
                other.mountpoint == state.mountpoint,
                "{} is in another mount than the paths before it",
                path.display()
            );
        }
        inside.push(path_inside);
        found = Some(state);
    }
    let state = found.context("no path given")?;
    Ok(Located { url: state.meta_url.clone(), paths: inside, mount: Some(state) })
}

/// Bytes of a path for people.
pub(crate) fn shown(path: &[u8]) -> String {
    Path::new(OsStr::from_bytes(path)).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_path_is_what_follows_the_last_colon_slash() {
        assert_eq!(split_path("sqlite3:///a/b.db"), ("sqlite3:///a/b.db", "/"));
        assert_eq!(split_path("sqlite3:///a/b.db:/data/x"), ("sqlite3:///a/b.db", "/data/x"));
        assert_eq!(split_path("sqlite3://b.db:/"), ("sqlite3://b.db", "/"));
        assert_eq!(split_path("redis://h:6379/1"), ("redis://h:6379/1", "/"));
        assert_eq!(split_path("redis://:pw@h:6379/1:/x"), ("redis://:pw@h:6379/1", "/x"));
    }
}
