//! We remove and rename in a volume that JuiceFS has mounted too: both see one tree, JuiceFS finds nothing wrong with it, and each
//! restores what the other removed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use shoal_meta::SessionRecord;
use shoal_runtime::clock;
use shoal_testkit::{Entry, EntryKind, PATIENCE, Rng, Snapshot, seeded_bytes, wait_until};

use super::pair::{Keys, Pair, Recipe, look, with_volume};
use crate::rig::Mount;

pub(super) const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Kernel caches off: what one client does, the other shows at once.
const FRESH: &[&str] = &["--writable", "--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"];

impl Pair {
    pub(super) fn fresh(&self, name: &str) -> Mount {
        self.shoal_mount(name, FRESH)
    }

    /// A volume with this tree in it, written by JuiceFS.
    pub(super) fn with_tree(name: &str, flags: &[&str], write: impl Fn(&Path)) -> Option<Pair> {
        let pair = Pair::new(name)?;
        pair.fill(flags, write);
        Some(pair)
    }

    /// Makes the volume and writes this tree into it, by JuiceFS.
    fn fill(&self, flags: &[&str], write: impl Fn(&Path)) {
        self.juicefs_formats(&PLAIN, flags);
        let theirs = self.juicefs_mount("writer", &[]);
        write(&theirs.point);
        theirs.unmount(&self.rig);
    }

    /// Blocks of data in the object store.
    pub(super) fn block_count(&self) -> usize {
        let mut pending = vec![self.objects().join("interop").join("chunks")];
        let mut count = 0;
        while let Some(path) = pending.pop() {
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => count += 1,
                // A directory that was emptied.
                Err(_) => {}
            }
        }
        count
    }
}

/// What a tree shows without the times of directories, which depend on when its names changed.
pub(super) fn shape(root: &Path) -> Snapshot {
    let mut seen = look(root);
    for entry in seen.entries.values_mut() {
        if entry.kind == EntryKind::Directory {
            entry.mtime = (0, 0);
        }
    }
    seen
}

pub(super) fn small_tree(root: &Path) {
    fs::create_dir_all(root.join("d/sub")).unwrap();
    for (name, len) in [("d/a", 200_000), ("d/b", 10), ("d/sub/c", 70_000), ("top", 1)] {
        fs::write(root.join(name), seeded_bytes(len as u64, len)).unwrap();
    }
    fs::hard_link(root.join("d/a"), root.join("d/sub/a2")).unwrap();
    symlink("to/there", root.join("d/link")).unwrap();
    fs::create_dir(root.join("d/empty")).unwrap();
}

/// All that lies in the trash. What is removed around the full hour may be in two of its directories.
fn trashed(mount: &Path) -> Vec<PathBuf> {
    let list = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    list(mount.join(".trash")).flat_map(list).collect()
}

#[test]
fn each_restores_what_the_other_removed() {
    let Some(pair) = Pair::new("restored") else { return };
    restore_both_ways(&pair);
}

/// Removes and restores a small tree, each way.
pub fn restore_both_ways(pair: &Pair) {
    pair.fill(&[], small_tree);
    let ours = pair.fresh("ours");
    let before = shape(&ours.point);
    let at = |name: &str| ours.point.join(name);
    for name in ["d/a", "d/link", "d/sub/c", "d/sub/a2"] {
        fs::remove_file(at(name)).unwrap();
    }
    for name in ["d/sub", "d/empty"] {
        fs::remove_dir(at(name)).unwrap();
    }
    pair.assert_fsck_is_clean();
    for trashed in fs::read_dir(ours.point.join(".trash")).unwrap() {
        let trashed = trashed.unwrap().file_name().into_string().unwrap();
        pair.juicefs(&["restore", &pair.url(), &trashed, "--put-back"]);
    }
    assert_eq!(shape(&ours.point), before);
    pair.assert_fsck_is_clean();

    let theirs = pair.juicefs_mount("theirs", &[]);
    fs::remove_file(theirs.point.join("d/b")).unwrap();
    fs::remove_file(theirs.point.join("d/a")).unwrap();
    fs::remove_dir(theirs.point.join("d/empty")).unwrap();
    for path in trashed(&ours.point) {
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::rename(&path, at("d").join(name.splitn(3, '-').nth(2).unwrap())).unwrap();
    }
    assert_eq!(shape(&ours.point), before);
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

/// Does the same to several trees.
struct Twins<'a> {
    roots: [&'a Path; 2],
    rng: Rng,
    fresh: u64,
}

impl Twins<'_> {
    /// Every path below the root but the root, directories first or not as asked.
    fn paths(&self, dirs: bool) -> Vec<PathBuf> {
        let seen = look(self.roots[1]);
        let is_dir = |entry: &Entry| entry.kind == EntryKind::Directory;
        let wanted = seen.entries.iter().filter(|(path, entry)| is_dir(entry) == dirs && path.as_os_str() != "");
        wanted.map(|(path, _)| path.clone()).collect()
    }

    fn pick(&mut self, dirs: bool) -> Option<PathBuf> {
        let paths = self.paths(dirs);
        if paths.is_empty() { None } else { Some(paths[self.rng.index(paths.len())].clone()) }
    }

    /// Does `work` to both trees; both must agree on how it ends.
    fn both(&self, what: &str, work: impl Fn(&Path) -> rustix::io::Result<()>) {
        let outcomes = self.roots.map(work);
        assert_eq!(outcomes[0], outcomes[1], "{what}");
    }

    fn step(&mut self) {
        let from_dir = self.rng.index(3) == 0;
        let Some(from) = self.pick(from_dir) else { return };
        let into = self.pick(true).unwrap_or_default();
        self.fresh += 1;
        let new = into.join(format!("n{}", self.fresh));
        let to_dir = self.rng.index(4) == 0;
        let over = self.pick(to_dir).unwrap_or_else(|| new.clone());
        let action = self.rng.index(8);
        let errno = |error: std::io::Error| rustix::io::Errno::from_io_error(&error).unwrap();
        let rename = |from: &Path, to: &Path, flags| {
            self.both(&format!("{} to {} {flags:?}", from.display(), to.display()), |root| {
                renameat_with(CWD, root.join(from), CWD, root.join(to), flags)
            });
        };
        match action {
            0 => self.both("unlink", |root| fs::remove_file(root.join(&from)).map_err(errno)),
            1 => self.both("rmdir", |root| fs::remove_dir(root.join(&from)).map_err(errno)),
            2 | 3 => rename(&from, &new, RenameFlags::empty()),
            4 | 5 => rename(&from, &over, RenameFlags::empty()),
            6 => rename(&from, &over, RenameFlags::NOREPLACE),
            _ => rename(&from, &over, RenameFlags::EXCHANGE),
        }
    }
}

#[test]
fn a_tree_we_shuffle_is_one_tree_for_both() {
    const STEPS: usize = 400;
    let write = |root: &Path| {
        for dir in 0..12 {
            let path = root.join(format!("d{}/e{}/f{}", dir % 3, dir % 5, dir));
            fs::create_dir_all(&path).unwrap();
            for file in 0..4u64 {
                fs::write(path.join(format!("{file}")), seeded_bytes(file, 100 + 9000 * file as usize)).unwrap();
            }
            fs::hard_link(path.join("1"), path.join("hard")).unwrap();
            symlink("1", path.join("soft")).unwrap();
        }
    };
    for (name, trash) in [("shuffled", "1"), ("shuffled-untrashed", "0")] {
        let Some(pair) = Pair::with_tree(name, &["--trash-days", trash], write) else { return };
        let (ours, shadow) = (pair.fresh("ours"), pair.rig.mkdir("shadow"));
        pair.rig.ok(Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", ours.point.display()))
            .arg(&shadow)
            .args(["--no-target-directory"]));
        for virtual_file in [".stats", ".config"] {
            let _ = fs::remove_file(shadow.join(virtual_file));
        }
        let mut twins = Twins { roots: [&ours.point, &shadow], rng: Rng::new(7), fresh: 0 };
        for _ in 0..STEPS {
            twins.step();
        }
        let (here, there) = (shape(&ours.point), shape(&shadow));
        // A name in the trash is a link of its file as any other.
        let counts = |path: &Path, dir: bool| path.as_os_str() != "" && (dir || trash == "0");
        let names = |seen: &Snapshot| -> BTreeMap<PathBuf, String> {
            let line = |path: &Path, entry: &Entry| {
                let links = if counts(path, entry.kind == EntryKind::Directory) { entry.nlink } else { 0 };
                format!("{:?} {:o} {links}", entry.kind, entry.mode)
            };
            seen.entries.iter().map(|(path, entry)| (path.clone(), line(path, entry))).collect()
        };
        assert_eq!(names(&here), names(&there));
        let theirs = pair.juicefs_mount("theirs", &[]);
        assert_eq!(look(&theirs.point), look(&ours.point));
        theirs.unmount(&pair.rig);
        ours.unmount(&pair.rig);
        pair.assert_fsck_is_clean();
        wait_until("data of removed files is gone", PATIENCE, || {
            pair.age_objects();
            let said = pair.juicefs(&["gc", &pair.url()]);
            said.contains(" 0 leaked (0 bytes)")
        });
        pair.assert_gc_is_clean();
    }
}

#[test]
fn an_open_file_is_read_and_deleted_when_it_is_closed() {
    let write = |root: &Path| {
        fs::write(root.join("f"), seeded_bytes(1, 300_000)).unwrap();
        fs::write(root.join("over"), seeded_bytes(2, 300_000)).unwrap();
        fs::write(root.join("new"), b"new").unwrap();
    };
    let Some(pair) = Pair::with_tree("held", &["--trash-days", "0"], write) else { return };
    let ours = pair.fresh("ours");
    let at = |name: &str| ours.point.join(name);
    let (mut removed, mut replaced) = (File::open(at("f")).unwrap(), File::open(at("over")).unwrap());
    let second = File::open(at("f")).unwrap();
    fs::remove_file(at("f")).unwrap();
    fs::rename(at("new"), at("over")).unwrap();
    assert_eq!(removed.metadata().unwrap().nlink(), 0);
    for (file, seed) in [(&mut removed, 1), (&mut replaced, 2)] {
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, seeded_bytes(seed, 300_000));
        file.rewind().unwrap();
    }
    assert_eq!(fs::read(at("over")).unwrap(), b"new");
    assert_eq!(pair.block_count(), 11);
    drop(removed);
    drop(replaced);
    wait_until("the replaced file's blocks are deleted", PATIENCE, || pair.block_count() == 6);
    assert_eq!(second.metadata().unwrap().nlink(), 0, "the other is open still");
    drop(second);
    wait_until("the removed file's blocks are deleted", PATIENCE, || pair.block_count() == 1);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn what_a_killed_mount_held_open_goes_with_its_session() {
    let write = |root: &Path| fs::write(root.join("f"), seeded_bytes(1, 300_000)).unwrap();
    let Some(pair) = Pair::with_tree("killed", &["--trash-days", "0"], write) else { return };
    let mut dead = pair.fresh("dead");
    let held = File::open(dead.point.join("f")).unwrap();
    fs::remove_file(dead.point.join("f")).unwrap();
    dead.process.kill();
    drop(held);
    let _ = Command::new("umount").arg("-l").arg(&dead.point).status();
    assert_eq!(pair.block_count(), 5);
    // As if its last heartbeat were a minute old.
    with_volume(&pair.url(), async |engine| {
        let sessions = engine.records().sessions().await.unwrap();
        let txn = engine.begin().await.unwrap();
        for session in sessions {
            txn.put_session(&SessionRecord { expire: clock::unix_now().as_secs() as i64 - 1, ..session })
                .await
                .unwrap();
        }
        txn.commit().await.unwrap();
    });
    let ours = pair.fresh("ours");
    wait_until("the blocks are deleted", PATIENCE, || pair.block_count() == 0);
    ours.unmount(&pair.rig);
    let status = pair.juicefs(&["status", &pair.url()]);
    assert!(status.contains("\"Sessions\": []") || status.contains("\"Sessions\": null"), "{status}");
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn a_reader_cannot_remove_and_the_clients_own_files_stay() {
    let Some(pair) = Pair::with_tree("kept", &[], small_tree) else { return };
    let (ours, reader) = (pair.fresh("ours"), pair.shoal_mount("reader", &[]));
    let errno = |result: std::io::Result<()>| result.expect_err("refused").raw_os_error().unwrap();
    assert_eq!(errno(fs::remove_file(reader.point.join("top"))), libc::EROFS);
    for name in [".stats", ".config"] {
        assert_eq!(errno(fs::remove_file(ours.point.join(name))), libc::EPERM);
        assert_eq!(errno(fs::rename(ours.point.join("top"), ours.point.join(name))), libc::EPERM);
    }
    assert_eq!(errno(fs::remove_dir(ours.point.join("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(ours.point.join(".trash"))), libc::EPERM);
    let mut top = OpenOptions::new().read(true).open(ours.point.join("top")).unwrap();
    fs::remove_file(ours.point.join("top")).unwrap();
    let mut content = Vec::new();
    top.read_to_end(&mut content).unwrap();
    assert_eq!(content, seeded_bytes(1, 1), "in the trash it is read too");
    drop(top);
    ours.unmount(&pair.rig);
    reader.unmount(&pair.rig);
}
