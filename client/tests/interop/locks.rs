//! Locks across clients: real processes lock files through two mounts of one volume, both ours, or one of them JuiceFS's.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use shoal_testkit::{ChildGuard, PATIENCE, wait_until};

use super::pair::{Keys, Pair, Recipe};
use crate::rig::Mount;
use crate::rig::locker::Locker;
use crate::rig::oracle::OracleMount;

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// A volume mounted twice by ours and once by JuiceFS.
struct Three {
    pair: Pair,
    ours: [Mount; 2],
    theirs: OracleMount,
}

impl Three {
    fn new(name: &str, flags: &[&str]) -> Option<Three> {
        let pair = Pair::new(name)?;
        pair.juicefs_formats(&PLAIN, &[]);
        let theirs = pair.juicefs_mount("theirs", &["--heartbeat", "1"]);
        let flags = [&["--writable", "--heartbeat", "1"], flags].concat();
        let ours = ["one", "two"].map(|name| pair.shoal_mount(name, &flags));
        Some(Three { pair, ours, theirs })
    }

    /// Every two mounts that may meet, but JuiceFS's twice.
    fn pairs(&self) -> [(&'static str, PathBuf, PathBuf); 4] {
        let [one, two] = [0, 1].map(|n| self.ours[n].point.clone());
        let theirs = self.theirs.point.clone();
        [
            ("one-mount", one.clone(), one.clone()),
            ("two-mounts", one.clone(), two),
            ("ours-then-JuiceFS", one.clone(), theirs.clone()),
            ("JuiceFS-then-ours", theirs, one),
        ]
    }

    fn end(self) {
        let [one, two] = self.ours;
        one.unmount(&self.pair.rig);
        two.unmount(&self.pair.rig);
        self.theirs.unmount(&self.pair.rig);
        self.pair.assert_fsck_is_clean();
    }
}

#[test]
fn whole_files_are_locked_across_mounts() {
    let Some(three) = Three::new("flock", &[]) else { return };
    for (who, here, there) in three.pairs() {
        println!("{who}");
        // A file of its own: the kernel may still know the last one, in the trash by now, by its name.
        let (mut a, mut b) = (Locker::on(&here.join(who)), Locker::on(&there.join(who)));
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
    three.end();
}

#[test]
fn ranges_are_locked_across_mounts() {
    let Some(three) = Three::new("plock", &[]) else { return };
    for (who, here, there) in three.pairs() {
        println!("{who}");
        // A file of its own: the kernel may still know the last one, in the trash by now, by its name.
        let (mut a, mut b) = (Locker::on(&here.join(who)), Locker::on(&there.join(who)));
        let a_pid = if here == there { a.child.id() } else { 0 };
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
        if there == three.theirs.point {
            // JuiceFS gives ranges back with the descriptor they were locked through only.
            b.does("lockf f un 0 0");
        } else {
            // Closing any descriptor of the file gives every range of the process back.
            b.does(&format!("open other {}", there.join(who).display()));
            b.does("close other");
        }
        assert_eq!(a.answer(), "ok");
        b.is_refused("lockf f sh 1000000 1");
        b.does("flock f ex nb");
        a.does("close f");
        b.does("lockf f sh 0 0 nb");
    }
    three.end();
}

#[test]
fn a_process_that_is_killed_gives_its_locks_back_and_stops_waiting() {
    let Some(three) = Three::new("lock-kill", &[]) else { return };
    for (who, here, there) in three.pairs() {
        println!("{who}");
        for lock in ["flock f ex", "lockf f ex 0 0", "lockf f ex 7 9"] {
            let (mut a, mut b) = (Locker::on(&here.join("f")), Locker::on(&there.join("f")));
            a.does(lock);
            b.waits(lock);
            let mut c = Locker::on(&here.join("f"));
            c.waits(lock);
            // One that waits.
            c.signal(Signal::KILL);
            wait_until("a killed process ends", PATIENCE, || matches!(c.child.try_wait(), Ok(Some(_))));
            a.signal(Signal::KILL);
            assert_eq!(b.answer(), "ok", "{lock}");
        }
    }
    three.end();
}

#[test]
fn a_signal_ends_a_wait() {
    let Some(three) = Three::new("lock-signal", &[]) else { return };
    let path = three.ours[0].point.join("f");
    for lock in ["flock f ex", "lockf f ex 0 0"] {
        let (mut a, mut b) = (Locker::on(&path), Locker::on(&path));
        a.does(lock);
        // Twice: the kernel's word of the first signal is answered by fuser that it knows no such thing.
        for _ in 0..2 {
            b.waits(lock);
            b.signal(Signal::ALARM);
            assert_eq!(b.answer(), "EINTR");
        }
        a.does("close f");
        b.does(&format!("{lock} nb"));
    }
    three.end();
}

/// Locks of an open file by fcntl(2) go with its last descriptor, not with any of the process.
#[test]
fn locks_of_open_files_by_fcntl_last_as_long_as_the_file_is_open() {
    let Some(three) = Three::new("ofd", &[]) else { return };
    let (here, there) = (three.ours[0].point.join("f"), three.ours[1].point.join("f"));
    let (mut a, mut b) = (Locker::on(&here), Locker::on(&there));
    for (start, len) in [(0, 0), (5, 10)] {
        a.does(&format!("open g {}", here.display()));
        a.does(&format!("ofd g ex {start} {len}"));
        assert_eq!(a.says(&format!("ofd f ex {start} {len}")), "EAGAIN", "another open file of the same process");
        a.does(&format!("open h {}", here.display()));
        a.does("close h");
        assert_eq!(b.says(&format!("ofd f sh {start} {len}")), "EAGAIN");
        b.waits(&format!("lockf f ex {start} {len}"));
        a.does("close g");
        assert_eq!(b.answer(), "ok");
        b.does("lockf f un 0 0");
    }
    drop((a, b));
    three.end();
}

/// A mount in a name space of processes of its own cannot tell flock(2) from fcntl(2): it locks whole files both ways.
#[test]
fn a_mount_that_sees_no_process_keeps_everybody_out() {
    let Some(three) = Three::new("lock-hidden", &[]) else { return };
    let rig = &three.pair.rig;
    let (mount, point) = rig.mount_command("hidden", &three.pair.url(), &[], &["--writable", "--heartbeat", "1"]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(mount.get_program()).args(mount.get_args());
    let mut process = ChildGuard::spawn("hidden", &mut command);
    process.wait_for_line("ready", PATIENCE, |line| line.starts_with("shoal mount ready").then_some(()));

    let theirs = three.theirs.point.join("f");
    let (mut a, mut b) = (Locker::on(&point.join("f")), Locker::on(&theirs));
    for lock in ["flock f ex", "lockf f ex 0 0"] {
        a.does(&format!("{lock} nb"));
        b.is_refused("flock f sh");
        b.is_refused("lockf f sh 7 1");
        b.waits(lock);
        a.does("close f");
        assert_eq!(b.answer(), "ok");
        a.does(&format!("open f {}", point.join("f").display()));
        a.is_refused(lock);
        b.does(if lock.starts_with("flock") { "flock f un" } else { "lockf f un 0 0" });
        a.does(&format!("{lock} nb"));
        a.does(if lock.starts_with("flock") { "flock f un" } else { "lockf f un 0 0" });
        b.does("flock f ex nb");
        b.does("lockf f ex 0 0 nb");
        b.does("close f");
        b.does(&format!("open f {}", theirs.display()));
    }
    drop((a, b));
    rig.ok(Command::new("umount").arg(&point));
    process.wait(PATIENCE);
    three.end();
}

#[test]
fn who_gets_a_lock_sees_what_its_last_holder_wrote() {
    // The kernel trusts what it knows of a file for a minute.
    let Some(three) = Three::new("lock-bytes", &["--attr-cache", "60", "--entry-cache", "60"]) else { return };
    let (mut a, mut b) = (Locker::on(&three.ours[0].point.join("f")), Locker::on(&three.ours[1].point.join("f")));
    for (round, (lock, unlock)) in
        [("flock f ex", "flock f un"), ("lockf f ex 0 0", "lockf f un 0 0"), ("lockf f ex 0 9", "lockf f un 0 9")]
            .into_iter()
            .cycle()
            .take(12)
            .enumerate()
    {
        let (writer, reader) = if round % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        writer.does(lock);
        reader.waits(lock);
        writer.does(&format!("write f round-{:03}", round));
        writer.does(unlock);
        assert_eq!(reader.answer(), "ok");
        assert_eq!(reader.says("read f"), format!("= round-{round:03}"));
        reader.does(unlock);
    }
    drop((a, b));
    three.end();
}

#[test]
fn locks_of_a_mount_that_was_killed_are_released_by_the_others() {
    let Some(mut three) = Three::new("lock-crash", &[]) else { return };
    let (dead, alive, theirs) = (&three.ours[0].point, three.ours[1].point.clone(), three.theirs.point.clone());
    let mut holder = Locker::on(&dead.join("f"));
    holder.does("flock f ex");
    holder.does("lockf f ex 0 9");
    let (mut b, mut c) = (Locker::on(&alive.join("f")), Locker::on(&theirs.join("f")));
    b.waits("flock f ex");
    c.waits("lockf f ex 0 0");
    three.ours[0].process.kill();
    assert_eq!((b.answer(), c.answer()), ("ok".to_owned(), "ok".to_owned()));
    drop((holder, b, c));
    let [one, two] = three.ours;
    three.pair.rig.ok(three.pair.rig.shoal().args(["umount", "--force"]).arg(&one.point));
    two.unmount(&three.pair.rig);
    three.theirs.unmount(&three.pair.rig);
}
