//! `format` does with every flag what JuiceFS does: on a new volume, and on one that exists.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::pair::{Pair, setting_text};
use crate::rig::said;

/// One client in a directory of its own, so that both can be given the same words.
struct Side<'a> {
    pair: &'a Pair,
    name: &'static str,
}

impl Side<'_> {
    /// Runs `command` with `words`; the volume is at `sqlite3://v.db`, and `BASE` in a word is this side's directory.
    fn run(&self, command: &str, words: &[&str]) -> Output {
        let base = self.pair.rig.mkdir(self.name);
        let words: Vec<String> = words.iter().map(|word| word.replace("BASE", &base.display().to_string())).collect();
        let mut command = match self.name {
            "juicefs" => self.pair.rig.oracle_command(&self.pair.juicefs, &[command, "sqlite3://v.db"]),
            _ => {
                let mut ours = self.pair.rig.shoal();
                ours.args([command, "sqlite3://v.db"]);
                ours
            }
        };
        command.args(&words).current_dir(&base).output().expect("a command runs")
    }

    /// The setting as JuiceFS reads it, without what differs between any two volumes.
    fn setting(&self) -> Value {
        let base = self.pair.rig.path(self.name);
        let mut command = self.pair.rig.oracle_command(&self.pair.juicefs, &["status", "sqlite3://v.db"]);
        let output = command.current_dir(&base).output().unwrap();
        assert!(output.status.success(), "status of {}\n{}", self.name, said(&output));
        let mut status: Value = serde_json::from_slice(&output.stdout).expect("status prints JSON");
        let setting = status["Setting"].as_object_mut().expect("a setting");
        let uuid = setting.insert("UUID".into(), "".into()).expect("a UUID");
        assert_eq!(uuid.as_str().map(str::len), Some(36), "{uuid}");
        let bucket = setting["Bucket"].as_str().expect("a bucket").replace(base.to_str().unwrap(), "BASE");
        setting.insert("Bucket".into(), bucket.into());
        status["Setting"].take()
    }

    /// The names of the setting's fields in the order they are written.
    fn field_order(&self) -> Vec<String> {
        let text = setting_text(&format!("sqlite3://{}", self.pair.rig.path(self.name).join("v.db").display()));
        text.lines().filter_map(|line| Some(line.split_once("\":")?.0.to_owned())).collect()
    }
}

/// Gives `format` of both clients the same `rounds` of words. Both must accept or refuse alike, and leave the same setting.
fn both_agree(name: &str, rounds: &[&[&str]]) {
    let rounds: Vec<(&str, &[&str])> = rounds.iter().map(|words| ("format", *words)).collect();
    both_agree_on(name, &rounds);
}

/// The same with a command for each round; what `config` says must be the same too.
fn both_agree_on(name: &str, rounds: &[(&str, &[&str])]) {
    let Some(pair) = Pair::new("flags") else { return };
    let sides = [Side { pair: &pair, name: "juicefs" }, Side { pair: &pair, name: "shoal" }];
    for (command, words) in rounds {
        let [theirs, ours] = [0, 1].map(|side: usize| sides[side].run(command, words));
        let alike = theirs.status.success() == ours.status.success();
        assert!(alike, "{name}: {words:?}\nJuiceFS: {}\nours: {}", said(&theirs), said(&ours));
        if !ours.status.success() {
            let text = String::from_utf8_lossy(&ours.stderr).trim().to_owned();
            let mut sentences = text.lines().filter(|line| !line.starts_with("WARNING: "));
            let one = sentences.next().is_some_and(|line| line.starts_with("shoal: ")) && sentences.next().is_none();
            // A flag's value that cannot be read is refused with the usage.
            assert!(one || text.starts_with("error: invalid value"), "{name}: {words:?}: {text}");
        }
        if *command == "config" && ours.status.success() {
            let lines = |output: &Output, base: &str| {
                let text = String::from_utf8_lossy(&output.stdout).replace(base, "BASE");
                let mut lines: Vec<String> = text
                    .lines()
                    .filter(|line| line.contains(':') && !line.contains("WARNING"))
                    .map(str::to_owned)
                    .collect();
                lines.sort();
                lines
            };
            let [a, b] = sides.each_ref().map(|side| pair.rig.path(side.name).display().to_string());
            assert_eq!(lines(&ours, &b), lines(&theirs, &a), "{name}: {words:?}");
        }
        if sides.iter().all(|side| pair.rig.path(side.name).join("v.db").exists()) {
            let settings = sides.each_ref().map(Side::setting);
            assert_eq!(settings[0], settings[1], "{name}: after {words:?}");
        }
    }
    for side in &sides {
        assert!(pair.rig.path(side.name).join("v.db").exists(), "{name}: the volume of {} is there", side.name);
    }
}

#[test]
fn a_new_volume_has_the_same_setting() {
    let bucket = ["v", "--bucket", "BASE/o"].map(str::to_owned);
    let variants: [&[&str]; 9] = [
        &[],
        &["--block-size", "100"],
        &["--block-size", "3M", "--compress", "lz4"],
        &["--block-size", "64M", "--compress", "zstd", "--hash-prefix"],
        &["--capacity", "3", "--inodes", "77", "--trash-days", "0"],
        &["--storage-class", "STANDARD_IA"],
        &["--enable-acl"],
        &["--shards", "1", "--hash-prefix=false"],
        &["--access-key", "ak", "--trash-days", "9"],
    ];
    for more in variants {
        let mut words: Vec<&str> = vec!["vol", "--bucket", &bucket[2]];
        words.extend(more);
        both_agree("new volume", &[&words]);
    }
}

#[test]
fn buckets_of_files_are_normalised_alike() {
    for bucket in ["BASE/a/", "BASE/a//b/../c", "relative/x", "./y/", "BASE/q/..//z"] {
        both_agree("bucket", &[&["vol", "--bucket", bucket]]);
    }
    both_agree("shards", &[&["vol", "--bucket", "BASE/s%d", "--shards", "4"]]);
}

#[test]
fn names_and_options_are_refused_alike() {
    let good: &[&str] = &["vol", "--bucket", "BASE/o"];
    for bad in ["ab", "Upper", "under_score", "dash-", "a.b", "", &"x".repeat(64)] {
        both_agree("name", &[&[bad, "--bucket", "BASE/o"], good]);
    }
    both_agree("compression", &[&["vol", "--bucket", "BASE/o", "--compress", "gzip"], good]);
    both_agree("shards", &[&["vol", "--bucket", "BASE/o", "--shards", "2"], good]);
    both_agree("shards", &[&["vol", "--bucket", "BASE/o%d", "--shards", "257"], good]);
}

#[test]
fn formatting_again_changes_only_what_is_given() {
    both_agree(
        "again",
        &[
            &[
                "vol",
                "--bucket",
                "BASE/o",
                "--block-size",
                "1M",
                "--compress",
                "lz4",
                "--hash-prefix",
                "--trash-days",
                "5",
            ],
            &["vol"],
            &["vol", "--capacity", "7"],
            &["vol", "--inodes", "1000", "--trash-days", "0"],
            &["vol", "--bucket", "BASE/other"],
            &["vol", "--capacity", "0"],
        ],
    );
}

#[test]
fn what_is_fixed_when_a_volume_is_made_stays_fixed_alike() {
    let first: &[&str] = &["vol", "--bucket", "BASE/o", "--block-size", "1M", "--compress", "lz4", "--hash-prefix"];
    both_agree(
        "fixed",
        &[
            first,
            first,
            &["other"],
            &["vol", "--block-size", "4M"],
            &["vol", "--block-size", "1500K"],
            &["vol", "--compress", "none"],
            &["vol", "--hash-prefix=false"],
            &["vol", "--shards", "2", "--bucket", "BASE/x%d"],
            // A change that is refused changes nothing else either.
            &["vol", "--block-size", "4M", "--trash-days", "9"],
        ],
    );
}

#[test]
fn no_update_leaves_a_volume_alone_whatever_is_given() {
    both_agree(
        "no update",
        &[
            &["vol", "--bucket", "BASE/o", "--no-update"],
            &["vol", "--bucket", "BASE/elsewhere", "--trash-days", "9", "--no-update"],
            &["vol", "--block-size", "64K", "--compress", "zstd", "--no-update"],
            &["other", "--no-update"],
        ],
    );
}

#[test]
fn force_changes_even_what_is_fixed_and_takes_no_occupied_prefix() {
    both_agree(
        "force",
        &[
            &["vol", "--bucket", "BASE/o"],
            &["vol", "--block-size", "64K", "--force"],
            &["vol", "--compress", "zstd", "--trash-days", "3", "--force"],
            &["other", "--force"],
        ],
    );
    let Some(pair) = Pair::new("occupied") else { return };
    for name in ["juicefs", "shoal"] {
        let side = Side { pair: &pair, name };
        assert!(side.run("format", &["vol", "--bucket", "BASE/o"]).status.success());
        fs::remove_file(pair.rig.path(name).join("v.db")).unwrap();
        for more in [&[][..], &["--force"]] {
            let words = [&["vol", "--bucket", "BASE/o"][..], more].concat();
            let output = side.run("format", &words);
            assert!(!output.status.success(), "{name} takes a prefix that holds another volume\n{}", said(&output));
        }
        assert!(side.run("format", &["vol-2", "--bucket", "BASE/o"]).status.success(), "another name is free");
    }
}

#[test]
fn the_setting_is_written_in_the_order_of_juicefs() {
    let Some(pair) = Pair::new("order") else { return };
    let orders = ["juicefs", "shoal"].map(|name| {
        let side = Side { pair: &pair, name };
        let output =
            side.run("format", &["vol", "--bucket", "BASE/o", "--compress", "zstd", "--capacity", "1", "--enable-acl"]);
        assert!(output.status.success(), "{}", said(&output));
        side.field_order()
    });
    assert_eq!(orders[0], orders[1]);
    assert!(orders[0].len() > 10);
}

#[test]
fn secrets_are_sealed_so_that_both_can_open_them() {
    let Some(pair) = Pair::new("secrets") else { return };
    for name in ["juicefs", "shoal"] {
        let side = Side { pair: &pair, name };
        let output = side.run(
            "format",
            &["vol", "--bucket", "BASE/o", "--access-key", "ak", "--secret-key", "sk", "--session-token", "st"],
        );
        assert!(output.status.success(), "{}", said(&output));
        let setting = side.setting();
        assert_eq!(
            (&setting["SecretKey"], &setting["SessionToken"], &setting["KeyEncrypted"]),
            (&"removed".into(), &"removed".into(), &true.into()),
            "{name}"
        );
        // The other client opens, changes and seals them again.
        let other = Side { pair: &pair, name: if name == "shoal" { "juicefs" } else { "shoal" } };
        let url = format!("sqlite3://{}", pair.rig.path(name).join("v.db").display());
        assert!(!setting_text(&url).contains("\"sk\""), "{name} keeps a secret in the clear");
        let mut command = match other.name {
            "juicefs" => pair.rig.oracle_command(&pair.juicefs, &["format", &url, "vol", "--trash-days", "4"]),
            _ => {
                let mut command = pair.rig.shoal();
                command.args(["format", &url, "vol", "--trash-days", "4"]);
                command
            }
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{} opens what {name} sealed\n{}", other.name, said(&output));
        assert_eq!(side.setting()["TrashDays"], 4);
    }
}

#[test]
fn the_setting_of_a_volume_is_changed_alike() {
    let make: (&str, &[&str]) = ("format", &["vol", "--bucket", "BASE/o"]);
    let changes: [&[&str]; 25] = [
        &["--capacity", "1"],
        &["--capacity", "10M", "--inodes", "5"],
        &["--trash-days", "7"],
        &["--trash-days", "0"],
        &["--trash-days", "0", "--yes"],
        &["--bucket", "BASE/o2"],
        &["--force", "--bucket", "BASE/o"],
        &["--min-client-version", "1.0.0", "--yes"],
        &["--min-client-version", "1.2.0", "--yes"],
        &["--min-client-version", "x", "--yes"],
        &["--dir-stats=false"],
        &["--dir-stats"],
        &["--changelog"],
        &["--changelog-max-age", "30m", "--changelog-max-lines", "10"],
        &["--changelog-max-age", "90", "--yes"],
        &["--changelog=false"],
        &["--upload-limit", "100", "--download-limit", "5"],
        &["--storage-class", "STANDARD_IA"],
        &["--tier", "1", "--storage-class", "GLACIER"],
        &["--tier", "2", "--storage-class", "DEEP_ARCHIVE", "--tag", "k=v"],
        &["--tier", "4", "--storage-class", "X"],
        &["--user-group-quota"],
        &["--enable-acl"],
        &["--enable-acl=false"],
        &["--max-client-version", "9.0.0", "--yes"],
    ];
    let rounds = [make].into_iter().chain(changes.into_iter().map(|words| ("config", words)));
    both_agree_on("config", &rounds.collect::<Vec<_>>());
}
