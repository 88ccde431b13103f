//! A tree with everything a POSIX file system can hold, and every way its files can have been written.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use shoal_testkit::{Rng, Tree, seeded_bytes};

/// Length of the chunks JuiceFS cuts files in.
pub const CHUNK: u64 = 64 << 20;

/// Regular files besides those of the random tree: see [`write`].
const EMPTY_FILES: usize = 260;

/// What a tree is made of.
pub struct Everything {
    pub seed: u64,
    /// Regular files of the random part.
    pub files: usize,
    /// Size of its largest file.
    pub file_bytes_max: u64,
    /// Length of the sparse file; it holds about 70 KB of data.
    pub sparse_bytes: u64,
}

impl Everything {
    /// 800 random files and 260 empty ones; the sparse file reaches into its second chunk.
    pub fn new(seed: u64) -> Everything {
        Everything { seed, files: 800, file_bytes_max: 200 << 10, sparse_bytes: CHUNK + (1 << 20) }
    }

    /// Regular files at least.
    pub fn files_min(&self) -> usize {
        self.files + EMPTY_FILES
    }

    /// Makes the tree in the existing directory `root`.
    pub fn write(&self, root: &Path) {
        println!("tree of seed {}", self.seed);
        let random = root.join("random");
        fs::create_dir(&random).unwrap();
        let tree = Tree::new(self.seed).files(self.files).file_bytes_max(self.file_bytes_max);
        tree.with_xattrs().with_owners().write(&random).unwrap();
        let part = |name: &str| {
            let path = root.join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        written_in_many_ways(&part("written"), self.seed, self.sparse_bytes);
        odd_names(&part("names"));
        special_files(&part("special"));
        links(&part("links"));
        attributes(&part("attributes"));
        renamed_and_removed(&part("changed"));
        crowded(&part("crowded"));
        deep(&part("deep"));
    }
}

fn bytes(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}

/// Appends, overwrites, truncations, holes and copies.
fn written_in_many_ways(dir: &Path, seed: u64, sparse_bytes: u64) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    for round in 0..25 {
        let mut file = OpenOptions::new().create(true).append(true).open(dir.join("appended")).unwrap();
        let len = rng.index(9000) + 1;
        file.write_all(&seeded_bytes(seed + round, len)).unwrap();
    }
    let fsynced = File::create(dir.join("overwritten")).unwrap();
    fsynced.write_all_at(&seeded_bytes(seed, 300_000), 0).unwrap();
    for round in 0..40 {
        let len = rng.index(30_000) + 1;
        fsynced.write_all_at(&seeded_bytes(seed + round, len), rng.below(300_000)).unwrap();
        fsynced.sync_data().unwrap();
    }
    let backwards = File::create(dir.join("backwards")).unwrap();
    for at in (0..20u64).rev() {
        backwards.write_all_at(&seeded_bytes(seed + at, 5000), at * 5000).unwrap();
    }
    let cut = File::create(dir.join("cut-and-grown")).unwrap();
    cut.write_all_at(&seeded_bytes(seed, 300_000), 0).unwrap();
    cut.sync_data().unwrap();
    cut.set_len(1000).unwrap();
    cut.set_len(200_000).unwrap();
    cut.write_all_at(b"an island", 150_000).unwrap();
    drop(cut);
    OpenOptions::new().write(true).truncate(true).open(dir.join("cut-and-grown")).unwrap().set_len(77_777).unwrap();
    let only_hole = File::create(dir.join("only-a-hole")).unwrap();
    only_hole.set_len(123_457).unwrap();
    sparse(&dir.join("sparse"), seed, sparse_bytes);
    punched(&dir.join("punched"), seed);
    copied(&dir.join("overwritten"), &dir.join("copied"));
    fs::File::create(dir.join("empty")).unwrap();
}

/// Data at the start, across every chunk border, and at the end.
fn sparse(path: &Path, seed: u64, len: u64) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(&seeded_bytes(seed, 5000), 10).unwrap();
    for border in (1..len.div_ceil(CHUNK)).map(|chunk| chunk * CHUNK) {
        file.write_all_at(&seeded_bytes(seed + border, 50_000), border - 30_000).unwrap();
    }
    file.write_all_at(b"end", len - 3).unwrap();
}

/// Holes made after the data; where the file system has no fallocate(2) the file stays whole.
fn punched(path: &Path, seed: u64) {
    let file = File::create(path).unwrap();
    file.write_all_at(&seeded_bytes(seed, 400_000), 0).unwrap();
    file.sync_data().unwrap();
    for (offset, len) in [(4096, 65_536), (200_001, 77), (390_000, 50_000)] {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, offset, len).unwrap();
    }
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 300_000, 1000).unwrap();
}

/// copy_file_range(2): in JuiceFS the copy shares the source's blocks.
fn copied(from: &Path, to: &Path) {
    let (source, target) = (File::open(from).unwrap(), File::create(to).unwrap());
    target.write_all_at(&[7; 20_000], 0).unwrap();
    let (mut off_in, mut off_out) = (100_000, 5000);
    while off_in < 180_000 {
        let want = (180_000 - off_in) as usize;
        let done = rustix::fs::copy_file_range(&source, Some(&mut off_in), &target, Some(&mut off_out), want).unwrap();
        assert!(done > 0);
    }
}

fn odd_names(dir: &Path) {
    let longest = vec![b'x'; 255];
    let names: [&[u8]; 18] = [
        b"new\nline",
        b" ",
        b"  two spaces  ",
        b"tab\there",
        b"-rf",
        b"--",
        b"*?[a-z]",
        b"a\\b",
        b"%41%2f",
        b"\xff\xfe",
        b"caf\xe9",
        "e\u{301}".as_bytes(),
        "\u{e9}".as_bytes(),
        "\u{1f41f}".as_bytes(),
        b".hidden",
        b"...",
        b"\x01\x7f",
        &longest,
    ];
    for (number, name) in names.iter().enumerate() {
        fs::write(dir.join(bytes(name)), format!("file {number}")).unwrap();
    }
    let inside = dir.join(bytes(b"dir \xff\n"));
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join(bytes(&[0x80; 255])), b"deep odd name").unwrap();
    // The volume's root alone reserves these.
    for name in [".trash", ".stats", ".config", ".accesslog"] {
        fs::write(dir.join(name), name).unwrap();
    }
}

fn special_files(dir: &Path) {
    let make = |name: &str, kind, mode, device| {
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(mode), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0o640, 0);
    make("socket", FileType::Socket, 0o755, 0);
    make("null", FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3));
    make("loop", FileType::BlockDevice, 0o660, rustix::fs::makedev(7, 9));
    make("large-numbers", FileType::CharacterDevice, 0o600, rustix::fs::makedev(0xabc, 0x4_5678));
}

fn links(dir: &Path) {
    fs::write(dir.join("file"), "shared by three names").unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::hard_link(dir.join("file"), dir.join("second")).unwrap();
    fs::hard_link(dir.join("file"), dir.join("sub/third")).unwrap();
    symlink("file", dir.join("relative")).unwrap();
    symlink("/nowhere/at/all", dir.join("dangling")).unwrap();
    symlink("sub", dir.join("to-directory")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink(bytes(b"not \xff utf-8\n"), dir.join("bytes")).unwrap();
    symlink(bytes(&[b't'; 4000]), dir.join("long")).unwrap();
    fs::hard_link(dir.join("relative"), dir.join("link-to-link")).unwrap();
    rustix::fs::mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::hard_link(dir.join("fifo"), dir.join("fifo-again")).unwrap();
}

/// Modes, owners, times and extended attributes at their limits.
fn attributes(dir: &Path) {
    for mode in [0o000, 0o001, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o7777] {
        for kind in ["file", "dir"] {
            let path = dir.join(format!("{kind}-{mode:04o}"));
            if kind == "dir" {
                fs::create_dir(&path).unwrap()
            } else {
                fs::write(&path, "x").unwrap()
            }
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
        }
    }
    for (name, secs, nanos) in
        [("epoch", 0, 0), ("last-nano", 1_234_567_890, 999_999_999), ("year-2100", 4_102_444_800, 1)]
    {
        let path = dir.join(name);
        fs::write(&path, name).unwrap();
        set_time(&path, secs, nanos);
    }
    let path = dir.join("owner");
    fs::write(&path, "x").unwrap();
    rustix::fs::chownat(CWD, &path, Some(Uid::from_raw(4_000_000_000)), Some(Gid::from_raw(65_534)), AtFlags::empty())
        .unwrap();
    let path = dir.join("xattrs");
    fs::write(&path, "x").unwrap();
    let every: Vec<u8> = (0..=255).collect();
    let set = |path: &PathBuf, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    set(&path, "user.empty", b"");
    set(&path, "user.bytes", &every);
    set(&path, "user.long", &seeded_bytes(1, 2000));
    set(&path, &format!("user.{}", "n".repeat(250)), b"longest name");
    set(&path, "trusted.t", b"root's");
    let link = dir.join("link");
    symlink("xattrs", &link).unwrap();
    set(&link, "trusted.of-a-link", b"x");
    let sub = dir.join("directory");
    fs::create_dir(&sub).unwrap();
    set(&sub, "user.of-a-directory", b"y");
    set_time(&sub, 1_000_000_000, 5);
}

fn set_time(path: &Path, secs: i64, nanos: i64) {
    let at = Timespec { tv_sec: secs, tv_nsec: nanos as _ };
    let times = Timestamps { last_access: at, last_modification: at };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Files and directories that moved, replaced others, or went to the trash.
fn renamed_and_removed(dir: &Path) {
    for name in ["a", "b", "c", "d", "gone"] {
        fs::write(dir.join(name), name.repeat(5000)).unwrap();
    }
    fs::rename(dir.join("a"), dir.join("moved")).unwrap();
    fs::rename(dir.join("b"), dir.join("c")).unwrap();
    fs::remove_file(dir.join("gone")).unwrap();
    fs::create_dir_all(dir.join("from/x/y")).unwrap();
    fs::create_dir(dir.join("to")).unwrap();
    fs::write(dir.join("from/x/y/f"), "f").unwrap();
    fs::rename(dir.join("from/x"), dir.join("to/x")).unwrap();
    fs::create_dir(dir.join("removed")).unwrap();
    fs::remove_dir(dir.join("removed")).unwrap();
}

/// More names than one answer of readdir(2) holds.
fn crowded(dir: &Path) {
    for number in 0..EMPTY_FILES {
        File::create(dir.join(format!("{number:04}-{}", "n".repeat(200)))).unwrap();
    }
}

fn deep(dir: &Path) {
    let path = dir.join(vec!["d"; 60].join("/"));
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("bottom"), "60 levels down").unwrap();
}
