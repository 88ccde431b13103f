//! The change log: the same operations through either client leave the same lines, and each prints what the other wrote.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use shoal_testkit::{ChildGuard, PATIENCE};

use super::pair::{Keys, Pair, Recipe};

/// Mounts for writing.
const WRITABLE: &[&str] = &["--writable"];

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Work whose order and inodes are the same every time.
const WORK: &str = "umask 022; mkdir d; echo hello >d/f; ln d/f d/g; ln -s f 'd/s,(%)'; mkfifo d/p; chmod 600 d/f;
    chown 7:8 d/f; touch -d @1500000000 d/f; mv d/g d/h; : >d/f; fallocate -l 9000 d/f; fallocate -p -o 0 -l 10 d/f;
    echo x >r; mv -f r d/f; rm 'd/s,(%)' d/p; rm d/h; mkdir d/sub; mv d/sub sub; rmdir sub; rm d/f; rmdir d";

/// The operation of a printed line, without what differs between any two runs; `None` for what the background did.
fn operation(line: &str) -> Option<String> {
    let text = line.split('|').nth(1)?;
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(')')?;
    let mut arguments: Vec<&str> = arguments.split(',').collect();
    match name {
        "INCR_COUNTER" | "SET" | "DIRSTAT" | "DELCHUNK" | "DELETESLICE" => return None,
        // The kernel has applied the umask; real clients show it all the same.
        "CREATE" => arguments[6] = "umask",
        "WRITE" => arguments.truncate(3),
        "SETATTR" => arguments.truncate(7),
        "NEWSESSION" => arguments.truncate(1),
        _ => {}
    }
    Some(format!("{name}({}){result}", arguments.join(",")))
}

impl Pair {
    /// What a client's `changelog` prints from the start to the end of session 1.
    fn printed(&self, name: &str, command: &mut Command) -> Vec<String> {
        let process = ChildGuard::spawn(name, command);
        let lines = RefCell::new(Vec::new());
        process.wait_for_line("the end of the session", PATIENCE, |line| {
            lines.borrow_mut().push(line.to_owned());
            line.contains("|CLEANSESSION(1)|").then_some(())
        });
        let first = |line: &&String| line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(")|(");
        lines.into_inner().iter().filter(|line| first(line)).cloned().collect()
    }

    fn both_print(&self, url: &str) -> Vec<String> {
        let mut ours = self.rig.shoal();
        let ours = self.printed("ours", ours.args(["changelog", url, "--from", "1"]));
        let mut theirs = self.rig.oracle_command(&self.juicefs, &["changelog", url, "--from", "1"]);
        assert_eq!(ours, self.printed("theirs", &mut theirs));
        ours
    }
}

fn work(point: &Path) {
    let status = Command::new("sh").args(["-ec", WORK]).current_dir(point).status().expect("sh runs");
    assert!(status.success());
}

#[test]
fn the_same_operations_leave_the_same_lines() {
    let Some(pair) = Pair::new("changelog") else { return };
    pair.juicefs_formats(&PLAIN, &["--trash-days", "0"]);
    pair.juicefs(&["config", &pair.url(), "--changelog", "--yes"]);
    let copy = pair.rig.url("copy");
    for part in ["", "-wal", "-shm"] {
        // What is not in the database file yet is beside it.
        let [from, to] = [&pair.url(), &copy].map(|url| format!("{}{part}", url.trim_start_matches("sqlite3://")));
        assert!(std::fs::copy(from, to).is_ok() || !part.is_empty(), "a copy of the database");
    }

    let theirs = pair.rig.oracle_mount(&pair.juicefs, "theirs", &pair.url(), &[]);
    work(&theirs.point);
    theirs.unmount(&pair.rig);
    let ours = pair.rig.mount("ours", &copy, &[], WRITABLE);
    work(&ours.point);
    ours.unmount(&pair.rig);

    let [theirs, ours] = [pair.url(), copy].map(|url| pair.both_print(&url));
    let of = |lines: &[String]| lines.iter().filter_map(|line| operation(line)).collect::<Vec<_>>();
    assert_eq!(of(&ours), of(&theirs));
    for deletion in ["|DELCHUNK(", "|DELETESLICE("] {
        assert!(ours.iter().any(|line| line.contains(deletion)), "no {deletion}");
    }
}
