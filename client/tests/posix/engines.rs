//! What touches metadata, with metadata on servers: pjdfstest, fsx, and locks across mounts, one of which dies.
//!
//! `SHOAL_LONG=1` lets fsx run for a million operations with each of some seeds.

use super::bed::{Bed, SMALL_BLOCKS, VOLUME, built_tool};
use super::suites::{run_fsx, run_pjdfstest};
use crate::rig::lock_scenes::{Closing, Meeting, lose_a_mount};
use crate::rig::{EngineKind, Rig};

/// Times of directories to the nanosecond, as the suite expects them: PostgreSQL and MariaDB keep them to 100 ms otherwise.
const EXACT_TIMES: [&str; 2] = ["--skip-dir-mtime", "0s"];

/// Locks of a client that died are let go after five of these.
const HEARTBEAT: [&str; 2] = ["--heartbeat", "1"];

/// A fresh volume with metadata in `kind`, mounted for writing with these flags too; `None`, and a loud word, where that cannot be.
fn bed(kind: EngineKind, tool: &str, flags: &[&str]) -> Option<Bed> {
    // A short name: pjdfstest binds sockets below it, whose paths have 108 bytes.
    let rig = Rig::new(tool)?;
    let url = rig.fresh_url(kind, VOLUME)?;
    Some(Bed::on(rig, &url, &SMALL_BLOCKS, flags))
}

#[test]
fn pjdfstest_finds_nothing_on_postgres() {
    pjdfstest(EngineKind::Postgres);
}

#[test]
fn pjdfstest_finds_nothing_on_mariadb() {
    pjdfstest(EngineKind::MariaDb);
}

#[test]
fn pjdfstest_finds_nothing_on_redis() {
    pjdfstest(EngineKind::Redis);
}

fn pjdfstest(kind: EngineKind) {
    let Some(tool) = built_tool("pjdfstest") else { return };
    let Some(bed) = bed(kind, "pjd", &EXACT_TIMES) else { return };
    run_pjdfstest(&bed, &tool);
    bed.finish();
}

#[test]
fn fsx_finds_no_wrong_byte_on_postgres() {
    fsx(EngineKind::Postgres);
}

#[test]
fn fsx_finds_no_wrong_byte_on_mariadb() {
    fsx(EngineKind::MariaDb);
}

#[test]
fn fsx_finds_no_wrong_byte_on_redis() {
    fsx(EngineKind::Redis);
}

fn fsx(kind: EngineKind) {
    let Some(tool) = built_tool("fsx") else { return };
    let Some(bed) = bed(kind, "fsx", &[]) else { return };
    let is_long = std::env::var_os("SHOAL_LONG").is_some();
    let (seeds, operations): (&[u32], _) = if is_long { (&[1, 2, 3], 1_000_000) } else { (&[1], 3_000) };
    for seed in seeds {
        run_fsx(&bed, &tool, *seed, operations);
    }
    bed.finish();
}

#[test]
fn locks_hold_across_mounts_on_postgres() {
    locks(EngineKind::Postgres);
}

#[test]
fn locks_hold_across_mounts_on_mariadb() {
    locks(EngineKind::MariaDb);
}

#[test]
fn locks_hold_across_mounts_on_redis() {
    locks(EngineKind::Redis);
}

fn locks(kind: EngineKind) {
    let Some(bed) = bed(kind, "locks", &HEARTBEAT) else { return };
    let mut other = bed.mount_again("other", &HEARTBEAT);
    let (here, there) = (bed.mount.point.clone(), other.point.clone());
    let meeting = |who, here, there| Meeting { who, here, there, closing: Closing::GivesAllBack };
    for meeting in [meeting("two-mounts", here.clone(), there), meeting("one-mount", here.clone(), here.clone())] {
        meeting.lock_whole_files();
        meeting.lock_ranges();
        meeting.lose_a_process();
    }
    lose_a_mount(&mut other, [&here, &here]);
    other.detach(&bed.rig);
    bed.finish();
}
