//! Programs that people run, on files of a mount.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use shoal_testkit::{ChildGuard, PATIENCE, Tree, have_command, skipped, wait_until};

use super::bed::{Bed, config, have_tool};

/// The sources of this repository, which are a tree like many.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

fn python(script: &str, file: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(config(script)).arg(file);
    command
}

/// `git` in `dir`, whatever this user's own configuration says.
fn git(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "user.name=Shoal", "-c", "user.email=shoal@example.org"]).args(words);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

#[test]
fn git_clones_switches_and_finds_its_repository_sound() {
    if !have_tool("git") {
        return;
    }
    let Some(bed) = Bed::new("git") else { return };
    let origin = bed.rig.mkdir("origin");
    bed.run(&mut git(&origin, &["init", "--quiet", "--initial-branch=main"]));
    for (tag, part) in [("one", "meta/src"), ("two", "vfs/src"), ("three", "format")] {
        bed.run(Command::new("cp").arg("-r").arg(sources().join(part)).arg(origin.join(tag)));
        bed.run(&mut git(&origin, &["add", "."]));
        bed.run(&mut git(&origin, &["commit", "--quiet", "-m", tag]));
        bed.run(&mut git(&origin, &["tag", tag]));
    }
    let url = format!("file://{}", origin.display());
    bed.run(&mut git(&bed.mount.point, &["clone", "--quiet", &url, "clone"]));
    let clone = bed.path("clone");
    for tag in ["one", "three", "two"] {
        bed.run(&mut git(&clone, &["checkout", "--quiet", tag]));
        assert_eq!(bed.run(&mut git(&clone, &["status", "--porcelain"])), "", "at {tag}");
        assert!(clone.join(tag).exists() && !(tag == "one" && clone.join("two").exists()));
    }
    fs::write(clone.join("new"), "content").unwrap();
    bed.run(&mut git(&clone, &["add", "new"]));
    bed.run(&mut git(&clone, &["commit", "--quiet", "-m", "new"]));
    bed.run(&mut git(&clone, &["gc", "--quiet", "--prune=now"]));
    assert_eq!(bed.run(&mut git(&clone, &["fsck", "--full", "--strict", "--no-progress"])), "");
    bed.run(Command::new("diff").arg("-r").args([origin.join("one"), clone.join("one")]));
    bed.finish();
}

#[test]
fn archives_and_copies_are_what_they_were_made_of() {
    let Some(bed) = Bed::new("copies") else { return };
    let source = bed.rig.mkdir("source");
    Tree::new(7).files(150).file_bytes_max(1 << 20).write(&source).expect("the tree is written");
    // Two pipes are never the same to diff.
    bed.run(
        Command::new("find").arg(&source).args(["!", "-type", "f", "!", "-type", "d", "!", "-type", "l", "-delete"]),
    );
    let copy = |name: &str| bed.mkdir(name);
    let shell = |script: &str, dir: &Path| {
        let mut command = Command::new("sh");
        command.args(["-ec", script, "sh"]).arg(&source).arg(dir);
        command
    };
    let mut ways = vec![
        ("tar", "tar --format=posix -C \"$1\" -cf - . | tar -C \"$2\" -xpf -"),
        ("gzip", "tar --format=posix -C \"$1\" -czf \"$2.tgz\" . && tar -C \"$2\" -xpzf \"$2.tgz\""),
        ("cp", "cp -a \"$1/.\" \"$2\""),
    ];
    if have_command("rsync") {
        ways.push(("rsync", "rsync -aH \"$1/\" \"$2\" && test -z \"$(rsync -aHnci \"$1/\" \"$2\" | grep -v '^\\.')\""));
    }
    for (name, script) in ways {
        let dir = copy(name);
        bed.run(&mut shell(script, &dir));
        bed.run(Command::new("diff").args(["-r", "--no-dereference"]).arg(&source).arg(&dir));
        // Sizes of directories are each file system's own affair.
        let list = "cd \"$DIR\" && find . -type d -printf '%P %m %U\\n' -o -printf '%P %y %m %U %G %n %s %l %T@\\n' | sort && \
            find . -type f -links 1 -exec du -b {} + | sort -k2";
        let listed = |dir: &Path| bed.run(Command::new("sh").args(["-ec", list]).env("DIR", dir));
        assert_eq!(listed(&dir), listed(&source), "{name}");
    }
    bed.finish();
}

#[test]
fn a_copy_inside_a_volume_stores_nothing() {
    let Some(bed) = Bed::new("reflink") else { return };
    let bytes = shoal_testkit::seeded_bytes(3, 5_000_000);
    fs::write(bed.path("file"), &bytes).unwrap();
    let before = bed.objects();
    bed.run(Command::new("cp").arg("--reflink=auto").arg(bed.path("file")).arg(bed.path("copy")));
    assert!(fs::read(bed.path("copy")).unwrap() == bytes);
    assert_eq!(bed.objects(), before, "copy_file_range(2) shares blocks");
    fs::write(bed.path("file"), b"other").unwrap();
    assert!(fs::read(bed.path("copy")).unwrap() == bytes);
    bed.finish();
}

#[test]
fn sqlite_is_written_by_two_processes_at_once() {
    let Some(bed) = Bed::new("sqlite") else { return };
    bed.run(&mut python("sqlite.py", &bed.path("file.db")));
    bed.finish();
}

#[test]
fn what_is_written_to_a_mapping_is_read_from_another() {
    let Some(bed) = Bed::new("mapped") else { return };
    bed.run(&mut python("mapped.py", &bed.path("file")));
    bed.finish();
}

/// Saves as editors do: the old file becomes the backup, and the new one takes its name.
fn save_by_rename(path: &Path, text: &str) {
    let (swap, backup) = (path.with_extension("swp"), path.with_extension("bak"));
    File::create_new(&swap).unwrap().sync_all().unwrap();
    let mode = fs::metadata(path).unwrap().permissions();
    fs::rename(path, &backup).unwrap();
    let mut file = File::create_new(path).unwrap();
    file.set_permissions(mode).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::remove_file(&swap).unwrap();
}

/// Saves into the file itself, behind a copy of it.
fn save_in_place(path: &Path, text: &str) {
    fs::copy(path, path.with_extension("bak")).unwrap();
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

/// Saves into a file beside it, which takes its place.
fn save_over(path: &Path, text: &str) {
    let new = path.with_extension("tmp");
    fs::copy(path, path.with_extension("bak")).unwrap();
    let mut file = File::create_new(&new).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
    fs::rename(&new, path).unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

/// A way to replace what a file holds.
type Save = fn(&Path, &str);

#[test]
fn editors_save_and_leave_a_backup() {
    let Some(bed) = Bed::new("editor") else { return };
    let path = bed.path("text");
    fs::write(&path, "version 0").unwrap();
    let mut before = fs::metadata(&path).unwrap().ino();
    let ways: [(Save, bool); 3] = [(save_by_rename, true), (save_in_place, false), (save_over, true)];
    for (n, (save, is_new)) in (0..).zip(ways.into_iter().cycle().take(30)) {
        // A reader that has it open keeps what it has.
        let reader = File::open(&path).unwrap();
        save(&path, &format!("version {}", n + 1));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("version {}", n + 1));
        assert_eq!(fs::read_to_string(path.with_extension("bak")).unwrap(), format!("version {n}"));
        let seen = std::io::read_to_string(reader).unwrap();
        assert_eq!(seen, format!("version {}", if is_new { n } else { n + 1 }));
        let now = fs::metadata(&path).unwrap().ino();
        assert_eq!(now != before, is_new);
        before = now;
    }
    if have_command("vim") {
        for backup in ["set backupcopy=no", "set backupcopy=yes"] {
            let mut vim = Command::new("vim");
            vim.args(["-es", "-u", "NONE", "-c", "set backup", "-c", backup, "-c", "%s/version/edited/", "-c", "wq"]);
            fs::write(&path, "version").unwrap();
            bed.run(vim.arg(&path));
            assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), "edited");
            assert_eq!(fs::read_to_string(bed.path("text~")).unwrap(), "version");
        }
    }
    bed.finish();
}

#[test]
fn cargo_builds_a_crate_and_builds_it_again() {
    let Some(bed) = Bed::new("cargo") else { return };
    let dir = bed.mkdir("crate");
    fs::create_dir(dir.join("src")).unwrap();
    fs::write(dir.join("Cargo.toml"), "[package]\nname = \"tiny\"\nedition = \"2024\"\n[workspace]\n").unwrap();
    fs::write(dir.join("src/lib.rs"), "pub fn answer() -> u32 { 41 }\n").unwrap();
    fs::write(dir.join("src/main.rs"), "fn main() { println!(\"{}\", tiny::answer()); }\n").unwrap();
    fs::write(dir.join("build.rs"), "fn main() { println!(\"cargo::rerun-if-changed=build.rs\"); }\n").unwrap();
    let run = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["run", "--quiet", "--offline"]).current_dir(&dir).env("CARGO_TARGET_DIR", dir.join("target"));
        bed.run(&mut cargo)
    };
    assert_eq!(run(), "41\n");
    fs::write(dir.join("src/lib.rs"), "pub fn answer() -> u32 { 42 }\n").unwrap();
    assert_eq!(run(), "42\n");
    bed.finish();
}

/// A PostgreSQL whose data is on the mount.
struct Postgres<'a> {
    bed: &'a Bed,
    programs: PathBuf,
    data: PathBuf,
    socket: PathBuf,
}

impl Postgres<'_> {
    /// `None`, and a loud word, where it is not installed.
    fn new(bed: &Bed) -> Option<Postgres<'_>> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let Some(programs) =
            versions.map(|version| version.path().join("bin")).find(|dir| dir.join("initdb").is_file())
        else {
            skipped("PostgreSQL is not installed: scripts/install-deps --test");
            return None;
        };
        let (data, socket) = (bed.mkdir("data"), bed.rig.mkdir("socket"));
        bed.run(Command::new("chmod").arg("755").arg(bed.rig.path("")));
        bed.run(Command::new("chown").arg("postgres").args([&data, &socket]));
        Some(Postgres { bed, programs, data, socket })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(self.programs.join(program));
        command.env("PGHOST", &self.socket).env("PGDATA", &self.data).current_dir("/");
        command
    }

    fn run(&self, program: &str, words: &[&str]) -> String {
        self.bed.run(self.command(program).args(words))
    }

    fn start(&self) -> ChildGuard {
        let mut command = self.command("postgres");
        command
            .args(["-c", "listen_addresses=", "-c"])
            .arg(format!("unix_socket_directories={}", self.socket.display()));
        let server = ChildGuard::spawn("postgres", &mut command);
        wait_until("PostgreSQL answers", PATIENCE, || {
            self.command("pg_isready").output().is_ok_and(|output| output.status.success())
        });
        server
    }
}

#[test]
fn postgresql_keeps_its_data_through_a_crash() {
    let Some(bed) = Bed::new("pg") else { return };
    let Some(postgres) = Postgres::new(&bed) else { return };
    postgres.run("initdb", &["-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "--data-checksums"]);
    let mut server = postgres.start();
    postgres.run("pgbench", &["--quiet", "-i", "-s", "1", "postgres"]);
    postgres.run("pgbench", &["-n", "-c", "2", "-t", "50", "postgres"]);
    // It ends without a checkpoint, and has to recover from its log.
    server.signal(rustix::process::Signal::QUIT);
    server.wait(PATIENCE);
    let mut server = postgres.start();
    let query = "SELECT count(*), sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts) FROM pgbench_history";
    assert_eq!(postgres.run("psql", &["-At", "-c", query, "postgres"]), "100|t\n");
    server.terminate(PATIENCE);
    postgres.run("pg_checksums", &["--check"]);
    bed.finish();
}
