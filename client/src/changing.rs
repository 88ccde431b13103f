//! A command that changes a volume: it is a client of its own among the volume's writers for as long as it runs.

use anyhow::{Context, ensure};
use shoal_format::{Ino, SessionInfo};
use shoal_meta::{Caller, HEARTBEAT, Meta, Session};
use shoal_runtime::metrics::Registry;
use shoal_volume::{Access, OpenOptions, Volume};

use crate::target::{Located, shown};

/// A volume, and this command as one of its writers.
pub(crate) struct Changing {
    pub volume: Volume,
    pub session: Session,
}

impl Changing {
    /// Joins the volume at `url`; other clients' `status` shows it as `what`. What it removes it deletes itself.
    pub(crate) async fn open(url: &str, what: &str) -> anyhow::Result<Changing> {
        let volume = Volume::open(url, &OpenOptions::new(Access::Write), &Registry::new()).await?;
        let session = Session::open(volume.meta.clone(), session_info(what), HEARTBEAT).await?;
        session.start_deletions(volume.slices());
        Ok(Changing { volume, session })
    }

    /// As [`Changing::open`] for paths. Errors: also where their mount is only read.
    pub(crate) async fn at(located: &Located, what: &str) -> anyhow::Result<Changing> {
        if let Some(mount) = located.mount.as_ref().filter(|mount| mount.read_only) {
            let at = mount.mountpoint.display();
            anyhow::bail!(
                "{at} is mounted for reading; to change the volume all the same, name it with --meta META-URL"
            );
        }
        Changing::open(&located.url, what).await
    }

    /// Leaves the volume in order once the work is `done`, whatever came of it.
    pub(crate) async fn close<T>(self, done: anyhow::Result<T>) -> anyhow::Result<T> {
        let closed = self.session.close().await;
        self.volume.meta.close().await;
        let value = done?;
        closed.context("the volume was not left in order")?;
        Ok(value)
    }
}

/// What other clients' `status` shows of this process.
pub(crate) fn session_info(mount_point: &str) -> SessionInfo {
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    SessionInfo {
        version: format!("shoal {}", env!("CARGO_PKG_VERSION")),
        host_name,
        mount_point: mount_point.to_owned(),
        process_id: i64::from(std::process::id()),
        ..SessionInfo::default()
    }
}

/// Who runs this command: no kernel checks what it does, so its permissions are checked by the rules.
pub(crate) fn caller() -> anyhow::Result<Caller> {
    let groups = rustix::process::getgroups()?.into_iter().map(|group| group.as_raw()).collect();
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    Ok(Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups,
        umask: (umask.bits() & 0o777) as u16,
        pid: std::process::id(),
        check: true,
    })
}

/// The directory that a path's last name is in, and that name. Errors: there is no such directory; the path is the root.
pub(crate) async fn place<'a>(meta: &Meta, path: &'a [u8]) -> anyhow::Result<(Ino, &'a [u8])> {
    let trimmed = without_slashes(path);
    let at = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = &trimmed[at..];
    ensure!(!name.is_empty(), "the root of the volume is no name in a directory");
    let (parent, _) = meta
        .resolve_path(&trimmed[..at])
        .await?
        .with_context(|| format!("no such directory in the volume: {}", shown(&trimmed[..at])))?;
    Ok((parent, name))
}

/// `path` without slashes at its end.
fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    &path[..end]
}
