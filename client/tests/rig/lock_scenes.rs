//! What processes that lock one file see of each other, wherever the volume is mounted and keeps its metadata.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use shoal_testkit::{PATIENCE, wait_until};

use super::Mount;
use super::locker::Locker;

/// Two mounts of a volume, or one taken twice, at which processes meet.
pub struct Meeting {
    /// Name of the files that are locked: each meeting has its own, for the kernel may still know one that is in the trash by now.
    pub who: &'static str,
    pub here: PathBuf,
    pub there: PathBuf,
    /// What a close gives back `there`.
    pub closing: Closing,
}

/// Which locks of ranges go when a process closes a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// All that the process has of the file, as POSIX says.
    GivesAllBack,
    /// Those it took by this descriptor only, as JuiceFS does.
    GivesItsOwnBack,
}

impl Meeting {
    /// One process at each mount.
    fn both(&self) -> (Locker, Locker) {
        println!("{}", self.who);
        (Locker::on(&self.here.join(self.who)), Locker::on(&self.there.join(self.who)))
    }

    /// Whole files by flock(2): shared, contended, waited for, kept by a copied descriptor.
    #[track_caller]
    pub fn lock_whole_files(&self) {
        let (mut a, mut b) = self.both();
        a.does("flock f sh nb");
        b.does("flock f sh nb");
        b.is_refused("flock f ex");
        a.does("flock f un");
        b.does("flock f ex nb");
        a.is_refused("flock f sh");
        // The other kind of lock is another matter.
        a.does("lockf f ex 0 0 nb");
        a.does("lockf f un 0 0");
        a.waits("flock f ex");
        b.does("flock f un");
        assert_eq!(a.answer(), "ok");
        // A copy of the descriptor keeps the lock; the last one to be closed gives it back.
        a.does("dup f g");
        a.does("close f");
        b.is_refused("flock f sh");
        b.waits("flock f sh");
        a.does("close g");
        assert_eq!(b.answer(), "ok");
    }

    /// Ranges by fcntl(2): cut, joined, asked for, waited for, given back by a close.
    #[track_caller]
    pub fn lock_ranges(&self) {
        let (mut a, mut b) = self.both();
        let a_pid = if self.here == self.there { a.child.id() } else { 0 };
        a.does("lockf f ex 0 100 nb");
        a.does("lockf f sh 10 10 nb");
        a.does("lockf f un 90 0");
        b.does("lockf f sh 10 10 nb");
        b.does("lockf f ex 90 0 nb");
        b.is_refused("lockf f sh 5 10");
        b.is_refused("lockf f ex 10 1");
        assert_eq!(b.says("getlk f sh 15 20"), format!("= ex 20 70 {a_pid}"));
        assert_eq!(b.says("getlk f sh 10 10"), "= un");
        b.does("lockf f un 10 10");
        b.waits("lockf f ex 0 20");
        a.does("lockf f un 0 20");
        assert_eq!(b.answer(), "ok");
        a.is_refused("lockf f sh 19 1");
        // The whole file: not to be taken for flock(2).
        a.waits("lockf f ex 0 0");
        match self.closing {
            Closing::GivesItsOwnBack => b.does("lockf f un 0 0"),
            Closing::GivesAllBack => {
                b.does(&format!("open other {}", self.there.join(self.who).display()));
                b.does("close other");
            }
        }
        assert_eq!(a.answer(), "ok");
        b.is_refused("lockf f sh 1000000 1");
        b.does("flock f ex nb");
        a.does("close f");
        b.does("lockf f sh 0 0 nb");
    }

    /// A process that is killed gives its locks back, and one that waits waits no more.
    #[track_caller]
    pub fn lose_a_process(&self) {
        for lock in ["flock f ex", "lockf f ex 0 0", "lockf f ex 7 9"] {
            let (mut a, mut b) = self.both();
            a.does(lock);
            b.waits(lock);
            let mut c = Locker::on(&self.here.join(self.who));
            c.waits(lock);
            // One that waits.
            c.signal(Signal::KILL);
            wait_until("a killed process ends", PATIENCE, || matches!(c.child.try_wait(), Ok(Some(_))));
            a.signal(Signal::KILL);
            assert_eq!(b.answer(), "ok", "{lock}");
        }
    }
}

/// Kills the mount `dead` while a process there holds locks of both kinds that processes at the two others wait for: they get them.
#[track_caller]
pub fn lose_a_mount(dead: &mut Mount, others: [&Path; 2]) {
    let mut holder = Locker::on(&dead.point.join("f"));
    holder.does("flock f ex");
    holder.does("lockf f ex 0 9");
    let [mut b, mut c] = others.map(|point| Locker::on(&point.join("f")));
    b.waits("flock f ex");
    c.waits("lockf f ex 0 0");
    dead.process.kill();
    assert_eq!((b.answer(), c.answer()), ("ok".to_owned(), "ok".to_owned()));
}
