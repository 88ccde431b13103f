//! Every subcommand that races ours with a limit runs at a tiny size and leaves valid JSON; nothing here asserts a speed.

use std::process::{Command, Output};

use serde_json::Value;
use shoal_testkit::{TestDir, have_fuse, have_io_uring, have_root, skipped};

/// Runs a subcommand with one round of 1 ms; gives its output and its JSON.
fn bench(name: &str, flags: &[&str]) -> (Output, Value) {
    let dir = TestDir::on_disk(name);
    let json = dir.join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal-bench"));
    command.args([name, "--size", "32MiB", "--rounds", "1", "--time-ms", "1", "--dir"]).arg(dir.path());
    command.arg("--json").arg(&json).args(flags).env_remove("RUST_LOG");
    let output = command.output().expect("cargo built it");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("no report: {error}\n{said}"));
    let left = std::fs::read_dir(dir.path()).expect("our own directory").count();
    assert_eq!(left, 1, "more than the report was left behind");
    (output, serde_json::from_str(&text).expect("JSON"))
}

/// Names of the rows, each of which must hold a measurement of ours and of the limit.
fn compared(report: &Value) -> Vec<&str> {
    let rows = report["rows"].as_array().expect("rows");
    for row in rows {
        for number in [&row["ratio"], &row["ours"]["ops_per_s"], &row["limit"]["ops_per_s"]] {
            assert!(number.as_f64().is_some_and(|number| number > 0.0), "{row}");
        }
    }
    rows.iter().map(|row| row["name"].as_str().expect("a name")).collect()
}

#[track_caller]
fn assert_table(output: &Output, rows: &[&str]) {
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    rows.iter().for_each(|row| assert!(table.contains(row), "no {row} in\n{table}"));
}

#[test]
fn the_store_is_raced_with_the_disk() {
    if !have_io_uring() {
        return skipped("no io_uring");
    }
    let (output, report) = bench("store", &["--place", "together"]);
    let rows = compared(&report);
    assert!(rows.contains(&"store read 4 KiB depth 32") && rows.contains(&"store write 4 MiB depth 1"), "{rows:?}");
    assert_table(&output, &rows);
}

#[test]
fn peers_are_raced_with_bare_quic_at_each_packet_size() {
    if !have_io_uring() {
        return skipped("no io_uring");
    }
    let (output, report) = bench("peer", &[]);
    let rows = compared(&report);
    for mtu in [1452, 8952, 65507] {
        let row = format!("GET 4 MiB depth 1 RAM hit, packets of {mtu}");
        assert!(rows.contains(&row.as_str()), "{rows:?}");
    }
    assert_table(&output, &rows);
}

#[test]
fn a_mount_is_raced_with_a_null_file_system() {
    if !have_fuse() || !have_root() {
        return skipped("needs root and /dev/fuse");
    }
    let (output, report) = bench("mount", &["--nodes", "2"]);
    let rows = compared(&report);
    assert!(rows.contains(&"mount O_DIRECT 4 KiB random from RAM") && rows.len() == 5, "{rows:?}");
    assert_table(&output, &rows);
}

#[test]
fn reads_are_raced_with_the_same_beside_a_warm_up() {
    if !have_io_uring() {
        return skipped("no io_uring");
    }
    let (output, report) = bench("classes", &[]);
    let rows = compared(&report);
    assert_eq!(rows.len(), 6, "{rows:?}");
    assert!(report["rows"].as_array().expect("rows").iter().all(|row| row["goals"]["p99"] == 2.0), "{report}");
    assert_table(&output, &rows);
}

#[test]
fn the_gate_has_a_line_for_each_goal_and_fails_if_one_falls_short() {
    if !have_io_uring() {
        return skipped("no io_uring");
    }
    let (output, report) = bench("gate", &["store"]);
    let rows = compared(&report);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" >= ") || line.contains(" <= ")).collect();
    assert_eq!(lines.len(), rows.len(), "the store's rows have one goal each:\n{text}");
    let short = lines.iter().any(|line| line.ends_with("SHORT"));
    assert_eq!(output.status.code(), Some(i32::from(short)), "{text}");
}
