//! The thread that waits for an answer, as /proc shows it (proc_pid_syscall(5), proc_pid_status(5)).
//!
//! The kernel's protocol says more about a request for a lock than fuser passes on: whether flock(2) or fcntl(2) asked, and that a
//! signal arrived for a thread that waits. Both can be seen at the thread, which is in its system call until it is answered. A mount
//! sees them if it runs as root or as the thread's user, and if the thread is in its name space of processes (or one below).

use std::time::Duration;

use shoal_runtime::clock;

/// How often a thread that does not rest in its call yet is looked at again, with growing pauses: about a second.
const LOOKS_MAX: u32 = 45;
/// First pause between two looks.
const PAUSE: Duration = Duration::from_micros(50);
/// Longest one.
const PAUSE_MAX: Duration = Duration::from_millis(25);

/// `flock`, and the two `fcntl`, of 32-bit programs on 64-bit kernels (x86 and ARM). No 64-bit call of these numbers locks.
const FLOCK_32: i64 = 143;
const FCNTL_32: [i64; 2] = [55, 221];
/// Set in numbers of x32 programs.
const X32: i64 = 0x4000_0000;

/// The system call that asks for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockCall {
    /// flock(2): of the open file.
    Flock,
    /// fcntl(2): of the process, or of the open file too.
    Fcntl,
}

/// What a line of `/proc/TID/syscall` says.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Call(LockCall),
    /// The thread has not gone to sleep yet.
    Running,
    /// Another call, or none.
    Other,
}

fn look(line: &str) -> Look {
    let Some(number) = line.split_whitespace().next() else { return Look::Other };
    if number == "running" {
        return Look::Running;
    }
    match number.parse::<i64>() {
        Ok(number) if (number & !X32) == libc::SYS_flock || number == FLOCK_32 => Look::Call(LockCall::Flock),
        Ok(number) if (number & !X32) == libc::SYS_fcntl || FCNTL_32.contains(&number) => Look::Call(LockCall::Fcntl),
        _ => Look::Other,
    }
}

/// The call that thread `tid` waits in; `None` if it cannot be seen.
pub(crate) async fn lock_call(tid: u32) -> Option<LockCall> {
    if tid == 0 {
        return None;
    }
    let mut pause = PAUSE;
    for _ in 0..LOOKS_MAX {
        match look(&std::fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?) {
            Look::Call(call) => return Some(call),
            Look::Other => return None,
            Look::Running => clock::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    None
}

/// True if a signal waits for thread `tid`, so that its call is to end: the kernel repeats it, or the program hears of it.
pub(crate) fn is_interrupted(tid: u32) -> bool {
    tid != 0 && std::fs::read_to_string(format!("/proc/{tid}/status")).is_ok_and(|status| has_signal(tid, &status))
}

/// A signal for the whole process is the first thread's to take, if it can: of the others nobody can tell which one will.
fn has_signal(tid: u32, status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let set = |name: &str| field(name).and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or(0);
    let first = field("Tgid:").and_then(|tgid| tgid.parse().ok()) == Some(tid);
    let pending = set("SigPnd:") | if first { set("ShdPnd:") } else { 0 };
    pending & !set("SigBlk:") != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_numbers() {
        let line = |number: i64| format!("{number} 0x3 0x2 0x0 0x0 0x0 0x0 0x7ffd 0x7f12\n");
        assert_eq!(look(&line(libc::SYS_flock)), Look::Call(LockCall::Flock));
        assert_eq!(look(&line(libc::SYS_fcntl)), Look::Call(LockCall::Fcntl));
        assert_eq!(look(&line(143)), Look::Call(LockCall::Flock));
        assert_eq!(look(&line(221)), Look::Call(LockCall::Fcntl));
        assert_eq!(look(&line(libc::SYS_read)), Look::Other);
        assert_eq!(look("running\n"), Look::Running);
        assert_eq!(look("-1 0x7ffd 0x7f12\n"), Look::Other);
        assert_eq!(look(""), Look::Other);
    }

    #[test]
    fn signals_that_end_a_call_are_told_from_those_that_do_not() {
        let status = |tgid: u32, own: u64, shared: u64, blocked: u64| {
            format!("Name:\tx\nTgid:\t{tgid}\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n")
        };
        assert!(!has_signal(5, &status(5, 0, 0, 0)));
        assert!(has_signal(5, &status(5, 1 << 8, 0, 0)) && has_signal(5, &status(4, 1 << 8, 0, 0)));
        assert!(has_signal(5, &status(5, 0, 2, 0)) && !has_signal(5, &status(4, 0, 2, 0)));
        assert!(!has_signal(5, &status(5, 2, 2, 2)));
        assert!(!has_signal(5, ""));
    }

    #[tokio::test]
    async fn a_thread_that_does_not_lock_is_not_taken_for_one() {
        assert_eq!(lock_call(0).await, None);
        assert!(!is_interrupted(0) && !is_interrupted(std::process::id()));
    }
}
