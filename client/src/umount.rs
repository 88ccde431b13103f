//! `shoal umount`: ends a mount, also one whose process is gone or hangs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use shoal_fuse::{CONFIG_NAME, INTERNAL_PREFIX};
use shoal_runtime::task;

use crate::mount_state::MountState;

/// How often a process that stores what it staged is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a mount may take to say which process it is.
const ANSWER: Duration = Duration::from_secs(2);

/// Flags of `umount`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the volume is mounted
    mountpoint: PathBuf,
    /// Unmount although files are open; they fail from then on
    #[arg(long, short)]
    force: bool,
    /// Wait until blocks that --writeback staged on this host's disk are stored
    #[arg(long)]
    flush: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (path, kind) =
        find(&args.mountpoint).with_context(|| format!("nothing is mounted at {}", args.mountpoint.display()))?;
    ensure!(kind.starts_with("fuse"), "{} is a mount of type {kind}, not one of Shoal's", path.display());
    match look(&path) {
        // A dead mount is never busy: whoever holds files there only gets errors.
        Look::Dead => {
            ensure!(
                !args.flush,
                "the process of {} is gone; mount the volume again to store what it staged",
                path.display()
            );
            detach(&path, true)
        }
        Look::Served { pid, stages: true } if args.flush => {
            // It was there a moment ago, and gone it has nothing to store.
            let _ = kill_process(pid, Signal::USR1);
            detach(&path, args.force)?;
            if args.force {
                end(pid);
            }
            wait_for_end(pid);
            Ok(())
        }
        Look::Served { pid, .. } if args.force => {
            detach(&path, true)?;
            // Detached, it would serve the files that are open for as long as they are.
            end(pid);
            Ok(())
        }
        Look::Served { .. } | Look::Silent | Look::Foreign => detach(&path, args.force),
    }
}

/// What is behind a mountpoint.
enum Look {
    /// The process of ours with this id, which may have staged blocks.
    Served { pid: Pid, stages: bool },
    /// A file system that is not ours, or not this user's.
    Foreign,
    /// Nobody: its process is gone.
    Dead,
    /// Somebody who does not answer.
    Silent,
}

/// Asks the mount itself; on a thread, because a hung one never answers.
fn look(path: &Path) -> Look {
    let (sender, answer) = mpsc::sync_channel(1);
    let point = path.to_owned();
    drop(task::thread("look", move || {
        // Opening a file always asks the process behind it; an attribute may be one that the kernel remembers.
        let prefixed = format!("{INTERNAL_PREFIX}{CONFIG_NAME}");
        let config = std::fs::read(point.join(CONFIG_NAME)).or_else(|error| match error.kind() {
            ErrorKind::NotFound => std::fs::read(point.join(prefixed)),
            _ => Err(error),
        });
        let look = match config {
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Look::Dead,
            Err(_) => Look::Foreign,
            Ok(text) => {
                let state = serde_json::from_slice::<MountState>(&text).ok();
                let served = state.and_then(|state| {
                    let pid = Pid::from_raw(i32::try_from(state.pid).ok()?)?;
                    Some(Look::Served { pid, stages: state.staging.is_some() })
                });
                served.unwrap_or(Look::Foreign)
            }
        };
        // Nobody may be waiting any more.
        let _ = sender.send(look);
    }));
    answer.recv_timeout(ANSWER).unwrap_or(Look::Silent)
}

/// Asks the process of a mount to end; one that is gone by now is as good.
fn end(pid: Pid) {
    let _ = kill_process(pid, Signal::TERM);
}

/// Waits until a process is gone, or only its parent has not noticed yet.
fn wait_for_end(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    // proc_pid_stat(5): the state follows the name, which ends with the last parenthesis.
    let runs = |text: String| text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
    while std::fs::read_to_string(&stat).is_ok_and(runs) {
        std::thread::park_timeout(LOOK);
    }
}

/// Whether something is mounted at `path`.
pub(crate) fn is_mounted(path: &Path) -> bool {
    find(path).is_some()
}

/// The mount that `path` names, as the kernel spells its place, and its type. The mount itself is touched last: its process may be
/// gone or stuck.
fn find(path: &Path) -> Option<(PathBuf, String)> {
    let beside = || {
        let path = std::path::absolute(path).ok()?;
        with_kind(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
    };
    // What is left are paths such as `.` and symbolic links.
    beside().or_else(|| with_kind(std::fs::canonicalize(path).ok()?))
}

fn with_kind(path: PathBuf) -> Option<(PathBuf, String)> {
    let kind = mounted_kind(&path)?;
    Some((path, kind))
}

/// Ends the mount at `path`; `lazy` also when it is in use.
pub(crate) fn detach(path: &Path, lazy: bool) -> anyhow::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(path, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => {
            bail!(
                "{} is in use; close the files and shells there (`fuser -m {0}` lists them) or pass --force",
                path.display()
            )
        }
        Err(rustix::io::Errno::PERM) => detach_as_user(path, lazy),
        Err(error) => Err(error).with_context(|| format!("cannot unmount {}", path.display())),
    }
}

/// Users other than root unmount through the setuid helper of package fuse3.
fn detach_as_user(path: &Path, lazy: bool) -> anyhow::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg(if lazy { "-uz" } else { "-u" }).arg("--").arg(path).stdin(Stdio::null());
    let output = command.output().context("cannot run fusermount3; install package fuse3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Type of the mount at exactly `path`, from /proc/self/mounts.
fn mounted_kind(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let shown = path.display().to_string().replace('\\', "\\134").replace(' ', "\\040");
    table.lines().rev().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        (words.next()? == shown).then(|| words.next().map(str::to_owned))?
    })
}
