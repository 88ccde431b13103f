//! Locks across clients: real processes lock files through two mounts of one volume, both ours, or one of them JuiceFS's.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use shoal_testkit::{ChildGuard, PATIENCE};

use super::pair::{Keys, Pair, Recipe};
use crate::rig::Mount;
use crate::rig::lock_scenes::{Closing, Meeting, lose_a_mount};
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
    fn meetings(&self) -> [Meeting; 4] {
        let [one, two] = [0, 1].map(|n| &self.ours[n].point);
        let theirs = &self.theirs.point;
        let meeting = |who, here: &PathBuf, there: &PathBuf| {
            let closing = if there == theirs { Closing::GivesItsOwnBack } else { Closing::GivesAllBack };
            Meeting { who, here: here.clone(), there: there.clone(), closing }
        };
        [
            meeting("one-mount", one, one),
            meeting("two-mounts", one, two),
            meeting("ours-then-JuiceFS", one, theirs),
            meeting("JuiceFS-then-ours", theirs, one),
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
    three.meetings().iter().for_each(Meeting::lock_whole_files);
    three.end();
}

#[test]
fn ranges_are_locked_across_mounts() {
    let Some(three) = Three::new("plock", &[]) else { return };
    three.meetings().iter().for_each(Meeting::lock_ranges);
    three.end();
}

#[test]
fn a_process_that_is_killed_gives_its_locks_back_and_stops_waiting() {
    let Some(three) = Three::new("lock-kill", &[]) else { return };
    three.meetings().iter().for_each(Meeting::lose_a_process);
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
    let [dead, alive] = &mut three.ours;
    lose_a_mount(dead, [&alive.point, &three.theirs.point]);
    let [one, two] = three.ours;
    one.detach(&three.pair.rig);
    two.unmount(&three.pair.rig);
    three.theirs.unmount(&three.pair.rig);
}
