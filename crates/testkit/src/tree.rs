//! A random directory tree on a real path, made with ordinary system calls in an order a busy program might use.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::rng::{Rng, seeded_bytes};

/// Bytes written by one call, so that a large file arrives in several writes.
const WRITE_BYTES: u64 = 1 << 20;
/// Entries in one directory before new ones go deeper, on average.
const FILES_PER_DIRECTORY: u64 = 12;

/// A recipe for a tree; equal recipes make equal trees, times included.
#[derive(Debug, Clone)]
pub struct Tree {
    seed: u64,
    files: usize,
    file_bytes_max: u64,
    xattrs: bool,
    owners: bool,
}

/// What [`Tree::write`] made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Directories, the root not counted.
    pub directories: usize,
    /// Regular files, further names of one not counted.
    pub files: usize,
    /// Symbolic links, dangling ones included.
    pub symlinks: usize,
    /// Further names of files.
    pub hard_links: usize,
    /// Named pipes.
    pub fifos: usize,
    /// Writes over bytes that were written before.
    pub overwrites: usize,
    /// Ranges that were never written or cut off and grown again.
    pub holes: usize,
    /// Extended attributes.
    pub xattrs: usize,
    /// Sum of the files' sizes.
    pub bytes: u64,
}

impl Tree {
    /// A tree of 100 files of at most 256 KiB, without xattrs and with the caller as owner of everything.
    pub fn new(seed: u64) -> Tree {
        Tree { seed, files: 100, file_bytes_max: 256 << 10, xattrs: false, owners: false }
    }

    /// How many regular files.
    pub fn files(mut self, files: usize) -> Tree {
        self.files = files;
        self
    }

    /// The largest size of a file; most are much smaller, about one in fifty comes near it.
    pub fn file_bytes_max(mut self, bytes: u64) -> Tree {
        self.file_bytes_max = bytes;
        self
    }

    /// With `user.` xattrs on files and directories; the file system must support them.
    pub fn with_xattrs(mut self) -> Tree {
        self.xattrs = true;
        self
    }

    /// With owners and groups other than the caller's; needs root.
    pub fn with_owners(mut self) -> Tree {
        self.owners = true;
        self
    }

    /// Makes the tree in the existing directory `root`.
    pub fn write(&self, root: &Path) -> io::Result<TreeCounts> {
        let rng = Rng::new(self.seed);
        let mut maker = Maker {
            recipe: self,
            rng,
            directories: vec![root.to_owned()],
            files: Vec::new(),
            counts: TreeCounts::default(),
        };
        for number in 0..self.files {
            maker.one(number)?;
        }
        maker.finish()
    }
}

struct Maker<'a> {
    recipe: &'a Tree,
    rng: Rng,
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    counts: TreeCounts,
}

impl Maker<'_> {
    /// File `number` and, by chance, a directory, links or a pipe beside it.
    fn one(&mut self, number: usize) -> io::Result<()> {
        if self.rng.below(FILES_PER_DIRECTORY) == 0 {
            self.directory(number)?;
        }
        let path = self.new_path(&format!("f{number}"));
        self.file(&path)?;
        self.decorate(&path)?;
        if self.rng.chance(6) {
            let link = self.new_path(&format!("h{number}"));
            fs::hard_link(&path, link)?;
            self.counts.hard_links += 1;
        }
        self.files.push(path);
        if self.rng.chance(8) {
            self.symlink(number)?;
        }
        if self.rng.chance(1) {
            let path = self.new_path(&format!("p{number}"));
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0)?;
            self.set_time(&path)?;
            self.counts.fifos += 1;
        }
        Ok(())
    }

    /// Sets directory times last: making an entry in one changes them.
    fn finish(mut self) -> io::Result<TreeCounts> {
        for path in self.directories.split_off(1).into_iter().rev() {
            self.set_time(&path)?;
        }
        Ok(self.counts)
    }

    fn directory(&mut self, number: usize) -> io::Result<()> {
        let path = self.new_path(&format!("d{number}"));
        fs::create_dir(&path)?;
        let mode = *self.rng.pick(&[0o755, 0o700, 0o1777, 0o2775]);
        rustix::fs::chmod(&path, Mode::from(mode))?;
        if self.recipe.xattrs && self.rng.chance(30) {
            self.xattr(&path)?;
        }
        self.directories.push(path);
        self.counts.directories += 1;
        Ok(())
    }

    fn symlink(&mut self, number: usize) -> io::Result<()> {
        let path = self.new_path(&format!("l{number}"));
        let target = match self.rng.below(4) {
            0 => PathBuf::from(format!("missing-{number}")),
            1 => PathBuf::from(format!("/nowhere/{}", "x".repeat(self.rng.index(900) + 1))),
            _ => {
                let files = &self.files;
                PathBuf::from(self.rng.pick(files).file_name().unwrap_or_default())
            }
        };
        std::os::unix::fs::symlink(target, &path)?;
        self.set_time(&path)?;
        self.counts.symlinks += 1;
        Ok(())
    }

    /// A name that is now and then awkward: spaces, UTF-8, bytes that are no UTF-8, 255 bytes long.
    fn new_path(&mut self, stem: &str) -> PathBuf {
        let mut name = stem.as_bytes().to_vec();
        match self.rng.below(20) {
            0 => name.extend_from_slice(b" with spaces\tand tab"),
            1 => name.extend_from_slice("-\u{e9}\u{4e2d}\u{1f41f}".as_bytes()),
            2 => name.extend_from_slice(b"-\xff\xfe\x80"),
            3 => name.resize(255, b'n'),
            _ => name.extend_from_slice(b".bin"),
        }
        let directories = &self.directories;
        self.rng.pick(directories).join(OsString::from_vec(name))
    }

    fn size(&mut self) -> u64 {
        let max = self.recipe.file_bytes_max;
        match self.rng.below(100) {
            0..8 => 0,
            8..60 => self.rng.below(max.min(16 << 10) + 1),
            60..98 => self.rng.below(max / 4 + 1),
            _ => max - self.rng.below(max / 8 + 1),
        }
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut size = self.size();
        self.write_range(&file, 0, size)?;
        if self.rng.chance(15) {
            // A hole in the middle: bytes after it, none in it.
            let gap = self.rng.below(self.recipe.file_bytes_max / 4 + 1) + 1;
            let tail = self.rng.below(20_000) + 1;
            self.write_range(&file, size + gap, tail)?;
            size += gap + tail;
            self.counts.holes += 1;
        }
        if size > 0 && self.rng.chance(15) {
            // Cut off and grown again: what was there must read as zeros.
            let cut = self.rng.below(size);
            file.set_len(cut)?;
            size = cut + self.rng.below(size - cut + 1);
            file.set_len(size)?;
            self.counts.holes += 1;
        }
        drop(file);
        if size > 0 && self.rng.chance(30) {
            self.overwrite(path, size)?;
        }
        self.counts.files += 1;
        self.counts.bytes += size;
        Ok(())
    }

    /// Each round opens the file anew, as separate runs of a program would.
    fn overwrite(&mut self, path: &Path, size: u64) -> io::Result<()> {
        for _ in 0..=self.rng.below(4) {
            let file = OpenOptions::new().write(true).open(path)?;
            let start = self.rng.below(size);
            let len = self.rng.below(size - start) + 1;
            self.write_range(&file, start, len)?;
            file.sync_all()?;
            self.counts.overwrites += 1;
        }
        Ok(())
    }

    fn write_range(&mut self, file: &File, start: u64, len: u64) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let piece = WRITE_BYTES.min(len - done);
            let seed = self.rng.next_u64();
            // One piece in eight compresses well, as text and zeros do.
            let bytes = if seed.is_multiple_of(8) {
                vec![seed as u8; piece as usize]
            } else {
                seeded_bytes(seed, piece as usize)
            };
            file.write_all_at(&bytes, start + done)?;
            done += piece;
        }
        Ok(())
    }

    fn decorate(&mut self, path: &Path) -> io::Result<()> {
        if self.recipe.xattrs && self.rng.chance(20) {
            for _ in 0..=self.rng.below(3) {
                self.xattr(path)?;
            }
        }
        if self.recipe.owners && self.rng.chance(30) {
            let (uid, gid) =
                (Uid::from_raw(1000 + self.rng.below(5) as u32), Gid::from_raw(2000 + self.rng.below(5) as u32));
            rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let mode = *self.rng.pick(&[0o644, 0o600, 0o755, 0o444, 0o4755, 0o000]);
        rustix::fs::chmod(path, Mode::from(mode))?;
        self.set_time(path)
    }

    fn xattr(&mut self, path: &Path) -> io::Result<()> {
        let name = format!("user.test{}", self.counts.xattrs);
        let len = self.rng.index(200);
        let value = seeded_bytes(self.rng.next_u64(), len);
        rustix::fs::setxattr(path, name.as_str(), &value, XattrFlags::empty())?;
        self.counts.xattrs += 1;
        Ok(())
    }

    fn set_time(&mut self, path: &Path) -> io::Result<()> {
        // Between 2001 and 2033, with nanoseconds.
        let at = Timespec {
            tv_sec: 1_000_000_000 + self.rng.below(1_000_000_000) as i64,
            tv_nsec: self.rng.below(1_000_000_000) as _,
        };
        let times = Timestamps { last_access: at, last_modification: at };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TestDir, have_root, snapshot};

    #[test]
    fn equal_recipes_make_equal_trees_and_seeds_differ() {
        let recipe = Tree::new(42).files(60).file_bytes_max(40_000);
        let (one, two, other) = (TestDir::new("tree"), TestDir::new("tree"), TestDir::new("tree"));
        assert_eq!(recipe.write(one.path()).unwrap(), recipe.write(two.path()).unwrap());
        Tree::new(43).files(60).file_bytes_max(40_000).write(other.path()).unwrap();
        if !have_root() {
            return crate::skipped("reading files of mode 000 needs root");
        }
        let first = snapshot(one.path()).unwrap().without_directory_details();
        first.assert_same(&snapshot(two.path()).unwrap().without_directory_details(), "same seed");
        assert!(!first.differences(&snapshot(other.path()).unwrap()).is_empty());
    }

    #[test]
    fn a_tree_of_some_size_has_everything_it_promises() {
        let dir = TestDir::on_disk("tree");
        let mut recipe = Tree::new(7).files(200).file_bytes_max(30_000).with_xattrs();
        if have_root() {
            recipe = recipe.with_owners();
        }
        let counts = recipe.write(dir.path()).unwrap();
        assert_eq!(counts.files, 200);
        for (what, count) in [
            ("directories", counts.directories),
            ("symlinks", counts.symlinks),
            ("hard links", counts.hard_links),
            ("fifos", counts.fifos),
            ("overwrites", counts.overwrites),
            ("holes", counts.holes),
            ("xattrs", counts.xattrs),
        ] {
            assert!(count > 0, "no {what}");
        }
        if have_root() {
            let seen = snapshot(dir.path()).unwrap();
            assert_eq!(seen.bytes(), counts.bytes);
            assert!(seen.entries.values().any(|entry| entry.uid >= 1000));
        }
    }
}
