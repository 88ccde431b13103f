//! What a command's argument names: a volume, a path in it, or a path in a mount.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    let TargetArgs { paths, meta, ring } = args;
    let options = OpenOptions::new(Access::Read);
    if let Some(url) = meta {
        let volume = Volume::open(url, &options, registry).await?;
        let paths = paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        return Ok(Target { volume, ring: ring.ring()?, paths });
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
    let volume = Volume::open(&state.meta_url, &options, registry).await?;
    let ring = match ring.ring()? {
        Some(ring) => Some(ring),
        None => state.ring(),
    };
    Ok(Target { volume, ring, paths: inside })
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
