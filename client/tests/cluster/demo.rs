//! `shoal demo`: everything on one machine, and nothing of it afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use shoal_testkit::{ChildGuard, PATIENCE, Tree};

use crate::rig::Rig;
use crate::support::left_behind;

/// Demos begun to stop one in time.
const TRIES: usize = 20;

/// A tree, and how many names of regular files are in it.
fn data(rig: &Rig, files: usize) -> (PathBuf, usize) {
    let data = rig.mkdir("data");
    let made = Tree::new(3).files(files).file_bytes_max(256 << 10).write(&data).expect("the tree is written");
    (data, made.files + made.hard_links)
}

fn demo(rig: &Rig, data: &Path) -> Command {
    let mut command = rig.shoal();
    command.args(["demo", "--nodes", "3", "--data"]).arg(data).arg("--dir").arg(rig.mkdir("work"));
    command
}

fn nothing_is_left(rig: &Rig) {
    assert_eq!(left_behind(rig), Vec::<String>::new());
    let files: Vec<_> = std::fs::read_dir(rig.path("work")).expect("listed").flatten().collect();
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn the_demo_reads_everything_twice_and_leaves_nothing() {
    let Some(rig) = Rig::new("demo") else { return };
    let (data, files) = data(&rig, 120);
    let said = rig.ok(&mut demo(&rig, &data));
    for word in ["PHASE", "import", "warm-up", "read, mount 1", "read, mount 2", "ring: 3 nodes"] {
        assert!(said.contains(word), "no `{word}` in:\n{said}");
    }
    assert!(said.contains(&format!("verified {files} files")), "{said}");
    nothing_is_left(&rig);
}

#[test]
fn the_demo_refuses_data_that_is_not_there() {
    let Some(rig) = Rig::new("demo-refused") else { return };
    let said = rig.refused(&mut demo(&rig, &rig.path("nowhere")));
    assert!(said.contains("nowhere"), "{said}");
    nothing_is_left(&rig);
}

#[test]
fn ctrl_c_at_any_time_ends_the_demo_and_all_it_started() {
    let Some(rig) = Rig::new("demo-stopped") else { return };
    let (data, _) = data(&rig, 400);
    for said in ["data:", "volume:", "ring:", "warm-up:"] {
        let stopped = (0..TRIES).any(|_| {
            let mut process = ChildGuard::spawn("demo", &mut demo(&rig, &data));
            process.wait_for_line(said, PATIENCE, |line| line.starts_with(said).then_some(()));
            process.signal(Signal::INT);
            let status = process.wait(PATIENCE);
            nothing_is_left(&rig);
            // On a busy machine the demo may be over before this test goes on.
            let was_over = status.success() && process.stdout().iter().any(|line| line.starts_with("verified"));
            assert!(was_over || status.code() == Some(1), "{status} after `{said}`\n{}", process.output());
            !was_over
        });
        assert!(stopped, "the demo was over before each signal after `{said}`");
    }
}
