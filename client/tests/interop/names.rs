//! Names and attributes that we change: the same calls through both clients, at once on one volume, give the same answers and the same
//! trees; JuiceFS finds nothing wrong with what we made.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use shoal_testkit::{Rng, Snapshot};

use super::pair::{Keys, Pair, Recipe, look};

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Calls of one random history.
const CALLS: usize = 500;

/// Random calls in a directory, the same for the same seed as long as the answers are the same.
struct History {
    rng: Rng,
    root: PathBuf,
    /// Paths that may exist, below the root.
    paths: Vec<PathBuf>,
}

impl History {
    fn new(root: &Path, seed: u64) -> History {
        fs::create_dir(root).unwrap();
        rustix::fs::chmod(root, Mode::from_raw_mode(0o755)).unwrap();
        History { rng: Rng::new(seed), root: root.to_owned(), paths: vec![PathBuf::new()] }
    }

    /// A path that was made, or was to be made.
    fn any(&mut self) -> PathBuf {
        let index = self.rng.index(self.paths.len());
        self.root.join(&self.paths[index])
    }

    /// A path for something new; sometimes one that exists, or whose parent is no directory.
    fn fresh(&mut self) -> PathBuf {
        let index = self.rng.index(self.paths.len());
        let name = match self.rng.index(20) {
            0 => vec![b'n'; 255],
            1 => vec![b'n'; 256],
            2 => format!("\u{1f41f} {}", self.rng.index(9)).into_bytes(),
            3 => vec![0xff, b'\n', b'0' + self.rng.index(9) as u8],
            _ => format!("n{}", self.rng.index(60)).into_bytes(),
        };
        let path = self.paths[index].join(OsStr::from_bytes(&name));
        self.paths.push(path.clone());
        self.root.join(path)
    }

    /// One call: what it was, and its answer.
    fn step(&mut self) -> (String, Option<i32>) {
        let known = self.paths.len();
        let (what, path, done) = match self.rng.index(20) {
            0..=3 => self.make_file(),
            4..=7 => self.make_directory(),
            8 => self.make_symlink(),
            9 => self.make_node(),
            10..=11 => self.make_link(),
            12..=13 => self.set_mode(),
            14 => self.set_owner(),
            15 => self.set_times(),
            16..=18 => self.set_xattr(),
            _ => self.remove_xattr(),
        };
        if done.is_err() && self.rng.index(10) > 0 {
            self.paths.truncate(known);
        }
        let path = path.strip_prefix(&self.root).unwrap().to_owned();
        (format!("{what} {path:?}"), done.err().map(|error| error.raw_os_error().expect("an answer of the kernel")))
    }

    fn make_file(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, exclusive) = (self.fresh(), self.rng.index(2) == 0);
        let mut options = OpenOptions::new();
        options.write(true);
        let done = if exclusive { options.create_new(true).open(&path) } else { options.create(true).open(&path) };
        (format!("open exclusive={exclusive}"), path, done.map(drop))
    }

    fn make_directory(&mut self) -> (String, PathBuf, io::Result<()>) {
        let path = self.fresh();
        let done = fs::create_dir(&path);
        ("mkdir".into(), path, done)
    }

    fn make_symlink(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, target) = (self.fresh(), "t".repeat(1 + self.rng.index(4095)));
        let done = symlink(&target, &path);
        (format!("symlink {} bytes", target.len()), path, done)
    }

    fn make_node(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, device) = (self.fresh(), rustix::fs::makedev(1 + self.rng.index(4000) as u32, 3));
        let kinds = [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice];
        let kind = kinds[self.rng.index(4)];
        let done = rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o2664), device);
        (format!("mknod {kind:?}"), path, done.map_err(io::Error::from))
    }

    fn make_link(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (from, path) = (self.any(), self.fresh());
        let done = fs::hard_link(&from, &path);
        (format!("link {:?} to", from.strip_prefix(&self.root).unwrap()), path, done)
    }

    fn set_mode(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, mode) = (self.any(), self.rng.index(0o10000) as u32 | 0o700);
        // Modes of what a symbolic link points at are not of this tree.
        let done = match fs::symlink_metadata(&path).map(|meta| meta.is_symlink()) {
            Ok(true) => Ok(()),
            _ => rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).map_err(io::Error::from),
        };
        (format!("chmod {mode:o}"), path, done)
    }

    fn set_owner(&mut self) -> (String, PathBuf, io::Result<()>) {
        let path = self.any();
        let uid = (self.rng.index(2) == 0).then(|| Uid::from_raw(self.rng.index(3000) as u32));
        let gid = (self.rng.index(2) == 0).then(|| Gid::from_raw(self.rng.index(3000) as u32));
        let done = rustix::fs::chownat(CWD, &path, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        (format!("chown {uid:?} {gid:?}"), path, done.map_err(io::Error::from))
    }

    fn set_times(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, secs) = (self.any(), self.rng.below(4_000_000_000) as i64);
        let at = Timespec { tv_sec: secs, tv_nsec: self.rng.index(1_000_000_000) as _ };
        let times = Timestamps { last_access: at, last_modification: at };
        let done = rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
        (format!("utimensat {secs}"), path, done.map_err(io::Error::from))
    }

    fn xattr_name(&mut self) -> String {
        match self.rng.index(8) {
            0 => format!("user.{}", "n".repeat(250)),
            1 => "system.posix_acl_access".to_owned(),
            _ => format!("trusted.{}", self.rng.index(4)),
        }
    }

    fn set_xattr(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, name) = (self.any(), self.xattr_name());
        let flags = [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE][self.rng.index(3)];
        let value = vec![b'v'; self.rng.index(3000)];
        let done = rustix::fs::lsetxattr(&path, &name, &value, flags);
        (format!("setxattr {name} {} bytes {flags:?}", value.len()), path, done.map_err(io::Error::from))
    }

    fn remove_xattr(&mut self) -> (String, PathBuf, io::Result<()>) {
        let (path, name) = (self.any(), self.xattr_name());
        let done = rustix::fs::lremovexattr(&path, &name);
        (format!("removexattr {name}"), path, done.map_err(io::Error::from))
    }
}

/// A tree without the times that two clients cannot share.
fn timeless(mut tree: Snapshot) -> Snapshot {
    tree.entries.values_mut().for_each(|entry| entry.mtime = (0, 0));
    tree
}

#[test]
fn the_same_calls_get_the_same_answers_and_make_the_same_trees() {
    let Some(pair) = Pair::new("names") else { return };
    compare_histories(&pair, 4);
}

/// Lets both clients do the same, as often as there are `histories`.
pub fn compare_histories(pair: &Pair, histories: u64) {
    pair.juicefs_formats(&PLAIN, &[]);
    let theirs = pair.juicefs_mount("theirs", &[]);
    let ours = pair.shoal_mount("ours", &["--writable"]);
    for seed in 1..=histories {
        println!("history {seed}");
        let name = |who: &str| format!("{who}-{seed}");
        let mut model = History::new(&theirs.point.join(name("theirs")), seed);
        let mut tested = History::new(&ours.point.join(name("ours")), seed);
        for number in 0..CALLS {
            let (expected, seen) = (model.step(), tested.step());
            assert_eq!(expected, seen, "call {number} of history {seed}");
        }
        let (expected, seen) = (timeless(look(&model.root)), timeless(look(&tested.root)));
        assert!(expected.entries.len() > 50, "{} entries", expected.entries.len());
        expected.assert_same(&seen, &format!("history {seed}"));
    }
    let made = look(&ours.point);
    ours.unmount(&pair.rig);
    theirs.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    let theirs = pair.juicefs_mount("again", &[]);
    made.assert_same(&look(&theirs.point), "what we showed, through JuiceFS");
    theirs.unmount(&pair.rig);
}

#[test]
fn a_mount_that_writes_is_a_session_until_it_ends() {
    let Some(pair) = Pair::new("names") else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    let sessions = || pair.juicefs(&["status", &pair.url()]);
    let ours = pair.shoal_mount("ours", &["--writable"]);
    let (point, said) = (ours.point.display().to_string(), sessions());
    assert!(said.contains(&format!("\"MountPoint\": \"{point}\"")), "{said}");
    assert!(said.contains(&format!("\"ProcessID\": {}", ours.process.id())), "{said}");
    ours.unmount(&pair.rig);
    let said = sessions();
    assert!(!said.contains("MountPoint"), "{said}");
    let reader = pair.shoal_mount("reader", &[]);
    assert!(!sessions().contains("MountPoint"), "a reader is no session");
    assert_eq!(fs::create_dir(reader.point.join("d")).unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    reader.unmount(&pair.rig);
}

#[test]
fn reserved_places_take_no_names() {
    let Some(pair) = Pair::new("names") else { return };
    pair.juicefs_formats(&PLAIN, &[]);
    let ours = pair.shoal_mount("ours", &["--writable"]);
    let answer = |done: io::Result<()>| done.expect_err("refused").raw_os_error().unwrap();
    let (not_permitted, exists) = (Errno::PERM.raw_os_error(), Errno::EXIST.raw_os_error());
    assert_eq!(answer(fs::create_dir(ours.point.join(".trash/d"))), not_permitted);
    assert_eq!(answer(fs::create_dir(ours.point.join(".control"))), not_permitted);
    assert_eq!(answer(fs::create_dir(ours.point.join(".trash"))), exists);
    assert_eq!(answer(fs::create_dir(ours.point.join(".config"))), exists);
    assert_eq!(answer(fs::create_dir(ours.point.join(".accesslog"))), exists);
    let chmod =
        |name: &str| rustix::fs::chmod(ours.point.join(name), Mode::from_raw_mode(0o777)).map_err(io::Error::from);
    assert_eq!(answer(chmod(".config")), not_permitted);
    assert_eq!(answer(chmod(".trash")), not_permitted);
    assert_eq!(answer(fs::hard_link(ours.point.join(".stats"), ours.point.join("x"))), not_permitted);
    fs::create_dir(ours.point.join("d")).unwrap();
    fs::create_dir(ours.point.join("d/.trash")).unwrap();
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}
