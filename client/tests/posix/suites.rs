//! Suites and load generators that check themselves.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use shoal_testkit::test_seed;

use super::bed::{Bed, TOOL_MAX, built_tool, config, have_tool};

/// Longest that an operation of fsx takes on average, on a loaded machine.
const OPERATION_MAX: Duration = Duration::from_millis(30);
/// Seconds dbench runs.
const DBENCH_SECONDS: &str = "3";

#[test]
fn pjdfstest_finds_nothing() {
    let Some(tool) = built_tool("pjdfstest") else { return };
    // Short names: it binds sockets below, whose paths have 108 bytes.
    let Some(bed) = Bed::new("pjd") else { return };
    run_pjdfstest(&bed, &tool);
    bed.finish();
}

/// Runs all of pjdfstest, which must find nothing.
pub fn run_pjdfstest(bed: &Bed, tool: &Path) {
    bed.mkdir("s");
    let mut command = Command::new(tool);
    command.current_dir(&bed.mount.point).arg("-c").arg(config("pjdfstest.toml"));
    let said = bed.run(command.args(["-p", "s"]));
    let summary = said.lines().find(|line| line.starts_with("Summary:")).expect("a summary");
    assert!(summary.starts_with("Summary: 0 failed"), "{said}");
    let passed = summary.split(", ").find_map(|part| part.strip_suffix(" passed")?.parse::<u32>().ok());
    assert!(passed > Some(370), "most of it ran: {summary}");
}

#[test]
fn fsx_finds_no_wrong_byte() {
    let Some(tool) = built_tool("fsx") else { return };
    let Some(bed) = Bed::new("fsx") else { return };
    for seed in [1, test_seed("fsx") as u32] {
        run_fsx(&bed, &tool, seed, 1500);
    }
    bed.finish();
}

/// Runs that many operations of fsx on a new file.
pub fn run_fsx(bed: &Bed, tool: &Path, seed: u32, operations: u32) {
    println!("seed {seed}");
    let mut command = Command::new(tool);
    command.arg("-q").arg("-f").arg(config("fsx.toml")).args(["-S", &seed.to_string(), "-N", &operations.to_string()]);
    let limit = TOOL_MAX.max(OPERATION_MAX * operations);
    bed.run_within(command.arg(bed.path(format!("file-{seed}"))), limit);
}

#[test]
fn fio_reads_what_it_wrote_in_every_way_of_writing() {
    if !have_tool("fio") {
        return;
    }
    let Some(bed) = Bed::new("fio") else { return };
    let dir = bed.mkdir("fio");
    let ways: [(&str, &[&str]); 6] = [
        ("libaio", &["--ioengine=libaio", "--iodepth=16"]),
        ("direct", &["--ioengine=libaio", "--iodepth=16", "--direct=1"]),
        ("uring", &["--ioengine=io_uring", "--iodepth=16", "--direct=1"]),
        ("mmap", &["--ioengine=mmap"]),
        ("backlog", &["--ioengine=psync", "--verify_backlog=64"]),
        ("fsync", &["--ioengine=psync", "--fsync=16"]),
    ];
    for (name, flags) in ways {
        let mut command = Command::new("fio");
        command.arg(format!("--name={name}")).arg(format!("--directory={}", dir.display())).args(flags);
        command.args(["--rw=randwrite", "--bs=16k", "--size=6m", "--output-format=terse"]);
        command.args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0"]);
        bed.run(&mut command);
    }
    bed.finish();
}

#[test]
fn dbench_runs_through() {
    let script = "/usr/share/dbench/client.txt";
    if !have_tool("dbench") {
        return;
    }
    let Some(bed) = Bed::new("dbench") else { return };
    let mut command = Command::new("dbench");
    command.arg("-D").arg(bed.mkdir("dbench")).args(["-t", DBENCH_SECONDS, "-c", script, "2"]);
    let said = bed.run(&mut command);
    assert!(said.contains("Throughput"), "{said}");
    bed.finish();
}
