//! What a directory tree must hold after a series of operations, and what each operation must answer.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::op::{Op, xattr};
use crate::interop::pair::look;
use crate::rig::mount::read;

/// Names below a root, and the files they are of. Paths are relative; the root itself is the empty one and has no name here.
#[derive(Debug, Default)]
pub struct Model {
    names: BTreeMap<PathBuf, Node>,
    files: BTreeMap<u64, Content>,
    made: u64,
}

/// What a name is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    /// A file by its number: several names may be of one.
    File(u64),
    Symlink(PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    xattr: Option<Vec<u8>>,
}

impl Model {
    /// The paths of names of which `wanted` is true.
    pub fn paths(&self, wanted: impl Fn(&Node) -> bool) -> Vec<PathBuf> {
        self.names.iter().filter(|(_, node)| wanted(node)).map(|(path, _)| path.clone()).collect()
    }

    pub fn is_taken(&self, path: &Path) -> bool {
        self.names.contains_key(path)
    }

    /// Length of the file at `path`.
    pub fn len(&self, path: &Path) -> u64 {
        self.files[&self.file(path)].bytes.len() as u64
    }

    /// Number of the file at `path`.
    pub fn file(&self, path: &Path) -> u64 {
        match self.names.get(path) {
            Some(Node::File(number)) => *number,
            other => panic!("{} is no file but {other:?}", path.display()),
        }
    }

    /// Bytes of the file at `path`.
    pub fn bytes(&self, path: &Path) -> &[u8] {
        &self.files[&self.file(path)].bytes
    }

    fn has_entries(&self, path: &Path) -> bool {
        self.names.keys().any(|name| name.parent() == Some(path))
    }

    /// What `op` must answer.
    pub fn answer(&self, op: &Op) -> Result<(), Errno> {
        let full = match op {
            Op::RemoveDirectory(path) => self.has_entries(path),
            Op::Rename { from, to } => from != to && self.has_entries(to),
            _ => false,
        };
        if full { Err(Errno::NOTEMPTY) } else { Ok(()) }
    }

    /// Paths that may be one thing or another if `op` was begun and its answer is not known.
    pub fn touched(&self, op: &Op) -> Vec<PathBuf> {
        let (one, other) = op.paths();
        let files: Vec<u64> = [Some(one), other]
            .into_iter()
            .flatten()
            .filter_map(|path| self.names.get(path))
            .filter_map(|node| if let Node::File(number) = node { Some(*number) } else { None })
            .collect();
        let mut touched = self.paths(|node| matches!(node, Node::File(number) if files.contains(number)));
        touched.extend([Some(one), other].into_iter().flatten().map(Path::to_owned));
        touched
    }

    /// Knows nothing of `path` any more, nor of what is below it.
    pub fn forget(&mut self, path: &Path) {
        self.names.retain(|name, _| !name.starts_with(path));
        self.drop_nameless();
    }

    fn drop_nameless(&mut self) {
        let names = &self.names;
        self.files.retain(|number, _| names.values().any(|node| *node == Node::File(*number)));
    }

    /// `op` was done.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path) => {
                self.made += 1;
                self.files.insert(self.made, Content::default());
                self.names.insert(path.clone(), Node::File(self.made));
            }
            Op::Write { path, at, data } => self.write(path, *at, &data.bytes()),
            Op::Append { path, data } => self.write(path, self.len(path), &data.bytes()),
            Op::Truncate { path, len } => self.content(path).bytes.resize(*len as usize, 0),
            Op::Punch { path, at, len } => {
                let bytes = &mut self.content(path).bytes;
                let end = ((at + len) as usize).min(bytes.len());
                bytes[(*at as usize).min(end)..end].fill(0);
            }
            Op::Copy { from, at, to, to_at, len } => {
                let copied = self.bytes(from)[*at as usize..(at + len) as usize].to_vec();
                self.write(to, *to_at, &copied);
            }
            Op::SetXattr { path, value } => self.content(path).xattr = Some(value.clone()),
            Op::MakeDirectory(path) => drop(self.names.insert(path.clone(), Node::Directory)),
            Op::Symlink { path, target } => drop(self.names.insert(path.clone(), Node::Symlink(target.clone()))),
            Op::Link { from, to } => drop(self.names.insert(to.clone(), self.names[from].clone())),
            Op::Remove(path) | Op::RemoveDirectory(path) => drop(self.names.remove(path)),
            Op::Rename { from, to } => self.rename(from, to),
        }
        self.drop_nameless();
    }

    fn content(&mut self, path: &Path) -> &mut Content {
        let number = self.file(path);
        self.files.get_mut(&number).expect("a name is of a file that is there")
    }

    fn write(&mut self, path: &Path, at: u64, data: &[u8]) {
        let (start, end) = (at as usize, at as usize + data.len());
        let bytes = &mut self.content(path).bytes;
        if !data.is_empty() {
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        // Two names of one file stay as they are (rename(2)).
        if matches!((&self.names[from], self.names.get(to)), (Node::File(one), Some(Node::File(other))) if one == other)
        {
            return;
        }
        let moved: Vec<PathBuf> = self.names.keys().filter(|name| name.starts_with(from)).cloned().collect();
        for name in moved {
            let node = self.names.remove(&name).expect("it was just seen");
            let below = name.strip_prefix(from).expect("it begins so");
            let path = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            self.names.insert(path, node);
        }
    }

    /// Asserts that the tree at `root` is this one, as `who` sees it.
    #[track_caller]
    pub fn assert_at(&self, root: &Path, who: &str) {
        let mut found = look(root).entries;
        found.remove(Path::new(""));
        let (names, known): (Vec<&PathBuf>, Vec<&PathBuf>) = (found.keys().collect(), self.names.keys().collect());
        assert_eq!(names, known, "names at {} through {who}", root.display());
        for (path, node) in &self.names {
            self.assert_one(&root.join(path), node, who);
        }
    }

    #[track_caller]
    fn assert_one(&self, path: &Path, node: &Node, who: &str) {
        let shown = format!("{} through {who}", path.display());
        let meta = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        match node {
            Node::Directory => assert!(meta.is_dir(), "{shown} is a directory"),
            Node::Symlink(target) => assert_eq!(std::fs::read_link(path).expect("a link"), *target, "{shown}"),
            Node::File(number) => {
                let content = &self.files[number];
                assert_eq!(meta.len(), content.bytes.len() as u64, "length of {shown}");
                if let Some(at) = first_difference(&read(path), &content.bytes) {
                    panic!("{shown}: another byte at {at} of {}", content.bytes.len());
                }
                assert_eq!(xattr(path), content.xattr, "xattr of {shown}");
                let links = self.names.values().filter(|other| *other == node).count();
                // A name that lies in the trash counts too.
                assert!(meta.nlink() >= links as u64, "{} links of {shown}, not {links}", meta.nlink());
            }
        }
    }
}

pub fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let differ = one.iter().zip(other).position(|(a, b)| a != b);
    differ.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))
}
