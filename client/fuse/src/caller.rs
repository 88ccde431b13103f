//! Who asks, and as whom that counts.

use fuser::Request;
use shoal_meta::{Caller, MAY_EXECUTE, MAY_READ, MAY_WRITE};

/// The kernel opens a file to run it (`__FMODE_EXEC` of linux/fs.h); no constant of libc.
const OPENED_TO_RUN: i32 = 0x20;

/// Users that count as another one. The kernel does not know, so permissions are checked here then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squash {
    /// Which users.
    pub who: Squashed,
    /// The user they count as.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// Which users count as another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squashed {
    /// Root.
    Root,
    /// Everybody.
    All,
}

/// Further groups of a process, from its status (proc_pid_status(5)); none if it is gone or in another namespace of processes.
pub(crate) fn further_groups(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

/// Permission that opening a file with these flags of open(2) takes: see [`MAY_READ`].
pub(crate) fn wanted_by_open(flags: i32) -> u8 {
    match flags & libc::O_ACCMODE {
        libc::O_WRONLY => MAY_WRITE,
        libc::O_RDWR => MAY_READ | MAY_WRITE,
        _ if flags & OPENED_TO_RUN != 0 => MAY_EXECUTE,
        _ => MAY_READ,
    }
}

/// On whose behalf the kernel asks. It has applied the umask and, unless users are squashed, checked the mode's bits already.
pub(crate) fn caller(req: &Request, squash: Option<Squash>) -> Caller {
    let (uid, gid, pid) = (req.uid(), req.gid(), req.pid());
    match squash {
        None => Caller { uid, gid, pid, ..Caller::default() },
        Some(Squash { who, uid: other, gid }) if who == Squashed::All || uid == 0 => {
            Caller { uid: other, gid, pid, check: true, ..Caller::default() }
        }
        Some(_) => Caller { uid, gid, pid, groups: further_groups(pid), check: true, ..Caller::default() },
    }
}

/// The same with its further groups in any case.
pub(crate) fn caller_with_groups(req: &Request, squash: Option<Squash>) -> Caller {
    let caller = caller(req, squash);
    if caller.check { caller } else { Caller { groups: further_groups(req.pid()), ..caller } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_its_groups() {
        let own = further_groups(std::process::id());
        let known: Vec<u32> = rustix::process::getgroups().expect("groups").iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(own, known);
        assert_eq!(further_groups(0), Vec::<u32>::new());
    }

    #[test]
    fn opening_takes_the_permission_for_what_it_is_for() {
        assert_eq!(wanted_by_open(libc::O_RDONLY | libc::O_CLOEXEC), MAY_READ);
        assert_eq!(wanted_by_open(libc::O_WRONLY | libc::O_APPEND), MAY_WRITE);
        assert_eq!(wanted_by_open(libc::O_RDWR), MAY_READ | MAY_WRITE);
        assert_eq!(wanted_by_open(OPENED_TO_RUN), MAY_EXECUTE);
    }
}
