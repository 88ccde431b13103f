//! What a person gets wrong ends in one sentence that names it, with exit code 1 and nothing left behind.

use std::process::Command;

use shoal_testkit::PATIENCE;

use crate::rig::{NodeOptions, Rig};
use crate::support::{left_behind, node_refused, one_file, read_all, small, tmpfs};

/// Asserts that `said` holds every word.
#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

/// Puts `new` for every `old` in the database file: a setting of another client, without an SQL library.
fn patch_database(rig: &Rig, name: &str, old: &str, new: &str) {
    assert_eq!(old.len(), new.len(), "the file keeps its layout");
    let path = rig.path(format!("{name}.db"));
    let mut bytes = std::fs::read(&path).expect("the database is read");
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old.as_bytes())).collect();
    assert!(!places.is_empty(), "no `{old}` in the database");
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    std::fs::write(&path, bytes).expect("the database is written");
}

#[test]
fn volumes_that_cannot_be_opened() {
    let Some(rig) = Rig::new("bad-volumes") else { return };
    std::fs::write(rig.path("text.db"), "this is no database, whatever its name says".repeat(50)).expect("written");
    std::fs::write(rig.path("empty.db"), "").expect("written");
    for name in ["newer", "gone"] {
        rig.format(name, &[]);
    }
    std::fs::remove_dir_all(rig.path("gone-objects")).expect("removed");
    patch_database(&rig, "newer", "\"MetaVersion\": 1,", "\"MetaVersion\": 9,");
    let point = rig.mkdir("point");
    let newer = rig.url("newer");
    let cases: [(&str, &[&str]); 7] = [
        ("nosuch://host/1", &["nosuch", "scheme", "sqlite3://"]),
        ("tikv://:secret@host/1", &["tikv", "not supported yet"]),
        (&rig.url("missing"), &["missing.db"]),
        (&rig.url("text"), &["text.db"]),
        (&rig.url("empty"), &["empty.db"]),
        (&rig.url("gone"), &["gone-objects"]),
        (&newer, &["newer", "9"]),
    ];
    for (url, words) in cases {
        let said = rig.refused(rig.shoal().args(["mount", url]).arg(&point).args(["--metrics", "none"]));
        says(&said, words);
        assert!(!said.contains("secret"), "a password is shown: {said}");
        says(&node_refused(&mut rig.node_command(1, url, &[], &small())), words);
        says(&rig.refused(rig.shoal().args(["status", url])), words);
        let source = rig.mkdir("source");
        says(&rig.refused(rig.shoal().args(["import", "--quiet"]).arg(source).arg(url)), words);
    }
    assert!(!rig.path("missing.db").exists(), "opening made a database");
    assert!(!rig.path("gone-objects").exists(), "opening made a bucket");
    assert_eq!(left_behind(&rig), Vec::<String>::new());
}

#[test]
fn mountpoints_and_rings_that_cannot_be_used() {
    let Some(rig) = Rig::new("bad-mounts") else { return };
    let volume = one_file(&rig, "train", 2);
    let nodes = rig.start_ring(1, &volume.url, &small());
    let point = rig.mkdir("point");
    let file = rig.path("file");
    std::fs::write(&file, "").expect("written");
    let mount = |at: &std::path::Path, flags: &[&str]| {
        let mut command = rig.shoal();
        command.args(["mount", &volume.url]).arg(at).args(flags);
        if !flags.contains(&"--metrics") {
            command.args(["--metrics", "none"]);
        }
        rig.refused(&mut command)
    };
    says(&mount(&rig.path("nowhere"), &[]), &["nowhere", "No such file"]);
    says(&mount(&file, &[]), &["file", "not a directory"]);
    says(&mount(&point, &["-o", "rw", "--read-only"]), &["-o rw", "read-only"]);
    says(&mount(&point, &["--metrics", "nonsense"]), &["nonsense", "ADDR:PORT"]);
    says(&mount(&point, &["--metrics", &nodes[0].metrics.to_string()]), &["metrics", "in use"]);
    says(&mount(&point, &["--peer-timeout=-1"]), &["--peer-timeout", "-1"]);
    says(&mount(&point, &["--join", "127.0.0.2"]), &["--certs"]);
    let certs = rig.path("client").display().to_string();
    says(&mount(&point, &["--join", "127.0.0.2", "--certs", &certs]), &["127.0.0.2", "HOST:PORT"]);
    // Port 9 of an address of its own: nobody listens there.
    let nobody = ["--join", "127.0.0.9:9", "--certs", &certs, "--join-timeout", "2"];
    says(&mount(&point, &nobody), &["no node of the ring answered", "127.0.0.9:9"]);
    for command in ["warmup", "info"] {
        let said = rig.refused(rig.shoal().args([command, "/", "--meta", &volume.url]).args(nobody));
        says(&said, &["no node of the ring answered", "127.0.0.9:9"]);
    }
    says(&rig.refused(rig.shoal().args(["status"]).args(nobody)), &["no node of the ring answered"]);
    says(&rig.refused(rig.shoal().arg("status")), &["--join"]);
    says(&rig.refused(rig.shoal().arg("umount").arg(&point)), &["nothing is mounted", "point"]);
    says(&rig.refused(rig.shoal().args(["umount", "/proc"])), &["/proc", "proc"]);

    let first = rig.mount("in-use", &volume.url, &nodes, &[]);
    says(&mount(&first.point, &[]), &["in use", "shoal umount"]);
    read_all(&first, &volume.content);
    first.unmount(&rig);
    drop(nodes);
    assert_eq!(left_behind(&rig), Vec::<String>::new());
}

#[test]
fn nodes_that_cannot_start() {
    let Some(rig) = Rig::new("bad-nodes") else { return };
    let volume = one_file(&rig, "train", 2);
    let nodes = rig.start_ring(1, &volume.url, &small());
    let seeds = [nodes[0].addr];
    let refused =
        |number: u8, options: &NodeOptions| node_refused(&mut rig.node_command(number, &volume.url, &seeds, options));
    let flags =
        |flags: &[&str]| NodeOptions { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..small() };

    says(&refused(1, &small()), &["node-1-cache", "in use by another process"]);
    says(&refused(2, &flags(&["--metrics", &nodes[0].metrics.to_string()])), &["metrics", "in use"]);
    let taken = NodeOptions { listen: Some(nodes[0].addr), ..small() };
    says(&refused(2, &taken), &[&nodes[0].addr.to_string(), "in use"]);
    says(&refused(2, &NodeOptions { cache: "1M".into(), ..small() }), &["cache", "smaller than"]);
    says(&refused(2, &NodeOptions { memory: "1M".into(), ..small() }), &["--memory 1M"]);
    says(&refused(2, &NodeOptions { cache: "9000T".into(), ..small() }), &["node-2-cache", "lower the size"]);
    std::fs::write(rig.path("bad.toml"), "weight = [1\n").expect("written");
    let bad = rig.path("bad.toml").display().to_string();
    says(&refused(2, &flags(&["--config", &bad])), &["bad.toml"]);
    std::fs::write(rig.path("bad.toml"), "wieght = 1\n").expect("written");
    says(&refused(2, &flags(&["--config", &bad])), &["bad.toml", "wieght"]);
    says(&refused(2, &flags(&["--config", "/no/such.toml"])), &["/no/such.toml"]);
    says(&refused(2, &flags(&["--weight", "0"])), &["--weight 0"]);

    // A disk smaller than the cache that is to lie on it.
    let disk = tmpfs(&rig, "node-2-cache", "80M");
    says(&refused(2, &small()), &["node-2-cache", "lower the size or free space"]);
    assert!(!disk.join("shoal-cache.slab").exists(), "the disk was filled before it was refused");
    rig.ok(Command::new("umount").arg(&disk));
    let no_dir = rig.path("absent");
    let command = rig.node_command(2, &volume.url, &seeds, &flags(&[]));
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let at = words.iter().position(|word| word == "--cache-dir").expect("a cache directory");
    let mut other = Command::new(command.get_program());
    other.args(&words[..at]).arg("--cache-dir").arg(format!("{}:128M", no_dir.display())).args(&words[at + 2..]);
    says(&node_refused(&mut other), &["absent", "does not exist"]);

    // None of them was in the ring, even for a moment.
    assert_eq!(nodes[0].metric("shoal_cluster_members"), 1);
    assert_eq!(nodes[0].metric("shoal_cluster_view_version"), 1, "the ring has changed");
    let mut nodes = nodes;
    assert!(nodes[0].process.terminate(PATIENCE).success());
    assert_eq!(left_behind(&rig), Vec::<String>::new());
}
