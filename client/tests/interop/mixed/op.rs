//! One operation on a tree: picked at random, and done through a mount.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, XattrFlags, copy_file_range, fallocate, lgetxattr, lsetxattr};
use rustix::io::Errno;
use shoal_testkit::{Rng, seeded_bytes};

use super::model::{Model, Node};

/// Longest file: some blocks of 64 KiB.
const LENGTH_MAX: u64 = 600_000;
/// Longest piece written at once.
const PIECE_MAX: u64 = 150_000;
/// Names below one root, from which on more is removed than made.
const NAMES_MAX: usize = 60;
const XATTR: &str = "user.mixed";

/// Bytes that a seed tells.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub seed: u64,
    pub len: u64,
}

impl Data {
    fn random(rng: &mut Rng) -> Data {
        Data { seed: rng.next_u64(), len: 1 + rng.below(PIECE_MAX) }
    }

    pub fn bytes(self) -> Vec<u8> {
        seeded_bytes(self.seed, self.len as usize)
    }
}

/// What can be done to a tree. Paths are relative to its root.
#[derive(Debug, Clone)]
pub enum Op {
    Create(PathBuf),
    Write { path: PathBuf, at: u64, data: Data },
    Append { path: PathBuf, data: Data },
    Truncate { path: PathBuf, len: u64 },
    Punch { path: PathBuf, at: u64, len: u64 },
    Copy { from: PathBuf, at: u64, to: PathBuf, to_at: u64, len: u64 },
    SetXattr { path: PathBuf, value: Vec<u8> },
    MakeDirectory(PathBuf),
    Symlink { path: PathBuf, target: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
    RemoveDirectory(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
}

/// When what was written is told to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// By closing the file.
    Close,
    /// By fsync(2) too.
    Fsync,
}

impl Op {
    /// One that makes sense for `model`.
    pub fn random(model: &Model, rng: &mut Rng) -> Op {
        loop {
            let made = match rng.below(100) {
                0..12 => Op::new_name(model, rng).map(Op::Create),
                12..17 => Op::new_name(model, rng).map(Op::MakeDirectory),
                17..20 => Op::new_name(model, rng).map(|path| Op::Symlink { path, target: "to/there".into() }),
                20..25 => Op::link(model, rng),
                25..75 => Op::on_a_file(model, rng),
                75..87 => Op::rename(model, rng),
                _ => Op::removal(model, rng),
            };
            if let Some(op) = made {
                return op;
            }
        }
    }

    /// A path in some directory that nothing has, unless there are many.
    fn new_name(model: &Model, rng: &mut Rng) -> Option<PathBuf> {
        let mut directories = model.paths(|node| *node == Node::Directory);
        directories.push(PathBuf::new());
        let path = rng.pick(&directories).join(format!("n{}", rng.below(200)));
        let is_deep = path.components().count() > 4;
        let is_full = model.paths(|_| true).len() >= NAMES_MAX;
        (!is_deep && !is_full && !model.is_taken(&path)).then_some(path)
    }

    fn some(model: &Model, rng: &mut Rng, wanted: impl Fn(&Node) -> bool) -> Option<PathBuf> {
        let paths = model.paths(wanted);
        (!paths.is_empty()).then(|| rng.pick(&paths).clone())
    }

    fn some_file(model: &Model, rng: &mut Rng) -> Option<PathBuf> {
        Op::some(model, rng, |node| matches!(node, Node::File(_)))
    }

    fn link(model: &Model, rng: &mut Rng) -> Option<Op> {
        Some(Op::Link { from: Op::some_file(model, rng)?, to: Op::new_name(model, rng)? })
    }

    fn on_a_file(model: &Model, rng: &mut Rng) -> Option<Op> {
        let path = Op::some_file(model, rng)?;
        let len = model.len(&path);
        Some(match rng.below(50) {
            0..20 => Op::Write { at: rng.below(LENGTH_MAX - PIECE_MAX), data: Data::random(rng), path },
            20..28 if len < LENGTH_MAX => Op::Append { data: Data::random(rng), path },
            20..34 => Op::Truncate { len: rng.below(LENGTH_MAX), path },
            34..40 => Op::Punch { at: rng.below(LENGTH_MAX), len: 1 + rng.below(PIECE_MAX), path },
            40..45 => {
                let mut value = vec![0; rng.index(100)];
                rng.fill(&mut value);
                Op::SetXattr { value, path }
            }
            _ => {
                let to = Op::some_file(model, rng)?;
                if model.file(&to) == model.file(&path) || len == 0 {
                    return None;
                }
                let at = rng.below(len);
                let len = 1 + rng.below((len - at).min(PIECE_MAX));
                Op::Copy { from: path, at, to, to_at: rng.below(LENGTH_MAX - PIECE_MAX), len }
            }
        })
    }

    /// To a new name, or over one of the same kind; never into itself.
    fn rename(model: &Model, rng: &mut Rng) -> Option<Op> {
        let from = Op::some(model, rng, |_| true)?;
        let is_directory = model.paths(|node| *node == Node::Directory).contains(&from);
        let to = match rng.chance(40) {
            true => Op::some(model, rng, |node| (*node == Node::Directory) == is_directory)?,
            false => Op::new_name(model, rng)?,
        };
        let is_inside = to.starts_with(&from) || from.starts_with(&to);
        (from == to || !is_inside).then_some(Op::Rename { from, to })
    }

    fn removal(model: &Model, rng: &mut Rng) -> Option<Op> {
        let path = Op::some(model, rng, |_| true)?;
        let is_directory = model.paths(|node| *node == Node::Directory).contains(&path);
        Some(if is_directory { Op::RemoveDirectory(path) } else { Op::Remove(path) })
    }

    /// The path it changes, and the other one.
    pub fn paths(&self) -> (&Path, Option<&Path>) {
        match self {
            Op::Create(path) | Op::MakeDirectory(path) | Op::Remove(path) | Op::RemoveDirectory(path) => (path, None),
            Op::Write { path, .. }
            | Op::Append { path, .. }
            | Op::Truncate { path, .. }
            | Op::Punch { path, .. }
            | Op::SetXattr { path, .. }
            | Op::Symlink { path, .. } => (path, None),
            Op::Copy { from, to, .. } | Op::Link { from, to } | Op::Rename { from, to } => (from, Some(to)),
        }
    }

    /// Does it to the tree at `root`.
    pub fn perform(&self, root: &Path, sync: Sync) -> io::Result<()> {
        let at = |path: &Path| root.join(path);
        match self {
            Op::Create(path) => OpenOptions::new().write(true).create_new(true).open(at(path)).map(drop),
            Op::Write { path, at: offset, data } => {
                changed(&at(path), sync, |file| file.write_all_at(&data.bytes(), *offset))
            }
            Op::Append { path, data } => {
                let mut file = OpenOptions::new().append(true).open(at(path))?;
                file.write_all(&data.bytes())?;
                kept(&file, sync)
            }
            Op::Truncate { path, len } => changed(&at(path), sync, |file| file.set_len(*len)),
            Op::Punch { path, at: offset, len } => changed(&at(path), sync, |file| {
                Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, *offset, *len)?)
            }),
            Op::Copy { from, at: offset, to, to_at, len } => {
                let source = File::open(at(from))?;
                changed(&at(to), sync, |file| copy(&source, *offset, file, *to_at, *len))
            }
            Op::SetXattr { path, value } => Ok(lsetxattr(at(path), XATTR, value, XattrFlags::empty())?),
            Op::MakeDirectory(path) => fs::create_dir(at(path)),
            Op::Symlink { path, target } => symlink(target, at(path)),
            Op::Link { from, to } => fs::hard_link(at(from), at(to)),
            Op::Remove(path) => fs::remove_file(at(path)),
            Op::RemoveDirectory(path) => fs::remove_dir(at(path)),
            Op::Rename { from, to } => fs::rename(at(from), at(to)),
        }
    }
}

fn changed(path: &Path, sync: Sync, change: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    change(&file)?;
    kept(&file, sync)
}

/// What close(2) answers, std does not tell; fsync(2) on this handle would have answered the same.
fn kept(file: &File, sync: Sync) -> io::Result<()> {
    if sync == Sync::Fsync { file.sync_all() } else { Ok(()) }
}

fn copy(source: &File, at: u64, file: &File, to_at: u64, len: u64) -> io::Result<()> {
    let (mut from, mut to, end) = (at, to_at, at + len);
    while from < end {
        let left = (end - from) as usize;
        if copy_file_range(source, Some(&mut from), file, Some(&mut to), left)? == 0 {
            return Err(io::Error::other("the copy ends early"));
        }
    }
    Ok(())
}

/// The attribute that [`Op::SetXattr`] sets.
pub fn xattr(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    match lgetxattr(path, XATTR, &mut value[..]) {
        Ok(len) => Some(value[..len].to_vec()),
        Err(Errno::NODATA) => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
