//! Mounting and unmounting.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use shoal_runtime::metrics::Registry;
use shoal_types::ErrorKind;
use shoal_vfs::Vfs;
use tokio::runtime::Handle;

use crate::ops::ShoalFs;
use crate::options::{FuseOptions, KERNEL_READAHEAD_BYTES};

/// A volume could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mountpoint is missing or no directory.
    #[error("mountpoint {path} cannot be used: {reason}")]
    Mountpoint {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is mounted there already.
    #[error("mountpoint {path} is in use: {what} is mounted there; unmount it first with `shoal umount {path}`")]
    InUse {
        /// The path as given.
        path: PathBuf,
        /// The file system's source and type.
        what: String,
    },
    /// The kernel or the mount helper refused.
    #[error("cannot mount at {path}: is /dev/fuse there, and may this user mount (package fuse3)?")]
    Refused {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// What the caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            MountError::Mountpoint { .. } => ErrorKind::Invalid,
            MountError::InUse { .. } => ErrorKind::Conflict,
            MountError::Refused { source, .. } => ErrorKind::of_io(source),
        }
    }
}

/// A mounted volume. Dropping it unmounts.
pub struct Mounted {
    session: BackgroundSession,
    mountpoint: PathBuf,
}

/// Mounts `vfs`; returns once the kernel and we have agreed. Work that waits runs on `runtime`.
pub fn mount(vfs: Vfs, options: FuseOptions, runtime: Handle, registry: Registry) -> Result<Mounted, MountError> {
    let path = options.mountpoint.clone();
    check_mountpoint(&path)?;
    let config = session_config(&options, vfs.is_writable());
    let owner = (rustix_uid(), rustix_gid());
    let fs = ShoalFs::new(vfs, options, runtime, registry, owner);
    let refused = |source| MountError::Refused { path: path.clone(), source };
    let session = Session::new(fs.clone(), &path, &config).and_then(Session::spawn).map_err(refused)?;
    fs.notify_through(session.notifier());
    raise_readahead(&path);
    Ok(Mounted { session, mountpoint: path })
}

impl Mounted {
    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// True once the kernel has ended the session: somebody unmounted it.
    pub fn is_finished(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts; files still open keep it busy.
    pub fn unmount(self) -> io::Result<()> {
        self.session.umount_and_join()
    }
}

fn rustix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn rustix_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

fn check_mountpoint(path: &Path) -> Result<(), MountError> {
    let bad = |reason: String| MountError::Mountpoint { path: path.to_owned(), reason };
    let full = std::fs::canonicalize(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTCONN) => bad(format!("a dead mount is left there; run `shoal umount {}` first", path.display())),
        _ => bad(error.to_string()),
    })?;
    if !full.is_dir() {
        return Err(bad("it is not a directory".into()));
    }
    match mounted_at(&full) {
        Some(what) => Err(MountError::InUse { path: path.to_owned(), what }),
        None => Ok(()),
    }
}

/// Source and type of what is mounted exactly at `path`, from /proc/self/mountinfo (proc(5)).
fn mounted_at(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let at = unescape(left.split(' ').nth(4)?);
        let mut words = right.split(' ');
        let (kind, source) = (words.next()?, words.next()?);
        (Path::new(&at) == path).then(|| format!("{} ({kind})", unescape(source)))
    })
}

/// Undoes the octal escapes of mountinfo: `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

fn session_config(options: &FuseOptions, writable: bool) -> Config {
    let mut mount_options = vec![
        MountOption::FSName(options.fsname.clone()),
        MountOption::Subtype("shoal".into()),
        if writable { MountOption::RW } else { MountOption::RO },
        MountOption::NoAtime,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    if options.squash.is_none() {
        mount_options.push(MountOption::DefaultPermissions);
    }
    for extra in &options.extra {
        mount_options.push(match extra.as_str() {
            "dev" | "suid" | "ro" | "noatime" | "nodev" | "nosuid" | "default_permissions" => continue,
            "noexec" => MountOption::NoExec,
            "exec" => MountOption::Exec,
            other => MountOption::CUSTOM(other.to_owned()),
        });
    }
    let mut config = Config::default();
    config.mount_options = mount_options;
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = options.threads > 1;
    config
}

/// Raises the device's read-ahead to what `init` agreed on: the kernel caps it at 128 KiB otherwise. Needs root; without it reads
/// are smaller, not wrong.
fn raise_readahead(mountpoint: &Path) {
    let Ok(stat) = std::fs::metadata(mountpoint) else { return };
    let (major, minor) = (libc::major(stat.dev()), libc::minor(stat.dev()));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, (KERNEL_READAHEAD_BYTES / 1024).to_string()) {
        tracing::debug!(path, %error, "the kernel's read-ahead stays at its default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"plain\"), r"plain\");
    }

    #[test]
    fn a_missing_mountpoint_is_named() {
        let error = check_mountpoint(Path::new("/nonexistent/shoal")).expect_err("refused");
        assert!(error.to_string().starts_with("mountpoint /nonexistent/shoal cannot be used"), "{error}");
        assert!(matches!(check_mountpoint(Path::new("/proc")), Err(MountError::InUse { .. })));
    }
}
